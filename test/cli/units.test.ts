import { describe, expect, it } from "vitest";
import { judge } from "../../src/cli/demo/verdict.ts";
import { Received } from "../../src/cli/received.ts";
import { gapSentence, noNewsSentence, noNewsWorthTelling } from "../../src/cli/run-relay.ts";
import { membersSentence } from "../../src/cli/source-progress.ts";
import { count, dataText, span } from "../../src/cli/units.ts";

describe("numbers in sentences", () => {
  it.each([
    [0, "0 peers"],
    [1, "1 peer"],
    [1.4, "1 peer"],
    [2, "2 peers"],
    [12_345, "12,345 peers"],
  ])("%d: %s", (n, text) => {
    expect(count(n, "peer", "peers")).toBe(text);
  });

  it("one of data is a datum", () => {
    expect([dataText(1), dataText(2)]).toEqual(["1 datum", "2 data"]);
    expect(String(new Received())).toBe("0 data, 0 B");
  });

  it("a span of one names one", () => {
    expect(span(7, 7, "datum", "data")).toBe("datum 7");
    expect(span(7, 1_009, "datum", "data")).toBe("data 7 to 1,009");
  });

  it("a gap of one is one", () => {
    expect(gapSentence({ kind: "fragments", from: 4, to: 4 })).toBe("gap: fragment 4 is lost");
    expect(gapSentence({ kind: "fragments", from: 4, to: 5 })).toBe(
      "gap: fragments 4 to 5 are lost",
    );
    const data = { kind: "data", sourceId: "s", from: 3 } as const;
    expect(gapSentence({ ...data, to: 3 })).toBe("gap: datum 3 of s is lost");
    expect(gapSentence({ ...data, to: 4 })).toBe("gap: data 3 to 4 of s are lost");
  });

  it("a source says how its peers fared", () => {
    const one = { complete: 1, left: 0, behind: 0 };
    expect(membersSentence(one, "complete")).toBe("1 peer had everything");
    const several = { complete: 2, left: 3, behind: 1 };
    expect(membersSentence(several, "complete")).toBe(
      "2 peers had everything, 3 left before, 1 lagged behind",
    );
    // Live, they may have gaps of which only they know.
    expect(membersSentence(several, "live")).toBe(
      "2 peers stayed to the end, 3 left before, 1 lagged behind",
    );
  });

  it("a peer tells of silence that is longer than usual, and only of that", () => {
    const told = (noNewsMs: number) =>
      noNewsWorthTelling({ noNewsMs } as Parameters<typeof noNewsWorthTelling>[0]);
    expect([told(0), told(5_000), told(5_001.4)]).toEqual([undefined, undefined, 5_001]);
    expect(noNewsSentence(undefined)).toBe("");
    expect(noNewsSentence(7_300)).toBe(", nothing new learned for 7 s (no link to the source)");
  });

  it("the demo's verdict counts alike", () => {
    const facts = { written: new Map(), streamFragments: 1, sourceFragments: 1 };
    const peer = { name: "p", startedAt: 0, bytesFromSource: 0, bytesFromPeers: 0 };
    const checks = judge({
      ...facts,
      peers: [{ ...peer, kind: "late", digests: [], gaps: 1 }],
    });
    expect(checks.map(({ detail }) => detail)).toEqual(["1 gap", "1.00x: 1 of 1 fragment"]);
  });
});
