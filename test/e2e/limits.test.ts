/** Limits and relays as flags of real processes. */

import { randomBytes } from "node:crypto";
import { afterEach, describe, expect, it } from "vitest";
import { cleanUp, join, type Mp2p, serve, source } from "./processes.ts";

interface Traffic {
  readonly bytesFromSource: number;
  readonly bytesFromPeers: number;
  readonly bytesToPeers: number;
}
const trafficOf = async (process: Mp2p, event: string): Promise<Traffic> =>
  (await process.event(event)).traffic as Traffic;

afterEach(cleanUp);

describe("flags of links and rates", () => {
  it("a source with one link and a limit feeds a relay, and that one the rest", async () => {
    const { url } = await serve();
    const input = randomBytes(3_000_000);
    const sender = source(
      url,
      "narrow",
      "--format",
      "raw",
      "--max-links",
      "1",
      "--upload-limit",
      "1M",
    );
    const relay = join(url, "narrow", "--relay", "--linger-ms", "5000");
    await relay.event("link");
    const peer = join(url, "narrow", "--linger-ms", "1000");
    await peer.event("link");
    const beganMs = performance.now();
    await sender.feed(input);
    sender.stdin.end();
    expect(await peer.exit).toBe(0);
    expect(await sender.exit).toBe(0);
    const elapsedMs = performance.now() - beganMs;
    expect(await relay.exit).toBe(0);
    expect(Buffer.compare(peer.output, input)).toBe(0);
    expect(relay.outBytes).toBe(0);
    expect(elapsedMs).toBeGreaterThan(2_500);
    expect(elapsedMs).toBeLessThan(20_000);
    const sent = await trafficOf(sender, "done");
    expect(sent.bytesToPeers).toBeGreaterThan(input.length);
    expect(sent.bytesToPeers).toBeLessThan(input.length * 1.1);
    const passed = await trafficOf(relay, "done");
    expect(passed.bytesFromSource).toBe(sent.bytesToPeers);
    expect(passed.bytesToPeers).toBeGreaterThan(input.length);
    expect((await trafficOf(peer, "done")).bytesFromSource).toBe(0);
  }, 60_000);

  it("a peer with a download limit takes its time and gets all", async () => {
    const { url } = await serve();
    const input = randomBytes(2_000_000);
    const peer = join(url, "slow", "--download-limit", "500kB/s", "--linger-ms", "1000");
    const sender = source(url, "slow", "--format", "raw");
    await peer.event("started");
    const beganMs = performance.now();
    await sender.feed(input);
    sender.stdin.end();
    expect(await peer.exit).toBe(0);
    expect(performance.now() - beganMs).toBeGreaterThan(2_500);
    expect(Buffer.compare(peer.output, input)).toBe(0);
    expect(await sender.exit).toBe(0);
  }, 60_000);

  it("a relay that is told to go says what it passed on, and one without its session is exit 3", async () => {
    const { url } = await serve();
    const sender = source(url, "broken");
    const [relay, other] = [join(url, "broken", "--relay"), join(url, "broken", "--relay")];
    await Promise.all([relay.event("link"), other.event("link")]);
    relay.kill("SIGTERM");
    expect(await relay.exit).toBe(0);
    expect(await trafficOf(relay, "left")).toMatchObject({ bytesToPeers: 0 });
    await sender.feed(Buffer.from("a line\n"));
    sender.kill("SIGINT");
    expect(await sender.exit).toBe(130);
    expect(await other.exit).toBe(3);
    expect((await other.event("error")).code).toBe("SESSION_LOST");
    const wrong = join(url, "broken", "--relay", "--out", "file");
    expect(await wrong.exit).toBe(2);
  }, 60_000);
});
