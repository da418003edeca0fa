import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { FRAME_TYPES, FRAME_VERSION } from "../../src/base/layout.ts";
import { decodeIndexFile, encodeIndexFile, indexFileBytes } from "../../src/protocol/index-file.ts";
import { OPERATIONS } from "../../src/protocol/operations.ts";
import { createProof, joinProof, takeOverProof } from "../../src/protocol/r5.ts";
import { removeProof } from "../../src/protocol/r6.ts";
import * as r10 from "../../src/protocol/r10.ts";
import * as binary from "../../src/protocol/r10-binary.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { fill, indexFile, indexFilePositions, indexFileSignature, SAMPLES } from "./samples.ts";

/** Name of a message or frame -> hex of its bytes. Changing one breaks deployed peers. */
const golden: ReadonlyMap<string, string> = new Map(
  Object.entries(
    JSON.parse(readFileSync(new URL("./golden.json", import.meta.url), "utf8")) as Record<
      string,
      string
    >,
  ),
);
/** Bytes of messages as a peer or server of before the last added fields sends them. */
const earlier = Object.entries(
  JSON.parse(readFileSync(new URL("./golden-earlier.json", import.meta.url), "utf8")) as Record<
    string,
    string
  >,
);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("golden bytes of messages", () => {
  it.each(SAMPLES)("$name: bytes, positions, and back", ({ name, message, value, positions }) => {
    const encoded = message.encode(value);
    expect(hex(encoded)).toBe(golden.get(name));
    expect(readMsgpack(encoded)).toEqual(positions);
    expect(message.decode(encoded)).toEqual(value);
  });

  it("every operation, both ways, and every frame with a msgpack body has one", () => {
    const names = new Set(SAMPLES.map((sample) => sample.name));
    for (const operation of OPERATIONS) {
      expect(names).toContain(operation.request.name);
      expect(names).toContain(operation.answer.name);
    }
    for (const message of Object.values(r10)) {
      if (typeof message === "object" && "fields" in message) expect(names).toContain(message.name);
    }
  });

  it.each(earlier)("%s: of before is read, and was only added to at the ends", (name, bytes) => {
    const sample = SAMPLES.find((each) => each.name === name);
    const before = Uint8Array.from(Buffer.from(bytes, "hex"));
    const decoded = sample?.message.decode(before) ?? {};
    expect(Object.keys(decoded)).toEqual(Object.keys(sample?.value ?? {}));
    const added = (old: unknown, now: unknown): void => {
      if (!Array.isArray(old) || !Array.isArray(now)) {
        expect(now instanceof Uint8Array ? hex(now) : now).toEqual(
          old instanceof Uint8Array ? hex(old) : old,
        );
        return;
      }
      expect(now.length).toBeGreaterThanOrEqual(old.length);
      for (const [i, value] of old.entries()) added(value, now[i]);
    };
    added(readMsgpack(before), readMsgpack(Buffer.from(golden.get(name) ?? "", "hex")));
  });

  it("JSON form of each message and back", () => {
    for (const { message, value } of SAMPLES) {
      const json: unknown = JSON.parse(JSON.stringify(message.toJson(value)));
      expect(message.fromJson(json)).toEqual(value);
    }
  });

  it("index file: signed form, body and signed bytes", () => {
    const encoded = encodeIndexFile(indexFile, indexFileSignature);
    expect(hex(encoded)).toBe(golden.get("index file"));
    const outer = readMsgpack(encoded) as Uint8Array[];
    expect(outer[1]).toEqual(indexFileSignature);
    expect(readMsgpack(outer[0] as Uint8Array)).toEqual(indexFilePositions);
    const received = decodeIndexFile(encoded);
    expect(received.file).toEqual({ ...indexFile, signature: indexFileSignature });
    const signed = Buffer.concat([Buffer.from("mp2p-index-file-1"), outer[0] as Uint8Array]);
    expect(hex(received.signedBytes)).toBe(hex(signed));
    expect(hex(indexFileBytes(indexFile))).toBe(hex(signed));
  });
});

describe("golden bytes of frames", () => {
  const tag = fill(0x7a, 8);
  const header = (type: number, bytes: number): string => {
    const frame = Buffer.alloc(8);
    frame.writeUInt32LE(bytes, 0);
    frame.set([0xb6, FRAME_VERSION, type, 0], 4);
    return frame.toString("hex");
  };

  it("a frame with a msgpack body is header and body", () => {
    const frame = r10.encodeFrame(r10.NOTIFY, { tag, index: 70_000 });
    expect(hex(frame)).toBe(header(0x0c, frame.length) + golden.get("NOTIFY"));
    expect(binary.readFrameHeader(frame, 0, frame.length)).toBe(FRAME_TYPES.NOTIFY);
  });

  const frames: [string, Uint8Array, string][] = [
    [
      "HAVE",
      binary.encodeRanges(FRAME_TYPES.HAVE, tag, 7, [7, 2, 4_294_967_296, 3]),
      `${header(0x05, 56)}7a7a7a7a7a7a7a7a0700000000000000 0200000000000000
       0700000000000000 02000000 0000000001000000 03000000`,
    ],
    [
      "HAVE without ranges",
      binary.encodeRanges(FRAME_TYPES.HAVE, tag, 9, []),
      `${header(0x05, 32)}7a7a7a7a7a7a7a7a0900000000000000 0000000000000000`,
    ],
    [
      "GET",
      binary.encodeRanges(FRAME_TYPES.GET, tag, 0, [1, 1]),
      `${header(0x06, 44)}7a7a7a7a7a7a7a7a0000000000000000 0100000000000000 0100000000000000 01000000`,
    ],
    [
      "GONE",
      binary.encodeRanges(FRAME_TYPES.GONE, tag, 0, [0, 16]),
      `${header(0x08, 44)}7a7a7a7a7a7a7a7a0000000000000000 0100000000000000 0000000000000000 10000000`,
    ],
    [
      "CANCEL",
      binary.encodeRanges(FRAME_TYPES.CANCEL, tag, 0, [5, 1]),
      `${header(0x09, 44)}7a7a7a7a7a7a7a7a0000000000000000 0100000000000000 0500000000000000 01000000`,
    ],
    [
      "CREDIT",
      binary.encodeCredit(tag, 8_192),
      `${header(0x07, 24)}7a7a7a7a7a7a7a7a 0020000000000000`,
    ],
    [
      "PING",
      binary.encodePing(FRAME_TYPES.PING, fill(9, 8)),
      `${header(0x11, 16)}0909090909090909`,
    ],
    [
      "PONG",
      binary.encodePing(FRAME_TYPES.PONG, fill(9, 8)),
      `${header(0x12, 16)}0909090909090909`,
    ],
    [
      "BUFFERMAP",
      binary.encodeBuffermap(tag, 100, 5, Uint8Array.of(0x81, 0x01)),
      `${header(0x04, 34)}7a7a7a7a7a7a7a7a 6400000000000000 05000000 02000000 8101`,
    ],
    [
      "SEAL",
      binary.encodeSeal(tag, { firstIndex: 3, leaves: fill(0x11, 64), signature: fill(0, 0) }),
      `${header(0x02, 96)}7a7a7a7a7a7a7a7a 0300000000000000 0200 20 00 00000000 ${"11".repeat(64)}`,
    ],
  ];
  it.each(frames)("%s", (_, frame, expected) => {
    expect(hex(frame)).toBe(expected.replace(/\s/g, ""));
  });
});

describe("golden bytes of signed statements", () => {
  const nonceA = fill(0xa1, 32);
  const nonceB = fill(0xb2, 32);
  const overlayId = "0f".repeat(16);

  it("HELLO: domain, step, overlay, epoch, nonces, peer ids, bindings", () => {
    const initiator = {
      overlayId,
      sessionEpoch: 258,
      nonce: nonceA,
      binding: Uint8Array.of(7),
      peerId: fill(0xc3, 32),
    };
    const responder = { ...initiator, nonce: nonceB, binding: fill(0, 0), peerId: fill(0xd4, 32) };
    expect(hex(r10.helloProof(1, initiator, responder))).toBe(
      `${Buffer.from("mp2p-r10-hello-1").toString("hex")}01${overlayId}02010000` +
        `${"a1".repeat(32)}${"b2".repeat(32)}${"c3".repeat(32)}${"d4".repeat(32)}010700`,
    );
    expect(hex(r10.helloProof(2, initiator, responder))).not.toBe(
      hex(r10.helloProof(1, initiator, responder)),
    );
  });

  it("CREATE, TAKE_OVER, JOIN and REMOVE", () => {
    expect(hex(takeOverProof(nonceA, overlayId))).toBe(
      Buffer.from("mp2p-r5-take-over-1").toString("hex") + "a1".repeat(32) + overlayId,
    );
    expect(hex(createProof(nonceA))).toBe(
      Buffer.from("mp2p-r5-create-1").toString("hex") + "a1".repeat(32),
    );
    expect(hex(joinProof(nonceA, overlayId))).toBe(
      Buffer.from("mp2p-r5-join-1").toString("hex") + "a1".repeat(32) + overlayId,
    );
    expect(hex(removeProof({ version: 513, dataSourceId: "ab", dataId: "c" }))).toBe(
      `${Buffer.from("mp2p-r6-remove-1").toString("hex")}01020000000000000261620163`,
    );
  });
});
