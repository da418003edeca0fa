import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { pack } from "../../src/protocol/codec.ts";
import { OPERATIONS } from "../../src/protocol/operations.ts";
import * as r1 from "../../src/protocol/r1.ts";
import * as r5 from "../../src/protocol/r5.ts";
import * as r6 from "../../src/protocol/r6.ts";
import { encodeAnswer, encodeFailure, encodeRequest } from "../../src/protocol/signalling.ts";
import { createIxs } from "../../src/servers/ixs.ts";
import { askerOf, routeOf, serverOf } from "../../src/servers/multiplexer.ts";
import { createOms } from "../../src/servers/oms.ts";
import { createPams } from "../../src/servers/pams.ts";
import type { ServerCounters, ServerLimits } from "../../src/servers/server-types.ts";
import { Identity, ServerDriver } from "./driver.ts";

function oms(limits: Partial<ServerLimits> = {}): ServerDriver {
  return new ServerDriver((base) => createOms({ ...base, limits })).start();
}
const counters = (driver: ServerDriver): ServerCounters =>
  driver.snapshot<{ counters: ServerCounters }>().counters;

describe("bad input is answered, counted, and in the end closes the link", () => {
  it("malformed messages: refused with the request's id, the third closes", () => {
    const driver = oms();
    const link = driver.link();
    driver.frame(link, pack([0x45, 12, "too few"]));
    expect(driver.rawReply(link, 12)?.slice(2, 4)).toEqual([
      "MESSAGE_MALFORMED",
      "r5/join has too few fields",
    ]);
    driver.frame(link, Uint8Array.of(0xc1));
    expect(driver.rawReply(link, 0)?.[2]).toBe("MESSAGE_MALFORMED");
    expect(driver.closed).toEqual([]);
    driver.frame(link, pack([0x45, 13]));
    expect(driver.closed).toEqual([link]);
    const sent = driver.sent.length;
    driver.frame(link, pack([0x40, 14]));
    expect(driver.sent.length).toBe(sent);
    expect(counters(driver)).toMatchObject({ malformed: 3, requests: 2 });
    expect(driver.events.filter((event) => event.type === "refused")).toHaveLength(3);
  });

  it("an oversized message closes at once; an unknown one does not", () => {
    const driver = oms();
    const link = driver.link();
    driver.frame(link, pack([0x7e, 3]));
    expect(driver.rawReply(link, 3)?.[2]).toBe("MESSAGE_UNKNOWN");
    driver.frame(link, pack([0x10, 4, "of another server"]));
    expect(driver.rawReply(link, 4)?.[2]).toBe("MESSAGE_UNKNOWN");
    expect(driver.closed).toEqual([]);
    driver.frame(link, new Uint8Array(65_537).fill(0x90));
    expect(driver.rawReply(link, 0)?.[2]).toBe("FRAME_TOO_LARGE");
    expect(driver.closed).toEqual([link]);
  });

  it("answers and failures nobody asked for are ignored", () => {
    const driver = oms();
    const link = driver.link();
    driver.frame(link, encodeAnswer(r1.REMOVE_OVERLAY, 1, {}));
    driver.frame(link, encodeFailure(1, { code: "NOT_OWNER", detail: "" }));
    expect(driver.sent).toEqual([]);
    expect(driver.closed).toEqual([]);
  });

  it("any bytes whatever: a machine survives them and goes on serving", () => {
    const identity = new Identity();
    const seeds = OPERATIONS.map((operation) => operation.type);
    const message = fc.oneof(
      fc.uint8Array({ maxLength: 80 }),
      fc
        .tuple(
          fc.constantFrom(...seeds),
          fc.array(fc.oneof(fc.nat(), fc.string(), fc.uint8Array())),
        )
        .map(([type, fields]) => pack([type, 9, ...fields])),
    );
    for (const build of [createOms, createIxs, createPams]) {
      const driver = new ServerDriver(build).start();
      fc.assert(
        fc.property(message, (bytes) => {
          const link = driver.link();
          driver.frame(link, bytes);
          driver.settle();
          driver.linkDown(link);
        }),
        { numRuns: 700 },
      );
      expect(counters(driver)).toMatchObject({ links: 0, inFlight: 0 });
    }
    expect(identity.peerId).toHaveLength(64);
  });
});

describe("limits", () => {
  it("links: one more is told so and closed; a link that goes makes room", () => {
    const driver = oms({ links: 2 });
    const [first] = [driver.link(), driver.link()];
    const third = driver.link();
    expect(driver.rawReply(third, 0)?.[2]).toBe("TOO_MANY_LINKS");
    expect(driver.closed).toEqual([third]);
    driver.linkDown(third);
    driver.linkDown(first);
    driver.ask(driver.link(), r5.CHALLENGE, {});
    expect(counters(driver)).toMatchObject({ links: 2, linksRefused: 1 });
  });

  it("requests in flight on one link", () => {
    const driver = new ServerDriver((base) =>
      createIxs({ ...base, limits: { inFlightPerLink: 2 } }),
    ).start();
    const link = driver.link();
    const owner = new Identity();
    const request = {
      version: 1,
      dataSourceId: "s",
      dataId: "d",
      publicKey: owner.publicKey,
      signature: new Uint8Array(64),
    };
    driver.hold = true;
    const ids = [1, 2, 3].map(() => driver.send(link, r6.REMOVE_INDEX, request));
    expect(driver.rawReply(link, ids[2] ?? 0)?.[2]).toBe("OVERLOADED");
    driver.hold = false;
    driver.settle();
    expect(driver.rawReply(link, ids[1] ?? 0)?.[2]).toBe("IDENTITY_UNPROVEN");
    expect(driver.refusal(link, r6.REMOVE_INDEX, request).code).toBe("IDENTITY_UNPROVEN");
  });

  it("requests a second: the burst passes, then as many as the rate says", () => {
    const driver = oms({ requestsPerSecond: 10, requestBurst: 5 });
    const link = driver.link();
    const tries = (count: number): number => {
      let served = 0;
      for (let i = 0; i < count; i++) if (driver.request(link, r5.CHALLENGE, {}).ok) served++;
      return served;
    };
    expect(tries(20)).toBe(5);
    const failure = driver.refusal(link, r5.CHALLENGE, {});
    expect(failure.code).toBe("OVERLOADED");
    expect(failure.retryAfterMs).toBeGreaterThanOrEqual(100);
    driver.advance(300);
    expect(tries(20)).toBe(3);
    driver.ask(driver.link(), r5.CHALLENGE, {});
  });

  it.each([
    ["known", pack([r5.CHALLENGE.type, 1]), 105],
    ["unknown", pack([0x70, 1, []]), 150],
    ["nobody asked for", encodeAnswer(r1.REMOVE_OVERLAY, 1, {}), 0],
  ])(
    "a flood of messages (%s) is refused for a while, then its link is closed",
    (_, bytes, replies) => {
      const driver = oms({ requestBurst: 100, refusalBurst: 50 });
      const link = driver.link();
      for (let i = 0; i < 150; i++) driver.frame(link, bytes);
      expect(driver.closed).toEqual([]);
      const sent = driver.sent.length;
      expect(sent).toBeGreaterThanOrEqual(replies);
      for (let i = 0; i < 1_000; i++) driver.frame(link, bytes);
      expect(driver.closed).toEqual([link]);
      expect(driver.sent.length).toBe(sent);
      expect(counters(driver)).toMatchObject({ floodsClosed: 1 });
      driver.linkDown(link);
      driver.ask(driver.link(), r5.CHALLENGE, {});
    },
  );

  it("who keeps asking a little too fast is refused, not closed", () => {
    const driver = oms({ requestsPerSecond: 50, requestBurst: 100, refusalBurst: 50 });
    const link = driver.link();
    let served = 0;
    for (let i = 0; i < 600; i++) {
      driver.advance(12);
      if (driver.request(link, r5.CHALLENGE, {}).ok) served++;
    }
    expect(driver.closed).toEqual([]);
    expect(served).toBeGreaterThan(400);
    expect(counters(driver)).toMatchObject({ floodsClosed: 0 });
  });

  it("R1.a: an OMS that shows the service key registers all its overlays at once", () => {
    const serviceKey = new Uint8Array(32).fill(7);
    const driver = new ServerDriver((base) => createPams({ ...base, serviceKey })).start();
    const link = driver.link();
    for (let i = 0; i < 1_000; i++) {
      const overlayId = i.toString(16).padStart(32, "0");
      driver.ask(link, r1.REGISTER_OVERLAY, { overlayId, omsUrl: "ws://oms:1", serviceKey });
    }
    expect(driver.closed).toEqual([]);
  });

  it("a reply to a link that has gone is dropped", () => {
    const driver = new ServerDriver(createIxs).start();
    const link = driver.link();
    const owner = new Identity();
    driver.hold = true;
    driver.send(link, r6.REMOVE_INDEX, {
      version: 1,
      dataSourceId: "s",
      dataId: "d",
      publicKey: owner.publicKey,
      signature: new Uint8Array(64),
    });
    driver.linkDown(link);
    const sent = driver.sent.length;
    driver.hold = false;
    driver.settle();
    expect(driver.sent.length).toBe(sent);
    expect(counters(driver).inFlight).toBe(0);
  });
});

it("draining: what is under way is answered, what comes is refused, then drained", () => {
  const driver = new ServerDriver(createIxs).start();
  const link = driver.link();
  const owner = new Identity();
  driver.hold = true;
  const id = driver.send(link, r6.REMOVE_INDEX, {
    version: 1,
    dataSourceId: "s",
    dataId: "d",
    publicKey: owner.publicKey,
    signature: new Uint8Array(64),
  });
  driver.command({ type: "drain" });
  const late = { version: 0, title: "t", dataSourceId: "", dataId: "" };
  expect(driver.refusal(link, r6.QUERY_INDEX, late).code).toBe("OVERLOADED");
  expect(driver.events.some((event) => event.type === "drained")).toBe(false);
  driver.hold = false;
  driver.settle();
  expect(driver.rawReply(link, id)?.[2]).toBe("IDENTITY_UNPROVEN");
  expect(driver.events.filter((event) => event.type === "drained")).toHaveLength(1);
});

describe("one endpoint for all roles", () => {
  it("routes every operation to the server that serves it", () => {
    for (const { name, type } of OPERATIONS) {
      // Orders go to cache servers, which are no role of this endpoint.
      const isOrder = name === "r8/allocate" || name === "r8/release";
      const isOms = /^(r5|r8|admin)\//.test(name);
      const expected = isOms ? "oms" : name.startsWith("r6/") ? "ixs" : "pams";
      expect(serverOf(type)).toBe(isOrder ? undefined : expected);
    }
    const request = encodeRequest(r5.CHALLENGE, 70_000, {});
    expect(routeOf(request, 0, request.length)).toBe("oms");
    const failure = encodeFailure(0x3000_0001, { code: "INTERNAL", detail: "" });
    expect(routeOf(failure, 0, failure.length)).toBe("pams");
    const answer = encodeAnswer(r1.REMOVE_OVERLAY, 0x1000_0002, {});
    expect(routeOf(answer, 0, answer.length)).toBe("oms");
    expect(askerOf(5)).toBeUndefined();
    expect(serverOf(0x7e)).toBeUndefined();
  });

  it("places nothing it can not read, and never reads past the end", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 12 }), (bytes) => {
        const memory = new Uint8Array(40).fill(0x92);
        memory.set(bytes, 10);
        expect(["oms", "ixs", "pams", undefined]).toContain(routeOf(memory, 10, bytes.length));
      }),
    );
    expect(routeOf(Uint8Array.of(0x92, 0x40), 0, 1)).toBeUndefined();
    expect(routeOf(Uint8Array.of(0x92, 0xcc, 0x85), 0, 2)).toBeUndefined();
  });
});
