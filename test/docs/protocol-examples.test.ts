/** The examples in hex of docs/protocol.md are what independent code and the engine read and write. */

import { describe, expect, test } from "vitest";
import * as limits from "../../src/base/limits.ts";
import { OPERATIONS } from "../../src/protocol/operations.ts";
import { registerProof } from "../../src/protocol/r2.ts";
import { createProof, joinProof, takeOverProof } from "../../src/protocol/r5.ts";
import { removeProof } from "../../src/protocol/r6.ts";
import * as r10 from "../../src/protocol/r10.ts";
import * as binary from "../../src/protocol/r10-binary.ts";
import * as r11 from "../../src/protocol/r11.ts";
import { FAILURE, readEnvelope } from "../../src/protocol/signalling.ts";
import { decodeFragment } from "../support/fragment-decoder.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { datumFrame, R11, type RawDatum } from "../support/raw-data-source.ts";
import { block, bytesOf, page } from "./protocol-page.ts";
import * as wire from "./wire.ts";

const OVERLAY = Buffer.from("000102030405060708090a0b0c0d0e0f", "hex");
const tag = wire.overlayTag(OVERLAY, 1);

const examples = page.blocks
  .filter(({ info }) => info.startsWith("hex "))
  .map((each) => ({ label: each.info.slice(4), bytes: bytesOf(each) }));

describe("examples in hex", () => {
  const frames = examples.filter(({ label }) => label in wire.TYPES);

  test("each is whole hex, and every R10 frame has one", () => {
    for (const { info, text } of page.blocks) {
      if (info.startsWith("hex ")) expect(text.replace(/\s/g, "")).toMatch(/^([0-9a-f]{2})+$/);
    }
    expect(new Set(frames.map(({ label }) => label))).toEqual(new Set(Object.keys(wire.TYPES)));
  });

  test.each(frames)("frame $label: read by independent code and by the engine", (example) => {
    const { label, bytes } = example;
    const found: wire.RawFrame[] = [];
    expect(wire.splitFrames(bytes, (raw) => found.push(raw))).toHaveLength(0);
    expect(found.map(({ type }) => type)).toEqual([wire.TYPES[label as wire.TypeName]]);
    expect(binary.readFrameHeader(bytes, 0, bytes.length)).toBe(found[0]?.type);
    const message = Object.values(r10).find(
      (each) => typeof each === "object" && "name" in each && each.name === label,
    ) as typeof r10.BYE | undefined;
    if (message !== undefined) {
      expect(readMsgpack(bytes.subarray(8))).toHaveLength(Object.keys(message.fields).length);
      const decoded = r10.decodeFrame(message, bytes, 0, bytes.length);
      expect(Buffer.from(r10.encodeFrame(message, decoded))).toEqual(bytes);
      if (label !== "HELLO" && label !== "ERROR") expect(Buffer.from(decoded.tag)).toEqual(tag);
    } else if (label !== "PING" && label !== "PONG") {
      expect(bytes.subarray(label === "DATA" ? 16 : 8).subarray(0, 8)).toEqual(tag);
    }
  });

  test("DATA: checksum, records and the datum over two fragments", () => {
    const fragments = frames
      .filter(({ label }) => label === "DATA")
      .map(({ bytes }) => {
        expect(bytes.readUInt32LE(8)).toBe(wire.crc32c(bytes.subarray(12)));
        return decodeFragment(bytes);
      });
    expect(wire.crc32c(Buffer.from("123456789"))).toBe(0xe306_9283);
    const texts = fragments.map(({ index, isEnd, data }) => [
      index,
      isEnd,
      ...data.map((datum) => `${datum.sequence} ${Buffer.from(datum.payload)}`),
    ]);
    expect(texts).toEqual([
      [20, false, "7 21", "8 22"],
      [21, false, "9 big"],
      [22, true, "9 ger"],
    ]);
    expect(fragments[2]?.ended).toEqual(new Map([["t", 9]]));
    const times = fragments[0]?.data.map(({ timestampUs }) => timestampUs) as [number, number];
    expect(times[1] - times[0]).toBe(1000);
  });

  test("BUFFERMAP and ranges", () => {
    const raw = (label: string): wire.RawFrame => ({ type: 0, bytes: bytesOf(block(label)) });
    expect(wire.readBuffermap(raw("BUFFERMAP"))).toEqual({
      start: 16,
      held: [16, 17, 18, 19, 21, 23, 36],
    });
    for (const label of ["HAVE", "GET", "GONE", "CANCEL"]) {
      const into = new Float64Array(2 * limits.RANGES_PER_FRAME_MAX);
      const { bytes } = raw(label);
      const pairs = binary.readRanges(bytes, 0, bytes.length, into);
      expect(wire.readRanges(raw(label)).ranges.flat()).toEqual([...into.subarray(0, 2 * pairs)]);
    }
  });

  test("the handshake: keys, proofs and signatures", () => {
    const [open, answer, confirm] = frames
      .filter(({ label }) => label === "HELLO")
      .map(({ bytes }) => wire.readHello({ type: 3, bytes })) as [
      wire.HelloFields,
      wire.HelloFields,
      wire.HelloFields,
    ];
    expect([open.step, answer.step, confirm.step]).toEqual([0, 1, 2]);
    const opener = { nonce: open.nonce, peerId: wire.sha256(open.publicKey) };
    const answerer = { nonce: answer.nonce, peerId: wire.sha256(answer.publicKey) };
    const first = wire.helloProof(1, OVERLAY, 1, opener, answerer);
    expect(bytesOf(block("helloProof"))).toEqual(first);
    expect(wire.isSigned(answer.publicKey, first, answer.signature)).toBe(true);
    const second = wire.helloProof(2, OVERLAY, 1, opener, answerer);
    expect(wire.isSigned(open.publicKey, second, confirm.signature)).toBe(true);
    expect(wire.isSigned(open.publicKey, first, confirm.signature)).toBe(false);
    const side = (one: wire.HelloSide): r10.HelloProofSide => ({
      ...one,
      overlayId: OVERLAY.toString("hex"),
      sessionEpoch: 1,
      binding: new Uint8Array(0),
    });
    expect(Buffer.from(r10.helloProof(1, side(opener), side(answerer)))).toEqual(first);
    const parts = page
      .section("HELLO")
      .tables[1]?.rows.map((row) => Number.parseInt(`${row[1]}`, 10));
    expect(parts?.reduce((sum, part) => sum + part, 0)).toBe(first.length);
  });

  test("statements that are signed, the index file, and signalling", () => {
    const nonce = Buffer.alloc(32, 0xaa);
    expect(bytesOf(block("createProof"))).toEqual(Buffer.from(createProof(nonce)));
    const join = Buffer.from(joinProof(nonce, OVERLAY.toString("hex")));
    expect(bytesOf(block("joinProof"))).toEqual(join);
    const takeOver = Buffer.from(takeOverProof(nonce, OVERLAY.toString("hex")));
    expect(bytesOf(block("takeOverProof"))).toEqual(takeOver);
    const register = Buffer.from(registerProof(nonce, OVERLAY.toString("hex")));
    expect(bytesOf(block("registerProof"))).toEqual(register);
    const statement = { version: 4, dataSourceId: "t", dataId: "2014" };
    expect(bytesOf(block("removeProof"))).toEqual(Buffer.from(removeProof(statement)));
    const file = wire.readIndexFile(bytesOf(block("indexFile")));
    expect(file).toMatchObject({ title: "Seattle", delivery: "complete" });
    for (const { label, bytes } of examples) {
      const [name = "", kind] = label.split(" ");
      const operation = OPERATIONS.find((each) => each.name === name);
      if (operation === undefined && label !== "failure") continue;
      const envelope = readEnvelope(bytes, 0, bytes.length);
      const message =
        operation === undefined ? FAILURE : operation[kind === "answer" ? kind : "request"];
      expect(() => message.fromPositions(envelope.positions)).not.toThrow();
      const [type, id] = readMsgpack(bytes) as number[];
      expect(type).toBe(message.type);
      expect(id).toBe(envelope.requestId);
    }
  });

  test("links of data sources: read and written by independent code and by the engine", () => {
    const r11Examples = examples
      .filter(({ label }) => label.startsWith("R11 "))
      .map(({ label, bytes }) => ({ name: label.slice(4), bytes }));
    const messages = [r11.REGISTER, r11.REGISTERED, r11.ACCEPTED, r11.HELD, r11.TERMINATE];
    for (const { name, bytes } of r11Examples) {
      expect(bytes.readUInt32LE(0)).toBe(bytes.length);
      expect(binary.readFrameHeader(bytes, 0, bytes.length)).toBe(
        R11[name as keyof typeof R11] as number,
      );
      const message = messages.find((each) => each.name === name) as typeof r11.HELD | undefined;
      if (message === undefined) continue;
      expect(readMsgpack(bytes.subarray(8))).toHaveLength(Object.keys(message.fields).length);
      const decoded = r10.decodeFrame(message, bytes, 0, bytes.length);
      expect(Buffer.from(r10.encodeFrame(message, decoded))).toEqual(bytes);
    }
    const data = r11Examples.filter(({ name }) => name === "DATUM").map(({ bytes }) => bytes);
    const datum = (text: string): RawDatum => ({ payload: Buffer.from(text) });
    expect(data).toEqual([
      datumFrame(1, [datum("21"), { ...datum("22"), deltaUs: 1_000 }], {
        baseUs: 1_700_000_000_000_000,
      }),
      datumFrame(3, [datum("big")], { total: 6 }),
      datumFrame(3, [datum("ger")], { total: 6, offset: 3 }),
    ]);
    const frame = new r11.DatumFrame();
    const read = data.map((bytes) => {
      r11.readDatumFrame(bytes, 0, bytes.length, frame);
      const { first, timestampUs, totalBytes, offset, count } = frame;
      const again = r11.encodeDatumFrame(
        { first, timestampUs, totalBytes, offset },
        bytes.subarray(frame.payloadOffset),
        frame.lengths,
        frame.deltasUs,
        count,
      );
      expect(Buffer.from(again)).toEqual(bytes);
      return [first, count, totalBytes, offset];
    });
    expect(read).toEqual([
      [1, 2, 0, 0],
      [3, 1, 6, 0],
      [3, 1, 6, 3],
    ]);
    expect(new Set(r11Examples.map(({ name }) => name)).size).toBe(6);
  });

  test("no other example", () => {
    const known = [
      "helloProof",
      "createProof",
      "joinProof",
      "takeOverProof",
      "removeProof",
      "registerProof",
      "indexFile",
      "failure",
    ];
    for (const { label } of examples) {
      const ok =
        label in wire.TYPES ||
        known.includes(label) ||
        label.startsWith("R11 ") ||
        OPERATIONS.some((each) => each.name === label.replace(/ answer$/, ""));
      expect(ok, label).toBe(true);
    }
  });
});
