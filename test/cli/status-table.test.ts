/** What `mp2p status` shows of what others named. */

import { describe, expect, it } from "vitest";
import { figuresOf, peerText, statusText } from "../../src/cli/status-table.ts";

const NAME = '\x1b[2Jx"\n"fake"  overlay 1\u202e\x9b';
const SHOWN = '\\u001b[2Jx"\\u000a"fake"  overlay 1\\u202e\\u009b';

describe("the status of servers", () => {
  it("shows titles, labels and troubles on one line each, without controls of the terminal", () => {
    const overlay = { title: NAME, overlayId: "ab", sessionEpoch: 1, members: 2 };
    const reach = { inbound: 1, outboundOnly: 1 };
    const cache = { label: NAME, cacheServerId: "cd", linked: true };
    const places = { virtualPeers: 1, assigned: 1, places: 2 };
    const text = statusText(
      [{ overlay: { ...overlay, ...reach }, trouble: NAME }] as never,
      [{ ...cache, ...places }] as never,
    );
    const lines = text.split("\n");
    expect(lines.length).toBe(5);
    expect(lines[0]).toBe(`"${SHOWN}"  overlay ab  epoch 1`);
    expect(lines[2]).toBe(`the activity server tells nothing: ${SHOWN}`);
    expect(lines[4]).toContain(`cache server "${SHOWN}" cd:`);
  });

  const peer = {
    peerId: "0123456789abcdef",
    role: 1 as const,
    activity: 1,
    silentMs: 900,
    heldStart: 0,
    heldEnd: 0,
    missing: 0,
    lagMs: 0,
    contributionPermille: 0,
    rateBytesPerSecond: 0,
    uploadBytesPerSecond: 0,
    spareBytesPerSecond: Number.MAX_SAFE_INTEGER,
    links: 0,
    isNew: true,
  };

  it("shows no figures of a peer that has told none yet, and no limit as none", () => {
    const overlay = { title: "t", overlayId: "ab", sessionEpoch: 1, members: 1 };
    const reach = { inbound: 1, outboundOnly: 0 };
    const row = (isNew: boolean): string => {
      const activity = { registered: 1, peers: [{ ...peer, isNew }] };
      const text = statusText([{ overlay: { ...overlay, ...reach }, activity }] as never, []);
      return (text.split("\n").at(-1) ?? "").replace(/ +/g, " ");
    };
    expect(row(true)).toBe("0123456789ab peer active - - - - - - - - 0.9 s ago");
    expect(row(false)).toContain("peer active 0.0 s 0..0 0 0 B/s 0 B/s no limit 0.00 0 0.9 s ago");
    const figures = figuresOf(peer);
    expect(figures).toMatchObject({ peerId: peer.peerId, role: 1, activity: 1, silentMs: 900 });
    expect(figures).toMatchObject({ links: null, heldEnd: null, missing: null, lagMs: null });
    expect(figures).not.toHaveProperty("isNew");
    expect(figuresOf({ ...peer, isNew: false })).toMatchObject({
      links: 0,
      heldEnd: 0,
      spareBytesPerSecond: null,
    });
  });

  it("shows a peer under the title of its overlay, just so", () => {
    const status = { role: 1, activity: 1, silentMs: 0, reports: [], contributionPermille: 0 };
    const text = peerText([{ overlay: { title: NAME, overlayId: "ab" }, status }] as never);
    expect(text.split("\n")[0]).toBe(`"${SHOWN}"  overlay ab`);
  });
});
