/** What `mp2p status` shows of what others named. */

import { describe, expect, it } from "vitest";
import { peerText, statusText } from "../../src/cli/status-table.ts";

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

  it("shows a peer under the title of its overlay, just so", () => {
    const status = { role: 1, activity: 1, silentMs: 0, reports: [], contributionPermille: 0 };
    const text = peerText([{ overlay: { title: NAME, overlayId: "ab" }, status }] as never);
    expect(text.split("\n")[0]).toBe(`"${SHOWN}"  overlay ab`);
  });
});
