/** A source peer's session: what it asks of the servers, when, and what outages do. */

import { describe, expect, it } from "vitest";
import { type MsgpackValue, readMsgpack } from "../../support/msgpack-reader.ts";
import { createSession, opened, type Said, said, scene, TYPES } from "./scene.ts";

describe("a source peer's session", () => {
  it("P0.8: the source peer creates its overlay through the OMS before anything else", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const asked = said(world, source, servers.oms).map(({ type }) => type);
    expect(asked.slice(0, 2)).toEqual([0x40, TYPES.create]);
    const first = said(world, source, servers.ixs)[0];
    const created = said(world, source, servers.oms, TYPES.create)[0];
    expect(first?.atMs).toBeGreaterThan(created?.atMs ?? Number.POSITIVE_INFINITY);
    expect(servers.oms.events.some(({ type }) => type === "overlayCreated")).toBe(true);
  });

  it("P0.8 (negative): without an OMS there is no overlay and no index file", () => {
    const { world, servers } = scene();
    servers.oms.kill();
    const source = createSession(world);
    world.advance(20_000);
    expect(source.machine.overlays.size).toBe(0);
    expect(source.has("sessionOpen")).toBe(false);
    expect(said(world, source, servers.ixs)).toEqual([]);
    servers.oms.start();
    world.run(() => source.has("sessionOpen"), 60_000);
  });

  it("says what it tries again, with the refusal of the server", () => {
    const { world, servers } = scene();
    servers.oms.disk.broken = "STORE_FULL";
    const source = createSession(world);
    world.run(() => source.has("sessionNote"), 5_000);
    expect(source.eventsOf("sessionNote")[0]).toMatchObject({
      text: expect.stringMatching(/^STORE_FULL.*: trying again$/),
      failure: { code: "STORE_FULL" },
    });
    servers.oms.disk.broken = undefined;
    world.run(() => source.has("sessionOpen"), 60_000);
  });

  it("P1.2: it creates the overlay at the OMS and registers each data source at the IXS", () => {
    const { world, servers } = scene();
    const source = createSession(world, { sources: ["a", "b", "c"] });
    opened(world, source, ["a", "b", "c"]);
    expect(said(world, source, servers.oms, TYPES.create).length).toBe(1);
    expect(servers.ixs.events.filter(({ type }) => type === "indexStands").length).toBe(3);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(3);
  });

  it("P1.2 (negative): the session is not open before the IXS has acknowledged", () => {
    const { world, servers } = scene();
    servers.ixs.kill();
    const source = createSession(world);
    world.advance(10_000);
    expect(source.has("sessionOpen")).toBe(false);
    expect(servers.oms.events.some(({ type }) => type === "overlayCreated")).toBe(true);
    servers.ixs.start();
    world.run(() => source.has("sessionOpen"), 60_000);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(1);
  });

  it("P1.4: the OMS registers the overlay at the PAMS", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    world.advance(200);
    const [first] = said(world, servers.oms, servers.pams, TYPES.registerOverlay);
    const id = first?.fields[2];
    expect(Buffer.from(id as Uint8Array).toString("hex")).toBe(source.overlayId);
    expect(servers.pams.events.some(({ type }) => type === "overlayRegistered")).toBe(true);
  });

  it("P1.4 (negative): none before its session, none after it, none at a PAMS that is away", () => {
    const { world, servers } = scene();
    const registrations = (): Said[] =>
      said(world, servers.oms, servers.pams, TYPES.registerOverlay);
    world.advance(5_000);
    expect(registrations()).toEqual([]);
    servers.pams.kill();
    const source = createSession(world);
    // The session does not wait for it.
    opened(world, source);
    world.advance(5_000);
    expect(registrations()).toEqual([]);
    servers.pams.start();
    world.run(() => registrations().length > 0, 40_000);
    const ids = registrations().map(({ fields }) => Buffer.from(fields[2] as Uint8Array));
    expect(new Set(ids.map((id) => id.toString("hex")))).toEqual(new Set([source.overlayId]));
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 10_000);
    world.advance(200);
    const before = registrations().length;
    servers.pams.kill();
    servers.pams.start();
    world.advance(60_000);
    expect(registrations().length).toBe(before);
    expect(servers.pams.snapshot<{ overlays: unknown[] }>().overlays).toEqual([]);
  });

  it("R5.a, R5.d: it creates the overlay once and refreshes it well before it expires", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(60_000);
    expect(said(world, source, servers.oms, TYPES.create).length).toBe(1);
    const refreshes = said(world, source, servers.oms, TYPES.refresh).map(({ atMs }) => atMs);
    expect(refreshes.length).toBeGreaterThan(25);
    for (let i = 1; i < refreshes.length; i++) {
      expect((refreshes[i] ?? 0) - (refreshes[i - 1] ?? 0)).toBeLessThan(2_100);
    }
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
  });

  it("R6.a: the index file it registers has all fields, signed by its key", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const [message] = said(world, source, servers.ixs, TYPES.registerIndex);
    const [body, signature] = readMsgpack(message?.fields[2] as Uint8Array) as Uint8Array[];
    const file = readMsgpack(body ?? new Uint8Array(0)) as MsgpackValue[];
    expect(signature?.length).toBe(64);
    expect(file).toContain("weather");
    expect(file).toContain("ws://oms:1");
    expect(file).toContain("s");
    expect(file).toContain("default");
    expect(file).toContain(4096);
    expect(file).toContain("what s sends");
    const hex = file.map((field) =>
      field instanceof Uint8Array ? Buffer.from(field).toString("hex") : "",
    );
    expect(hex).toContain(source.overlayId);
    expect(hex).toContain(Buffer.from(source.keys.publicKey).toString("hex"));
  });

  it("P3.2: ending deregisters at IXS and OMS, and the OMS at the PAMS", () => {
    const { world, servers } = scene();
    const source = createSession(world, { sources: ["a", "b"] });
    opened(world, source, ["a", "b"]);
    world.advance(1_000);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 10_000);
    world.advance(200);
    expect(servers.ixs.events.filter(({ type }) => type === "indexGone").length).toBe(2);
    expect(said(world, source, servers.oms, TYPES.removeSession).length).toBe(1);
    expect(said(world, servers.oms, servers.pams, TYPES.removeOverlay).length).toBe(1);
    expect(said(world, source, servers.pams, TYPES.removePeer).length).toBe(1);
    expect(source.machine.overlays.size).toBe(0);
    expect(servers.pams.events.at(-1)).toMatchObject({ type: "overlayDropped", why: "removed" });
  });

  it("P3.2 (negative): while the session runs none of them is told to remove it", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    world.advance(30_000);
    expect(said(world, source, servers.oms, TYPES.removeSession)).toEqual([]);
    expect(said(world, servers.oms, servers.pams, TYPES.removeOverlay)).toEqual([]);
    expect(servers.ixs.events.some(({ type }) => type === "indexGone")).toBe(false);
  });

  it("P3.5: the source peer goes by termination, or its overlay expires", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(2_000);
    source.crash();
    world.advance(5_500);
    world.run(() => servers.oms.events.some(({ type }) => type === "overlayEnded"), 3_000);
    expect(servers.oms.events.find(({ type }) => type === "overlayEnded")?.why).toBe("expired");
  });

  it("P3.5 (negative): a source peer without members or data stays", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const source = createSession(world);
    opened(world, source);
    world.advance(100_000);
    expect(servers.oms.events.some(({ type }) => type === "overlayEnded")).toBe(false);
    expect(source.machine.overlays.size).toBe(1);
  });

  it("another key holds its ids: it waits for that overlay to expire, says why, then opens", () => {
    const { world, servers } = scene({ refreshMs: 6_000 });
    const killed = createSession(world);
    opened(world, killed);
    killed.crash();
    const source = createSession(world, { waitMs: 60_000 });
    world.advance(2_000);
    expect(source.eventsOf("sessionNote").map(({ text }) => text)).toEqual([
      expect.stringMatching(/^NOT_OWNER another key holds data source id "s".*--identity/),
    ]);
    const ended = (): typeof servers.oms.events =>
      servers.oms.events.filter(({ type }) => type === "overlayEnded");
    world.run(() => ended().length > 0, 8_000);
    expect(ended()).toMatchObject([{ why: "expired", overlayId: killed.overlayId }]);
    expect(source.has("sessionOpen")).toBe(false);
    // As the host of both servers does.
    servers.ixs.command({ type: "overlayGone", overlayId: killed.overlayId });
    world.run(() => source.has("sessionOpen"), 3_000);
    expect(source.has("sessionFailed")).toBe(false);
    expect(servers.ixs.events.filter(({ type }) => type === "indexStands").length).toBe(2);
  });

  it.each([0, 5_000])(
    "another key keeps its ids: NOT_OWNER after %i ms, no overlay stays",
    (waitMs) => {
      const { world, servers } = scene({ refreshMs: 6_000 });
      opened(world, createSession(world));
      const beganMs = world.nowMs;
      const source = createSession(world, { sources: ["own", "s"], waitMs });
      world.run(() => source.has("sessionClosed"), 10_000);
      expect(world.nowMs - beganMs).toBeLessThanOrEqual(waitMs + 100);
      expect(world.nowMs - beganMs).toBeGreaterThanOrEqual(waitMs - 500);
      expect(source.eventsOf("sessionFailed")).toMatchObject([{ code: "NOT_OWNER" }]);
      expect(source.machine.overlays.size).toBe(0);
      expect(servers.oms.events.filter(({ type }) => type === "overlayEnded")).toMatchObject([
        { why: "removed" },
      ]);
      expect(servers.ixs.events.filter(({ type }) => type === "indexGone").length).toBe(1);
    },
  );

  it("ends within bounds when the servers are gone for good", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    servers.oms.kill();
    servers.ixs.kill();
    servers.pams.kill();
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.run(() => source.has("sessionClosed"), 6_000);
    expect(source.machine.overlays.size).toBe(0);
  });

  it("registers above the version that a removed session had", () => {
    const { world, servers } = scene();
    const source = world.node();
    for (let turn = 0; turn < 3; turn++) {
      source.events.length = 0;
      createSession(world, { at: source });
      world.run(() => source.has("sessionOpen"));
      source.command({ kind: "leaveSession", sessionId: 1 });
      world.run(() => source.has("sessionClosed"), 10_000);
    }
    const versions = servers.ixs.events
      .filter(({ type }) => type === "indexStands")
      .map((e) => e.version as number);
    expect(versions.length).toBe(3);
    for (let i = 1; i < 3; i++) expect(versions[i]).toBeGreaterThan(versions[i - 1] ?? 0);
  });

  it.each([false, true])(
    "of two sessions with equal ids at once the second is refused, the first goes on (resumes: %s)",
    (resumes) => {
      const { world, servers } = scene({ refreshMs: 6_000 });
      const killed = createSession(world, { sources: ["own", "s"] });
      opened(world, killed, []);
      killed.crash();
      const node = createSession(world, { keys: killed.keys, resumes });
      createSession(world, { at: node, sessionId: 2, sources: ["own", "s"], resumes });
      createSession(world, { at: node, sessionId: 3, sources: ["own"], resumes });
      world.run(() => node.eventsOf("sessionOpen").length === 2, 10_000);
      world.advance(30_000);
      expect(node.eventsOf("sessionFailed")).toEqual([
        {
          kind: "sessionFailed",
          sessionId: 2,
          code: "SOURCE_REGISTERED",
          detail: 'another session of this peer has data source id "s" and data id "default"',
        },
      ]);
      expect(node.eventsOf("sessionClosed").map(({ sessionId }) => sessionId)).toEqual([2]);
      expect(node.machine.overlays.size).toBe(2);
      const stand = servers.ixs.snapshot<{ indexFiles: number }>().indexFiles;
      expect(stand).toBe(2);
      const ended = servers.oms.events.filter(({ type }) => type === "overlayEnded");
      expect(ended.map(({ overlayId }) => overlayId)).toEqual(resumes ? [] : [killed.overlayId]);
      // The ids are free once the first has ended.
      node.command({ kind: "leaveSession", sessionId: 1 });
      createSession(world, { at: node, sessionId: 4, resumes });
      world.run(() => node.eventsOf("sessionOpen").length === 3, 10_000);
      expect(node.eventsOf("sessionFailed").length).toBe(1);
    },
  );

  it("a data source that comes to an open session with the ids of another session is refused", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    createSession(world, { at: source, sessionId: 2, sources: ["t"] });
    world.run(() => source.eventsOf("sessionOpen").length === 2, 10_000);
    const dataSource = { sourceId: "t", dataId: "default", contentType: "", description: "" };
    const add = { kind: "addDataSource", sessionId: 1 } as const;
    source.command({ ...add, dataSource });
    source.command({ ...add, dataSource: { ...dataSource, dataId: "other" } });
    world.run(() => source.has("dataSourceAdded"), 10_000);
    expect(source.eventsOf("dataSourceRefused")).toMatchObject([
      { sessionId: 1, sourceId: "t", code: "SOURCE_REGISTERED" },
    ]);
    expect(servers.ixs.events.filter(({ type }) => type === "indexStands").length).toBe(3);
  });

  it("finds its overlay though many others have its title", () => {
    const { world, servers } = scene();
    const others = createSession(world, {
      sources: Array.from({ length: 16 }, (_, i) => `other ${i}`),
    });
    opened(world, others, []);
    const killed = createSession(world);
    opened(world, killed);
    expect(servers.ixs.snapshot<{ indexFiles: number }>().indexFiles).toBe(17);
    killed.crash();
    const again = createSession(world, { keys: killed.keys, resumes: true });
    opened(world, again);
    expect(again.overlayId).toBe(killed.overlayId);
    expect(again.overlay.settings.sessionEpoch).toBe(2);
  });

  it("a data source that is taken back is gone at the IXS, and may come again; termination takes the rest", () => {
    const { world, servers } = scene();
    const source = createSession(world);
    opened(world, source);
    const added = (): string[] =>
      source.eventsOf("dataSourceAdded").map(({ sourceId }) => sourceId);
    const add = (sourceId: string): void =>
      source.command({
        kind: "addDataSource",
        sessionId: 1,
        dataSource: { sourceId, dataId: "default", contentType: "", description: "" },
      });
    const remove = (sourceId: string): void =>
      source.command({ kind: "removeDataSource", sessionId: 1, sourceId });
    const files = (): number[] =>
      ["indexStands", "indexGone"].map(
        (wanted) => servers.ixs.events.filter(({ type }) => type === wanted).length,
      );
    for (const id of ["a", "b", "c"]) add(id);
    world.run(() => added().length === 3);
    expect(files()).toEqual([4, 0]);
    // Two go while another comes, and one of them comes again at once.
    for (const id of ["a", "b", "a", "nobody"]) remove(id);
    add("d");
    add("a");
    world.run(() => added().length === 5);
    expect(files()).toEqual([6, 2]);
    // The session ends while the IXS is away.
    servers.ixs.kill();
    remove("c");
    world.advance(500);
    source.command({ kind: "leaveSession", sessionId: 1 });
    world.advance(500);
    servers.ixs.start();
    world.run(() => source.has("sessionClosed"), 10_000);
    expect(files()).toEqual([6, 6]);
  });
});
