/** Whatever comes over a link of R11: an error, a closed link, a count; never a crash or a lost datum. */

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { seededEntropy, seededRng } from "../../../src/base/rng.ts";
import type { AcceptEvent } from "../../../src/peer/feed/accept-types.ts";
import { FeedMachine } from "../../../src/peer/feed/feed-machine.ts";
import type { FeedCommand, FeedEvent } from "../../../src/peer/feed/feed-types.ts";
import { decodeFrame } from "../../../src/protocol/r10.ts";
import { REGISTER } from "../../../src/protocol/r11.ts";
import { writeMsgpack } from "../../support/msgpack-writer.ts";
import { datumFrame, frameOf, R11 } from "../../support/raw-data-source.ts";
import { acceptor, Driven, register, remote } from "./driven.ts";

const terminate = (scope: number, last: number): Buffer =>
  frameOf(R11.TERMINATE, writeMsgpack([scope, last]));

/** Frames as a careless or hostile program might send them. */
const someFrame = fc.oneof(
  fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
  fc
    .tuple(fc.integer({ min: 0, max: 0x30 }), fc.uint8Array({ maxLength: 120 }))
    .map(([type, body]) => frameOf(type, body)),
  fc.constant(register("bad")),
  fc.tuple(fc.nat(3), fc.nat(6)).map(([scope, last]) => terminate(scope, last)),
  fc
    .tuple(fc.nat(8), fc.array(fc.uint8Array({ maxLength: 30 }), { maxLength: 4 }), fc.nat(1))
    .map(([first, data, baseUs]) =>
      datumFrame(
        first,
        data.map((payload) => ({ payload })),
        { baseUs },
      ),
    ),
  fc
    .tuple(fc.nat(4), fc.nat(100), fc.nat(60), fc.uint8Array({ minLength: 1, maxLength: 40 }))
    .map(([first, total, offset, payload]) => datumFrame(first, [{ payload }], { total, offset })),
);
const mutated = fc
  .tuple(someFrame, fc.array(fc.tuple(fc.nat(300), fc.nat(255)), { maxLength: 3 }))
  .map(([frame, changes]) => {
    const copy = Buffer.from(frame);
    for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
    return copy;
  });

describe("the accepting side", () => {
  it("takes any frames without a crash, and an honest data source loses nothing meanwhile", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), mutated), { maxLength: 25 }),
        fc.array(fc.nat(3), { minLength: 1, maxLength: 20 }),
        (frames, rooms) => {
          let turn = 0;
          const { driven, machine, taken } = acceptor(() => rooms[turn++ % rooms.length] as number);
          for (const linkId of [2, 4, 6]) {
            driven.input({ kind: "linkUp", linkId, direction: "inbound", remote });
          }
          driven.frames(2, register("good"));
          driven.input({ kind: "command", command: { kind: "admit", sourceId: "good", next: 1 } });
          driven.frames(4, register("bad"));
          driven.input({ kind: "command", command: { kind: "admit", sourceId: "bad", next: 1 } });
          let sent = 0;
          for (const [registered, frame] of frames) {
            driven.frames(registered ? 4 : 6, frame);
            driven.frames(2, datumFrame(++sent, [{ payload: Buffer.from(`${sent}`) }]));
          }
          expect(driven.isClosed(2)).toBe(false);
          rooms.push(100);
          for (let i = 0; i < 300; i++) {
            driven.input({ kind: "command", command: { kind: "writable" } });
          }
          expect(taken).toEqual(Array.from({ length: sent }, (_, i) => `${i + 1}`));
          const good = machine.reports().find(({ sourceId }) => sourceId === "good");
          expect(good).toMatchObject({ accepted: sent, queuedBytes: 0, linked: true });
          // Links that go down free what they held, whatever state they were in.
          for (const linkId of [2, 4, 6]) {
            driven.input({ kind: "linkDown", linkId, code: "LINK_RESET", detail: "" });
          }
        },
      ),
      { numRuns: 300, seed: 11 },
    );
  });

  it("closes who does not register in time, and who stops amid a datum", () => {
    const { driven, machine } = acceptor(() => 100);
    for (const linkId of [2, 4]) {
      driven.input({ kind: "linkUp", linkId, direction: "inbound", remote });
    }
    driven.frames(4, register("slow"));
    driven.input({ kind: "command", command: { kind: "admit", sourceId: "slow", next: 1 } });
    driven.frames(4, datumFrame(1, [{ payload: Buffer.alloc(10) }], { total: 100 }));
    driven.nowMs += 5_100;
    driven.input({ kind: "timeout" });
    expect(driven.isClosed(2)).toBe(true);
    expect(driven.isClosed(4)).toBe(false);
    for (let i = 0; i < 4; i++) {
      driven.nowMs += 8_000;
      driven.frames(4, frameOf(R11.PONG, Buffer.alloc(8)));
      driven.input({ kind: "timeout" });
    }
    expect(driven.isClosed(4)).toBe(true);
    expect(machine.reports()[0]).toMatchObject({ accepted: 0, linked: false, queuedBytes: 0 });
  });

  it("has the place of who never sent anything and is gone for another, and no other place", () => {
    const { driven } = acceptor(() => 100);
    let links = 0;
    const came = (sourceId: string): number => {
      const linkId = 2 * ++links;
      driven.input({ kind: "linkUp", linkId, direction: "inbound", remote });
      driven.frames(linkId, register(sourceId));
      return linkId;
    };
    const goes = (linkId: number): void =>
      driven.input({ kind: "linkDown", linkId, code: "LINK_CLOSED", detail: "" });
    const admit = (sourceId: string): void =>
      driven.input({ kind: "command", command: { kind: "admit", sourceId, next: 1 } });
    const told = (kind: AcceptEvent["kind"]): string[] =>
      driven.outputs.flatMap((out) =>
        out.kind === "event" && out.event.kind === kind && "sourceId" in out.event
          ? [out.event.sourceId]
          : [],
      );
    const ids = Array.from({ length: 256 }, (_, i) => `s${i}`);
    const linkOf = new Map(ids.map((id) => [id, came(id)]));
    for (const id of ids) if (id !== "s3") admit(id);
    // All are linked.
    expect(driven.isClosed(came("early"))).toBe(true);
    driven.frames(linkOf.get("s1") as number, datumFrame(1, [{ payload: Buffer.from("x") }]));
    driven.frames(linkOf.get("s2") as number, terminate(0, 0));
    for (const id of ["s1", "s2", "s3", "s4", "s5"]) goes(linkOf.get(id) as number);
    // s0 is linked, s1 sent a datum, s2 has ended, s3 is not registered yet.
    expect(driven.isClosed(came("one"))).toBe(false);
    expect(told("forgotten")).toEqual(["s4"]);
    expect(told("register").at(-1)).toBe("one");
    expect(driven.isClosed(came("two"))).toBe(true);
    driven.nowMs += 5_000;
    expect(driven.isClosed(came("two"))).toBe(false);
    expect(told("forgotten")).toEqual(["s4", "s5"]);
    // Who was forgotten is a newcomer like any other.
    driven.nowMs += 5_000;
    expect(driven.isClosed(came("s4"))).toBe(true);
    admit("s3");
    expect(driven.isClosed(came("s4"))).toBe(false);
    expect(told("forgotten")).toEqual(["s4", "s5", "s3"]);
  });

  it("closes who does not answer PING", () => {
    const { driven, machine } = acceptor(() => 100);
    driven.input({ kind: "linkUp", linkId: 2, direction: "inbound", remote });
    driven.frames(2, register("quiet"));
    driven.input({ kind: "command", command: { kind: "admit", sourceId: "quiet", next: 1 } });
    for (let i = 0; i < 3; i++) {
      driven.nowMs += 9_000;
      driven.input({ kind: "timeout" });
    }
    const pings = driven.outputs.filter(
      (out) => out.kind === "transmit" && out.bytes[6] === R11.PING,
    );
    expect(pings.length).toBeGreaterThan(0);
    expect(driven.isClosed(2)).toBe(true);
    expect(machine.counters.deadLinks).toBe(1);
  });
});

describe("REGISTER", () => {
  it("with a number that leaves no room for others is refused, and nobody else notices", () => {
    for (const [held, isTaken] of [
      [2 ** 52, true],
      [2 ** 52 + 1, false],
      [Number.MAX_SAFE_INTEGER, false],
    ] as const) {
      const frame = register("bad", held);
      const decode = () => decodeFrame(REGISTER, frame, 0, frame.length);
      if (isTaken) expect(decode().held).toBe(held);
      else expect(decode).toThrow(expect.objectContaining({ code: "MESSAGE_MALFORMED" }));
    }
  });
});

describe("the data source", () => {
  it("takes any frames of a source peer without a crash: it goes on or says why not", () => {
    fc.assert(
      fc.property(fc.array(mutated, { maxLength: 15 }), fc.boolean(), (frames, registered) => {
        const machine = new FeedMachine({
          to: remote,
          sourceId: "a",
          dataId: "",
          contentType: "",
          description: "",
          held: 0,
          numbering: 0,
          passesLost: false,
          keepBytes: 1_000,
          maxDelayMs: 1,
          retryMs: 1_000,
          rng: seededRng(1),
          entropy: seededEntropy(seededRng(2)),
        });
        const driven = new Driven<FeedCommand, FeedEvent>(machine);
        driven.input({ kind: "command", command: { kind: "start" } });
        driven.input({ kind: "linkUp", linkId: 1, direction: "outbound", remote });
        if (registered) {
          const answer = [1, 0, 500, Buffer.alloc(16), 1];
          driven.frames(1, frameOf(R11.REGISTERED, writeMsgpack(answer)));
          const write = {
            kind: "write",
            payloads: Uint8Array.of(1, 2),
            lengths: Uint32Array.of(1, 1),
            timestampUs: undefined,
            accepted: 0,
          } as const;
          driven.input({ kind: "command", command: write });
          expect(write.accepted).toBe(2);
        }
        for (const frame of frames) {
          for (const type of [undefined, R11.ACCEPTED, R11.HELD, R11.REGISTERED]) {
            const copy = Buffer.from(frame);
            if (type !== undefined && copy.length > 6) copy[6] = type;
            driven.frames(1, copy);
          }
        }
        const failed = driven.outputs.some(
          (out) => out.kind === "event" && out.event.kind === "failed",
        );
        const lost = driven.outputs.some(
          (out) => out.kind === "event" && ["linkLost", "ended"].includes(out.event.kind),
        );
        if (driven.isClosed(1)) expect(failed || lost).toBe(true);
        // What it believes can not be more than what it wrote.
        expect(machine.held).toBeLessThan(machine.next);
      }),
      { numRuns: 400, seed: 12 },
    );
  });

  it("refuses what no REGISTER can say before it dials", () => {
    const options = {
      to: remote,
      sourceId: "",
      dataId: "",
      contentType: "",
      description: "",
      held: 0,
      numbering: 0,
      passesLost: false,
      keepBytes: 1,
      maxDelayMs: 1,
      retryMs: 1,
      rng: seededRng(1),
      entropy: seededEntropy(seededRng(2)),
    };
    expect(() => new FeedMachine(options)).toThrow(/USAGE/);
    expect(() => new FeedMachine({ ...options, sourceId: "a" })).not.toThrow(AssertionError);
    for (const numbering of [-1, 0.5, 2 ** 32, Number.NaN]) {
      expect(() => new FeedMachine({ ...options, sourceId: "a", numbering })).toThrow(/USAGE/);
    }
  });
});
