/**
 * A source peer that is killed and starts over without data sources of its own: those that come over
 * links of their own are back later, or never, because they had ended.
 */

import { describe, expect, it } from "vitest";
import { Feed } from "./harness.ts";
import { add, dataSource, join, joined, scene, source, taken } from "./restart-scene.ts";
import { said, TYPES } from "./session/scene.ts";

describe("a source peer without data sources of its own that starts over with its key", () => {
  it("takes its overlay over: peers follow by whichever data source they came", () => {
    const { world, servers } = scene();
    const first = source(world, { sources: [] });
    for (const sourceId of ["a", "b"]) add(world, first, sourceId);
    const peers = joined(world, 3);
    const one = new Feed(first, 20, () => 300, { ends: false, sourceId: "a" });
    const two = new Feed(first, 20, () => 300, { ends: false, sourceId: "b" });
    world.run(() => peers.every((peer) => peer.taken.length === 40), 20_000);
    first.command({ kind: "endSource", overlayId: first.overlayId, sourceId: "a" });
    world.advance(2_000);
    first.crash();
    world.advance(2_000);

    const again = source(world, { sources: [], keys: first.keys });
    expect(again.overlayId).toBe(first.overlayId);
    expect(again.overlay.settings.sessionEpoch).toBe(2);
    // None of the data sources is back.
    world.run(() => peers.every((peer) => peer.has("sessionRestarted")), 5_000);
    const late = join(world);
    world.run(() => late.has("sessionOpen"), 10_000);
    add(world, again, "b");
    const three = new Feed(again, 30, () => 400, { sourceId: "b" });
    world.run(() => [...peers, late].every((peer) => peer.has("ended")), 60_000);
    for (const peer of peers) {
      expect(new Set(taken(peer))).toEqual(
        new Set([...one.written, ...two.written, ...three.written]),
      );
      expect(peer.has("gap")).toBe(false);
    }
    expect(taken(late)).toEqual(three.written);
    expect(servers.oms.events.filter(({ type }) => type === "overlayCreated").length).toBe(1);
    world.run(() => again.has("sessionClosed") || again.has("ended"), 30_000);
    again.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => again.has("sessionClosed"), 10_000);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(0);
  });

  it("registers all index files of before anew, more than one answer tells of, and each once", () => {
    const { world, servers } = scene();
    const count = 40;
    const first = source(world, { sources: [] });
    for (let i = 0; i < count; i++) add(world, first, `s${i}`);
    first.crash();
    const again = source(world, { sources: [], keys: first.keys });
    const registered = (): number => said(world, again, servers.ixs, TYPES.registerIndex).length;
    world.run(() => registered() === count, 20_000);
    expect(again.has("dataSourceAdded")).toBe(false);
    // One that is back is registered already.
    add(world, again, "s7");
    world.advance(10_000);
    expect(registered()).toBe(count);
    again.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => again.has("sessionClosed"), 20_000);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(0);
  });

  it("goes on with that when the index server is back", () => {
    const { world, servers } = scene();
    const first = source(world, { sources: [] });
    add(world, first, "s1");
    first.crash();
    const again = source(world, { sources: [], keys: first.keys });
    const registered = (): number => said(world, again, servers.ixs, TYPES.registerIndex).length;
    servers.ixs.kill();
    world.advance(20_000);
    expect(registered()).toBe(0);
    // What comes meanwhile comes first, and once.
    for (const sourceId of ["s2", "s3"]) {
      again.command({ kind: "addDataSource", sessionId: 1, dataSource: dataSource(sourceId) });
      world.advance(500);
    }
    servers.ixs.start();
    world.run(() => registered() === 3, 60_000);
    world.advance(60_000);
    expect(registered()).toBe(3);
    const added = again.eventsOf("dataSourceAdded").map(({ sourceId }) => sourceId);
    expect(added).toEqual(["s2", "s3"]);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(3);
  });

  it("creates an overlay when there is none of its key", () => {
    const { world } = scene();
    const first = source(world, { sources: [] });
    add(world, first, "s1");
    const other = source(world, { sources: [] });
    expect(other.overlayId).not.toBe(first.overlayId);
    expect(other.overlay.settings.sessionEpoch).toBe(1);
  });
});
