import { describe, expect, it } from "vitest";
import { DataDigest, WrittenData } from "../../src/cli/demo/digest.ts";
import { type Facts, judge, type PeerFacts } from "../../src/cli/demo/verdict.ts";

const payloads = ["a", "bc", "", "d"].map((text) => new TextEncoder().encode(text));

function digestFrom(first: number, data = payloads): string {
  const digest = new DataDigest();
  for (const payload of data.slice(first - 1)) digest.add(payload);
  return digest.hex;
}

function written(): Map<string, WrittenData> {
  const data = new WrittenData();
  for (const payload of payloads) data.add(payload);
  return new Map([["s", data]]);
}

function peer(facts: Partial<PeerFacts> = {}): PeerFacts {
  return {
    name: "peer 1",
    kind: "full-time",
    startedAt: 0,
    digests: [{ sourceId: "s", first: 1, last: 4, digest: digestFrom(1) }],
    gaps: 0,
    bytesFromSource: 60,
    bytesFromPeers: 40,
    ...facts,
  };
}

function passes(peers: readonly PeerFacts[], facts: Partial<Facts> = {}): boolean {
  return judge({
    written: written(),
    peers,
    streamFragments: 10,
    sourceFragments: 20,
    ...facts,
  }).every((check) => check.passed);
}

describe("the verdict", () => {
  it("passes when all agree, at the very limits", () => {
    expect(passes([peer()])).toBe(true);
  });

  it("passes a late peer with the suffix from where it began, of that length only", () => {
    const late = (first: number, digest: string, last = 4) =>
      peer({ kind: "late", startedAt: 5, digests: [{ sourceId: "s", first, last, digest }] });
    expect(passes([late(3, digestFrom(3))])).toBe(true);
    expect(passes([late(3, digestFrom(2))])).toBe(false);
    expect(passes([late(3, digestFrom(3), 3)])).toBe(false);
  });

  it("is indifferent to a killed peer", () => {
    expect(passes([peer(), peer({ kind: "killed", digests: undefined })])).toBe(true);
  });

  it.each<[string, Partial<PeerFacts>]>([
    ["did not get to the end", { digests: undefined }],
    ["has a gap", { gaps: 1 }],
    ["failed", { failure: "SESSION_LOST" }],
    ["has nothing of a source", { digests: [] }],
    [
      "has one datum fewer",
      {
        digests: [
          { sourceId: "s", first: 1, last: 3, digest: digestFrom(1, payloads.slice(0, 3)) },
        ],
      },
    ],
    [
      "has other bytes",
      {
        digests: [
          { sourceId: "s", first: 1, last: 4, digest: digestFrom(1, payloads.toReversed()) },
        ],
      },
    ],
    [
      "has all but the first, though full-time",
      { digests: [{ sourceId: "s", first: 2, last: 4, digest: digestFrom(2) }] },
    ],
    ["got too little from peers", { bytesFromSource: 61, bytesFromPeers: 39 }],
    [
      "has data that nobody sent",
      {
        digests: [
          { sourceId: "s", first: 1, last: 4, digest: digestFrom(1) },
          { sourceId: "x", first: 1, last: 4, digest: digestFrom(1) },
        ],
      },
    ],
  ])("fails a peer that %s", (_what, facts) => {
    expect(passes([peer(facts)])).toBe(false);
  });

  it("fails a source that sent more than twice the stream, or nothing", () => {
    expect(passes([peer()], { sourceFragments: 21 })).toBe(false);
    expect(passes([peer()], { streamFragments: 0, sourceFragments: 0 })).toBe(false);
  });

  it("tells borders of data apart", () => {
    const bytes = (...texts: string[]) => texts.map((text) => new TextEncoder().encode(text));
    expect(digestFrom(1, bytes("ab", "c"))).not.toBe(digestFrom(1, bytes("a", "bc")));
  });
});
