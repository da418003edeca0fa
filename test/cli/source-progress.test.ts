/** What a source says while it works: what it waits for, and where its data come from. */

import { describe, expect, it } from "vitest";
import {
  AwaitedPeers,
  broughtSentence,
  heldSentence,
  sourceProgress,
} from "../../src/cli/source-progress.ts";

type Report = Parameters<typeof sourceProgress>[0];
type Intake = NonNullable<Parameters<typeof sourceProgress>[2]>;

const nobody = { complete: 0, left: 0, behind: 0 };
const report = (members: Report["members"], readers: readonly number[] = []): Report =>
  ({
    neighbours: readers.map((each) => ({ readers: each })),
    traffic: { bytesToPeers: 2_048 },
    lagMs: 0,
    heldBackBy: undefined,
    members,
  }) as unknown as Report;
const intake = (sources: readonly object[]): Intake =>
  ({ sources, counters: { dataAccepted: 8_377 } }) as unknown as Intake;
const sent = { data: 5, bytes: 50 };

describe("a source that waits for peers", () => {
  it("says for how many, and who counts", () => {
    const { sentence, fields } = sourceProgress(
      report({ ...nobody, behind: 1 }),
      sent,
      undefined,
      new AwaitedPeers(3),
    );
    expect(sentence).toBe(
      "5 data, 50 B read, 2.0 KiB sent, no peer linked any more (1 was), waits for 2 more peers: " +
        "1 of 3 linked to this source so far, and peers behind others do not count",
    );
    expect(fields.waitsFor).toContain("2 more peers");
  });

  it("says nothing of it once they were there, whether they stayed or not", () => {
    const all = report({ complete: 1, left: 1, behind: 1 });
    expect(sourceProgress(all, sent, undefined, new AwaitedPeers(3)).sentence).toBe(
      "5 data, 50 B read, 2.0 KiB sent, no peer linked any more (3 were)",
    );
    const awaited = new AwaitedPeers(2);
    expect(awaited.sentence(report(nobody))).toContain("2 more peers");
    expect(awaited.sentence(report(nobody, [0, 1]))).toContain("1 more peer:");
    expect(awaited.sentence(report(nobody, [2]))).toBeUndefined();
    expect(awaited.sentence(report(nobody))).toBeUndefined();
    expect(new AwaitedPeers(0).sentence(report(nobody))).toBeUndefined();
  });
});

describe("a source that nobody takes its data of", () => {
  it("says what it holds, and how long still", () => {
    const holding = { ...report(nobody), holdLeftMs: 41_230 };
    const { sentence, fields } = sourceProgress(holding, sent, undefined, new AwaitedPeers(0));
    expect(sentence).toBe(
      "5 data, 50 B read, 2.0 KiB sent to 0 peers, " +
        "holds what no peer has for 41.2 s more (--hold-ms), then gives up",
    );
    expect(fields.holdLeftMs).toBe(41_230);
  });
});

describe("a source whose window waits for a peer", () => {
  const held = { peerId: "0123456789abcdef", behind: 20, byOthers: false, silentMs: 900 };

  it("says for whom, and for how long that one is silent", () => {
    const after = "held back by peer 01234567";
    expect(heldSentence(held)).toBe(after);
    expect(heldSentence({ ...held, byOthers: true })).toBe(
      `${after}, which is held back by others`,
    );
    expect(heldSentence({ ...held, silentMs: 8_900 })).toBe(`${after}, silent for 8 s`);
    expect(heldSentence({ ...held, byOthers: true, silentMs: 8_900 })).toBe(
      `${after}, which was held back by others when it was heard of 8 s ago`,
    );
  });
});

describe("a source that accepts data sources", () => {
  const linked = { sourceId: "a", linked: true, ended: false };
  const ended = { sourceId: "b", linked: false, ended: true };
  const gone = { sourceId: "pump-3", linked: false, ended: false };
  const of = (...sources: object[]): string =>
    sourceProgress(report(nobody), sent, intake(sources), new AwaitedPeers(0)).sentence;

  it("says of whom it waits for the end", () => {
    expect(of(linked, ended)).toContain("8,377 data accepted, 1 data source linked, 2.0 KiB");
    expect(of(ended, gone)).toContain(
      "0 data sources linked, 1 without a link and not ended (pump-3)",
    );
    expect(of(gone, { ...gone, sourceId: "x" })).toContain(
      "2 without a link and not ended (pump-3 and",
    );
  });

  it("says at the end what came from where", () => {
    expect(broughtSentence(undefined, 8_377)).toBe("8,377 data accepted of data sources");
    expect(broughtSentence(sent, 1)).toBe("5 data, 50 B read, 1 datum accepted of data sources");
    expect(broughtSentence(sent, undefined)).toBe("5 data, 50 B");
  });
});
