import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Mp2pError } from "../../src/base/errors.ts";
import {
  bool,
  bytes,
  defineMessage,
  id,
  list,
  maybe,
  oneOf,
  optional,
  pack,
  record,
  text,
  u8,
  u32,
  u53,
  word,
} from "../../src/protocol/codec.ts";
import { operationNamed, replyToJson, requestFromJson } from "../../src/protocol/operations.ts";
import { CHALLENGE, LIST_PEERS } from "../../src/protocol/r5.ts";
import { HELLO, NOTIFY } from "../../src/protocol/r10.ts";
import {
  encodeAnswer,
  encodeFailure,
  encodeRequest,
  FAILURE,
  failureError,
  readEnvelope,
} from "../../src/protocol/signalling.ts";
import { fill, SAMPLES } from "./samples.ts";

function codeOf(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof Mp2pError) return `${error.code} ${error.detail}`;
    throw error;
  }
  return "nothing thrown";
}

const ANIMAL = defineMessage({
  name: "ANIMAL",
  type: 1,
  fields: {
    kind: oneOf({ cat: 0, dog: 1 }),
    name: text(5, 1),
    key: bytes(2, 4),
    owner: id(2),
    legs: u8,
    born: u53,
    tame: bool,
    food: list(record({ what: word(["meat", "fish"]), grams: u32 }), 2),
    chip: optional(u32, 42),
    nick: maybe(text(8)),
  },
});
const cat = {
  kind: 0,
  name: "Mia",
  key: Uint8Array.of(1, 2),
  owner: "beef",
  legs: 4,
  born: Number.MAX_SAFE_INTEGER,
  tame: true,
  food: [{ what: "fish", grams: 5 }],
} as const;
const wire = (changes: Record<number, unknown> = {}): Uint8Array => {
  const positions: unknown[] = [
    0,
    "Mia",
    Uint8Array.of(1, 2),
    Uint8Array.of(0xbe, 0xef),
    4,
    7,
    true,
    [["fish", 5]],
    1,
    null,
  ];
  for (const [at, value] of Object.entries(changes)) positions[Number(at)] = value;
  return pack(positions);
};

describe("codec", () => {
  it("takes messages with optional fields left out and gives them with all", () => {
    expect(ANIMAL.decode(ANIMAL.encode(cat))).toEqual({ ...cat, chip: 42, nick: undefined });
  });

  it("skips positions it does not know, also in nested records", () => {
    const newer = wire({ 7: [["meat", 9, "raw", [1]]], 10: "new", 11: [1, 2] });
    expect(ANIMAL.decode(newer)).toMatchObject({ food: [{ what: "meat", grams: 9 }], chip: 1 });
  });

  it("defaults optional fields that an older sender does not know", () => {
    const older = pack([1, "Rex", fill(1, 2), fill(2, 2), 4, 7, false, []]);
    expect(ANIMAL.decode(older)).toMatchObject({ name: "Rex", chip: 42, nick: undefined });
  });

  it.each([
    ["kind", { 0: 2 }],
    ["kind", { 0: "cat" }],
    ["name", { 1: "" }],
    ["name", { 1: "Garfield" }],
    ["name", { 1: "ééé" }],
    ["key", { 2: fill(0, 1) }],
    ["key", { 2: fill(0, 5) }],
    ["key", { 2: "ab" }],
    ["owner", { 3: fill(0, 3) }],
    ["legs", { 4: 256 }],
    ["legs", { 4: -1 }],
    ["legs", { 4: null }],
    ["tame", { 6: 1 }],
    ["food", { 7: [["hay", 1]] }],
    ["food", { 7: [["fish"]] }],
    [
      "food",
      {
        7: [
          ["fish", 1],
          ["fish", 1],
          ["fish", 1],
        ],
      },
    ],
    ["chip", { 8: "x" }],
    ["nick", { 9: 3 }],
  ])("refuses a wrong %s and names it: %j", (field, changes) => {
    expect(codeOf(() => ANIMAL.decode(wire(changes)))).toBe(
      `MESSAGE_MALFORMED ANIMAL.${field} does not fit`,
    );
  });

  it("refuses a message with too few fields, and what the pre-scan refuses", () => {
    expect(codeOf(() => ANIMAL.decode(pack([0, "Mia"])))).toMatch(/^MESSAGE_MALFORMED ANIMAL has/);
    expect(codeOf(() => ANIMAL.decode(Uint8Array.of(0x91)))).toMatch(/^MESSAGE_MALFORMED ANIMAL: /);
  });

  it("never sends what its reader would refuse", () => {
    expect(codeOf(() => ANIMAL.encode({ ...cat, name: "" }))).toBe(
      "USAGE ANIMAL.name does not fit",
    );
    expect(codeOf(() => ANIMAL.encode({ ...cat, name: "\ud800" }))).toMatch(/^USAGE/);
    expect(codeOf(() => ANIMAL.encode({ ...cat, owner: "xyz" }))).toMatch(/^USAGE ANIMAL.owner/);
    expect(codeOf(() => ANIMAL.encode({ ...cat, born: 2 ** 53 }))).toMatch(/^USAGE ANIMAL.born/);
    expect(codeOf(() => ANIMAL.encode({ ...cat, born: 1.5 }))).toMatch(/^USAGE ANIMAL.born/);
  });

  it("gives bytes as copies", () => {
    const memory = wire();
    const animal = ANIMAL.decode(memory);
    memory.fill(0xff);
    expect(animal.key).toEqual(Uint8Array.of(1, 2));
    expect(animal.key.constructor).toBe(Uint8Array);
  });

  it("encodes into bytes that the packer does not touch again", () => {
    const first = ANIMAL.encode(cat);
    const copy = Uint8Array.from(first);
    for (let i = 0; i < 1_000; i++) ANIMAL.encode({ ...cat, name: "Leo" });
    expect(first).toEqual(copy);
    expect(first.buffer.byteLength).toBe(first.length);
  });

  it("refuses an index beyond the last there is", () => {
    const tag = fill(0x7a, 8);
    const last = Number.MAX_SAFE_INTEGER - 1;
    expect(NOTIFY.decode(NOTIFY.encode({ tag, index: last })).index).toBe(last);
    const beyond = pack([tag, last + 1]);
    expect(codeOf(() => NOTIFY.decode(beyond))).toBe("MESSAGE_MALFORMED NOTIFY.index does not fit");
  });

  it("drops candidates of transports it does not know", () => {
    const sample = SAMPLES.find((entry) => entry.name === "HELLO");
    const positions = [...(sample?.positions ?? [])];
    positions[10] = [
      ["webrtc", "x", 1],
      ["tcp", "h", 2],
    ];
    expect(HELLO.decode(pack(positions)).listen).toEqual([
      { transport: "tcp", host: "h", port: 2 },
    ]);
  });

  it("JSON: own properties only, unknown names ignored, wrong ones named", () => {
    const json = { ...ANIMAL.toJson({ ...cat, chip: 1, nick: undefined }), more: 1 };
    expect(ANIMAL.fromJson(json)).toMatchObject({ name: "Mia" });
    expect(codeOf(() => ANIMAL.fromJson(Object.create(json)))).toMatch(/^MESSAGE_MALFORMED/);
    expect(codeOf(() => ANIMAL.fromJson(null))).toMatch(/^MESSAGE_MALFORMED/);
    expect(codeOf(() => ANIMAL.fromJson([]))).toMatch(/^MESSAGE_MALFORMED/);
    expect(codeOf(() => ANIMAL.fromJson({ ...json, key: "0g" }))).toMatch(/ANIMAL.key/);
  });

  it("every message survives every cut and any changed byte", () => {
    for (const { message, value } of SAMPLES) {
      const encoded = message.encode(value);
      for (let cut = 0; cut < encoded.length; cut++) {
        expect(codeOf(() => message.decode(encoded.slice(0, cut)))).toMatch(/^MESSAGE_MALFORMED/);
      }
    }
    const samples = fc.constantFrom(...SAMPLES);
    fc.assert(
      fc.property(samples, fc.nat(), fc.nat(255), ({ message, value }, at, byte) => {
        const encoded = message.encode(value);
        encoded[at % encoded.length] = byte;
        expect(codeOf(() => message.decode(encoded))).toMatch(/^(nothing|MESSAGE_MALFORMED)/);
      }),
      { numRuns: 5_000 },
    );
    expect(Object.keys(Object.prototype)).toEqual([]);
  });
});

describe("signalling envelope", () => {
  const request = encodeRequest(CHALLENGE, 77, {});
  const answer = encodeAnswer(CHALLENGE, 77, { nonce: fill(1, 32) });

  it("golden bytes", () => {
    expect(Buffer.from(request).toString("hex")).toBe("92404d");
    expect(Buffer.from(answer).toString("hex")).toBe(`93ccc04dc420${"01".repeat(32)}`);
    const failure = encodeFailure(9, { code: "OVERLOADED", detail: "x", retryAfterMs: 300 });
    expect(Buffer.from(failure).toString("hex")).toBe(
      `96ccff09aa${Buffer.from("OVERLOADED").toString("hex")}a178cd012c00`,
    );
  });

  it("opens requests, answers and failures", () => {
    expect(readEnvelope(request, 0, 3)).toMatchObject({
      kind: "request",
      type: 0x40,
      requestId: 77,
    });
    const opened = readEnvelope(answer, 0, answer.length);
    expect(opened).toMatchObject({ kind: "answer", type: 0x40, requestId: 77 });
    expect(CHALLENGE.answer.fromPositions(opened.positions).nonce).toEqual(fill(1, 32));
    const bytes = encodeFailure(9, { code: "OVERLOADED", detail: "d".repeat(999) });
    const failed = readEnvelope(bytes, 0, bytes.length);
    expect(failed).toMatchObject({ kind: "failure", requestId: 9 });
    expect(failureError(FAILURE.fromPositions(failed.positions)).code).toBe("OVERLOADED");
    expect(failureError({ code: "NEW_CODE", detail: "", retryAfterMs: 0, whenUs: 0 }).code).toBe(
      "INTERNAL",
    );
  });

  it.each([
    [pack([])],
    [pack([0x40])],
    [pack(["x", 1])],
    [pack([0, 1])],
    [pack([0x80, 1])],
    [pack([0x7f, 1])],
    [pack([256, 1])],
    [pack([0x40, -1])],
    [pack([0x40, 2 ** 32])],
    [Uint8Array.of(0xc1)],
  ])("refuses a malformed one", (bytes) => {
    expect(codeOf(() => readEnvelope(bytes, 0, bytes.length))).toMatch(/^MESSAGE_MALFORMED/);
  });

  it("refuses one that is too large before reading it", () => {
    const large = new Uint8Array(65_537);
    expect(codeOf(() => readEnvelope(large, 0, large.length))).toMatch(/^FRAME_TOO_LARGE/);
  });

  it("the same operations as JSON", () => {
    const json = {
      overlayId: "0f".repeat(16),
      peerId: "1e".repeat(32),
      memberToken: "5a".repeat(16),
      maxPeers: 3,
    };
    const message = requestFromJson("r5/list", 5, json);
    const opened = readEnvelope(message, 0, message.length);
    expect(LIST_PEERS.request.fromPositions(opened.positions)).toMatchObject({ maxPeers: 3 });
    expect(replyToJson(answer)).toEqual({ ok: true, body: { nonce: "01".repeat(32) } });
    expect(replyToJson(encodeFailure(1, { code: "NOT_OWNER", detail: "" }))).toMatchObject({
      ok: false,
      body: { code: "NOT_OWNER" },
    });
    expect(codeOf(() => requestFromJson("r5/nothing", 1, {}))).toMatch(/^MESSAGE_UNKNOWN/);
    expect(codeOf(() => requestFromJson("__proto__", 1, {}))).toMatch(/^MESSAGE_UNKNOWN/);
    expect(codeOf(() => requestFromJson("r5/list", 1, {}))).toMatch(/^MESSAGE_MALFORMED/);
    expect(operationNamed("r5/list")).toBe(LIST_PEERS);
  });
});
