/** The tables, numbers and examples of docs/protocol.md agree with what the engine does. */

import { describe, expect, test } from "vitest";
import { ERRORS, type ErrorCode } from "../../src/base/errors.ts";
import * as layout from "../../src/base/layout.ts";
import * as limits from "../../src/base/limits.ts";
import { defineMessage, type Field } from "../../src/protocol/codec.ts";
import { decodeIndexFile } from "../../src/protocol/index-file.ts";
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
import { writeMsgpack } from "../support/msgpack-writer.ts";
import { datumFrame, R11, type RawDatum } from "../support/raw-data-source.ts";
import { type CodeBlock, readPage, type Section, type Table } from "./page.ts";
import * as wire from "./wire.ts";

const page = readPage("protocol.md");
const OVERLAY = Buffer.from("000102030405060708090a0b0c0d0e0f", "hex");
const tag = wire.overlayTag(OVERLAY, 1);

/** Offsets of a byte table by field. */
function offsets(table: Table | undefined): Record<string, number> {
  expect(table?.head).toEqual(["at", "size", "field", "value"]);
  return Object.fromEntries(table?.rows.map(([at, , field]) => [field, Number(at)]) ?? []);
}

/** That each field of a byte table ends where the next begins. */
function expectContiguous(table: Table): void {
  let end = Number(table.rows[0]?.[0]);
  for (const [at, size, field] of table.rows) {
    expect(Number(at), field).toBe(end);
    end += Number(size);
  }
}

describe("byte tables", () => {
  test("every one is without holes", () => {
    const tables = page.sections.flatMap((section) => section.tables);
    const bytes = tables.filter(({ head }) => head[0] === "at");
    expect(bytes.length).toBe(12);
    for (const table of bytes) expectContiguous(table);
  });

  test("the frame header and types", () => {
    const { tables, blocks } = page.section("Frames");
    expect(blocks).toEqual([]);
    expect(offsets(tables[0])).toEqual({
      length: layout.FRAME_LENGTH,
      magic: layout.FRAME_MAGIC_AT,
      version: layout.FRAME_VERSION_AT,
      type: layout.FRAME_TYPE,
      flags: layout.FRAME_FLAGS,
    });
    expect(Number(tables[0]?.rows[1]?.[3])).toBe(layout.FRAME_MAGIC);
    expect(Number(tables[0]?.rows[2]?.[3])).toBe(layout.FRAME_VERSION);
    const types = tables[1]?.rows.map(([type, name]) => [name, Number(type)]) ?? [];
    const r10Types = Object.entries(layout.FRAME_TYPES).filter(([, type]) => type < 0x20);
    expect(types).toEqual(r10Types);
    for (const [name, type] of Object.entries(layout.FRAME_TYPES)) {
      if (type >= 0x20) expect(page.section(name).tables.length).toBe(1);
    }
    expect(wire.TYPES).toEqual(Object.fromEntries(r10Types));
  });

  test("DATA and its records", () => {
    const [data, source, datum, slice, end] = page.section("DATA").tables;
    expect(offsets(data)).toEqual({
      checksum: layout.DATA_CHECKSUM,
      "fragment flags": layout.DATA_FLAGS,
      "record count": layout.DATA_RECORD_COUNT,
      tag: layout.DATA_TAG,
      index: layout.DATA_INDEX,
      created: layout.DATA_CREATED_US,
      records: layout.DATA_HEADER_BYTES,
    });
    expect(offsets(source)).toMatchObject({
      "id bytes": layout.SOURCE_ID_BYTES_AT,
      "type bytes": layout.SOURCE_CONTENT_TYPE_BYTES_AT,
      numbering: layout.SOURCE_NUMBERING,
      "base sequence": layout.SOURCE_BASE_SEQUENCE,
      "base timestamp": layout.SOURCE_BASE_TIMESTAMP,
      "id, content type": layout.SOURCE_HEADER_BYTES,
    });
    expect(offsets(datum)).toMatchObject({
      kind: layout.RECORD_KIND,
      "source number": layout.RECORD_SOURCE_NUMBER,
      "payload bytes": layout.DATUM_PAYLOAD_BYTES,
      timestamp: layout.DATUM_TIMESTAMP,
      payload: layout.DATUM_HEADER_BYTES,
    });
    expect(offsets(slice)).toMatchObject({
      "slice flags": layout.DATUM_FLAGS,
      offset: layout.SLICE_OFFSET,
      total: layout.SLICE_TOTAL_BYTES,
      payload: layout.SLICE_HEADER_BYTES,
    });
    expect(offsets(end)).toMatchObject({ "last sequence": layout.SOURCE_END_LAST_SEQUENCE });
    const kinds = [source, datum, slice, end].map((table) => Number(table?.rows[0]?.[3]));
    expect(kinds).toEqual([
      layout.RECORD_KIND_SOURCE,
      layout.RECORD_KIND_DATUM,
      layout.RECORD_KIND_SLICE,
      layout.RECORD_KIND_SOURCE_END,
    ]);
  });

  test("control frames of fixed layout", () => {
    expect(offsets(page.section("BUFFERMAP").tables[0])).toEqual({
      tag: layout.BUFFERMAP_TAG,
      start: layout.BUFFERMAP_START,
      run: layout.BUFFERMAP_RUN,
      "bytes of bits": layout.BUFFERMAP_BITS_BYTES,
      bits: layout.BUFFERMAP_HEADER_BYTES,
    });
    expect(offsets(page.section("HAVE, GET, GONE, CANCEL").tables[0])).toEqual({
      tag: layout.RANGES_TAG,
      start: layout.RANGES_START,
      ranges: layout.RANGES_COUNT,
      flags: layout.RANGES_FLAGS,
      list: layout.RANGES_HEADER_BYTES,
    });
    expect(offsets(page.section("CREDIT").tables[0])).toEqual({
      tag: layout.CREDIT_TAG,
      limit: layout.CREDIT_LIMIT,
    });
    expect(offsets(page.section("DATUM").tables[0])).toEqual({
      sequence: layout.DATUM_FRAME_SEQUENCE,
      "base timestamp": layout.DATUM_FRAME_TIMESTAMP,
      count: layout.DATUM_FRAME_COUNT,
      total: layout.DATUM_FRAME_TOTAL_BYTES,
      offset: layout.DATUM_FRAME_OFFSET,
      reserved: layout.DATUM_FRAME_RESERVED,
      "table, payloads": layout.DATUM_FRAME_HEADER_BYTES,
    });
    expect(offsets(page.section("SEAL").tables[0])).toEqual({
      tag: layout.SEAL_TAG,
      "first index": layout.SEAL_FIRST_INDEX,
      count: layout.SEAL_COUNT,
      "bytes of a leaf": layout.SEAL_LEAF_BYTES_AT,
      "bytes of the signature": layout.SEAL_SIGNATURE_BYTES_AT,
      reserved: layout.SEAL_SIGNATURE_BYTES_AT + 1,
      "leaves, signature": layout.SEAL_HEADER_BYTES,
    });
    expect(offsets(page.section("PING, PONG").tables[0])).toEqual({ token: layout.PING_TOKEN });
  });
});

// ----------------------------------------------------------------------------------------- fields

type Fields = Readonly<Record<string, Field<unknown>>>;

const SAMPLES: Readonly<Record<string, unknown>> = {
  peerId: Buffer.alloc(32),
  overlayId: Buffer.alloc(16),
  role: 1,
  candidates: [],
  reach: 1,
  activity: 1,
  silentMs: 9,
  heldStart: 0,
  heldEnd: 9,
  missing: 0,
  lagMs: 0,
  contributionPermille: 0,
  rateBytesPerSecond: 0,
  uploadBytesPerSecond: 0,
  spareBytesPerSecond: 0,
  links: 1,
  bytesFrom: 0,
  bytesTo: 0,
  sessionEpoch: 1,
  sourcePeerId: Buffer.alloc(32),
  createdUs: 1,
  members: 1,
  inbound: 1,
  outboundOnly: 0,
  pams: true,
  dataSourceId: "s",
  dataId: "d",
  title: "t",
  version: 1,
  whenUs: 0,
  cacheServerId: Buffer.alloc(32),
  label: "c",
  linked: true,
  virtualPeers: 1,
  places: 4,
  assigned: 0,
};

/** A whole status, of the least that each of its rows allows. */
const STATUS = [Buffer.alloc(16), Buffer.alloc(32), 5, ...new Array(15).fill(0), []];

const bound = (text: string): number =>
  text.startsWith("2^") ? 2 ** Number(text.slice(2, 4)) + Number(text.slice(4)) : Number(text);

/** Wire values that a type of the page allows, and that it does not. */
function samplesOf(type: string): { good: unknown[]; bad: unknown[] } {
  const list = /^list of (.+), at most (\d+)$/.exec(type);
  if (list !== null) {
    const item = itemOf(list[1] as string);
    const max = Number(list[2]);
    const of = (count: number): unknown[] => Array.from({ length: count }, () => item);
    return { good: [of(0), of(max)], bad: [of(max + 1), [null], 7] };
  }
  const [kind, range = ""] = type.split(" ");
  const [low = 0, high = 0] = range.split("..").map(bound);
  const top = range.includes("..") ? high : low;
  const numbers = (min: number, max: number): { good: unknown[]; bad: unknown[] } => ({
    good: [min, max],
    bad: [min - 1, max + 1, "1", null],
  });
  switch (kind) {
    case "overlay":
      return { good: [Buffer.alloc(16)], bad: [Buffer.alloc(15), Buffer.alloc(17), "0", null] };
    case "peer":
      return { good: [Buffer.alloc(32)], bad: [Buffer.alloc(31), Buffer.alloc(33), null] };
    case "bytes":
      return {
        good: [Buffer.alloc(low), Buffer.alloc(top)],
        bad: [Buffer.alloc(top + 1), "", ...(low > 0 ? [Buffer.alloc(low - 1)] : [])],
      };
    case "text":
      return {
        good: ["a".repeat(low), "a".repeat(high), "ä".repeat(high >> 1)],
        bad: ["a".repeat(high + 1), 7, ...(low > 0 ? ["a".repeat(low - 1)] : [])],
      };
    case "u32":
    case "ms":
      return numbers(0, 2 ** 32 - 1);
    case "u53":
      return numbers(0, 2 ** 53 - 1);
    case "int":
      return numbers(low, high);
    case "role":
      return numbers(0, 2);
    case "bool":
      return { good: [true, false], bad: [1, "true"] };
    default:
      throw new Error(`type ${type}`);
  }
}

function itemOf(type: string): unknown {
  const record = /^\((.+)\)$/.exec(type);
  if (record?.[1] === "status") return STATUS;
  if (record !== null) return (record[1] as string).split(", ").map((name) => SAMPLES[name]);
  if (type === "address") return ["tcp", "192.0.2.1", 1];
  if (type === "candidate") return ["tcp", "192.0.2.1", 1, 2];
  return samplesOf(type).good.at(-1);
}

function expectFields(name: string, rows: readonly (readonly string[])[], fields: Fields): void {
  expect(
    rows.map((row) => row[1]),
    name,
  ).toEqual(Object.keys(fields));
  for (const row of rows) {
    const field = fields[row[1] as string] as Field<unknown>;
    const type = (row[2] as string).replace(/ \?$/, "");
    expect(field.optional, `${name}.${row[1]}`).toBe(row[2] !== type);
    const alone = defineMessage({ name, type: 1, fields: { alone: field } });
    const words = /^text$/.test(type) ? [...(row[3] as string).matchAll(/`(\w+)`/g)] : [];
    const { good, bad } =
      words.length > 0
        ? { good: words.map((word) => word[1]), bad: ["other", 1] }
        : samplesOf(type);
    for (const value of good) expect(() => alone.fromPositions([value])).not.toThrow();
    for (const value of bad) {
      if (value === null && field.optional) continue;
      expect(() => alone.fromPositions([value]), `${name}.${row[1]} ${type}`).toThrow();
    }
  }
}

describe("field tables", () => {
  const messages = [
    r10.HELLO,
    r10.PARTNER,
    r10.ACCEPT,
    r10.NOTIFY,
    r10.REFRESH,
    r10.BUSY,
    r10.BYE,
    r10.ERROR,
    r11.REGISTER,
    r11.REGISTERED,
    r11.ACCEPTED,
    r11.HELD,
    r11.TERMINATE,
  ];
  test.each(messages)("frame $name", ({ name, fields }) => {
    const [table] = page.section(name).tables;
    expect(table?.head).toEqual(["#", "field", "type", "meaning"]);
    expect(table?.rows.map((row) => Number(row[0]))).toEqual(table?.rows.map((_, i) => i));
    expectFields(name, table?.rows ?? [], fields as unknown as Fields);
  });

  test.each(OPERATIONS.map((operation) => ({ ...operation })))("operation $name", (operation) => {
    const type = `0x${operation.type.toString(16)}`;
    const [table] = page.section(`${operation.name} ${type}`).tables;
    expect(table?.head).toEqual(["", "field", "type", "meaning"]);
    const rows = (side: string) => table?.rows.filter((row) => row[0] === side) ?? [];
    expectFields(operation.name, rows("Q"), operation.request.fields);
    expectFields(operation.name, rows("A"), operation.answer.fields);
    expect(rows("Q").length + rows("A").length).toBe(table?.rows.length);
  });

  test("no operation stands on the page that is not there", () => {
    const headings = page.sections.filter(({ level }) => level === 4);
    const operations = headings.filter(({ heading }) => heading.includes(" 0x"));
    expect(operations.length).toBe(OPERATIONS.length);
  });

  test("the index file, by a file that each row's type allows and forbids", () => {
    const rows = page.section("Index file").tables[0]?.rows ?? [];
    const encoded = bytesOf(block("indexFile"));
    const { file } = decodeIndexFile(encoded);
    const { signature, ...body } = file;
    expect(rows.map((row) => row[1])).toEqual(Object.keys(body));
    expect(signature).toHaveLength(64);
    const [positions, sig] = readMsgpack(encoded) as [Uint8Array, Uint8Array];
    const values = readMsgpack(positions) as never[];
    const decode = (i: number, value: unknown): unknown => {
      const changed = values.map((old, at) => (at === i ? value : old)) as never[];
      return decodeIndexFile(writeSigned(changed, sig)).file;
    };
    for (const [i, row] of rows.entries()) {
      const type = row[2] as string;
      const words = [...(row[3] as string).matchAll(/`(\w+)`/g)].map((word) => word[1]);
      const { good, bad } = type === "text" ? { good: words, bad: ["other"] } : samplesOf(type);
      // A later format is refused by another rule.
      for (const value of i === 0 ? [1] : good) expect(() => decode(i, value)).not.toThrow();
      for (const value of bad) {
        if (typeof value === "number" && !(value >= 0 && value < 2 ** 53)) continue;
        expect(() => decode(i, value), `${row[1]} ${String(value)}`).toThrow();
      }
    }
  });
});

// ---------------------------------------------------------------------------------------- numbers

describe("numbers and codes", () => {
  const n = (value: number): string => value.toLocaleString("en-US");
  const seconds = (ms: number): string => `${ms / 1000} s`;
  test.each([
    `more than ${limits.MSGPACK_DEPTH_MAX} levels`,
    `more than ${n(limits.MSGPACK_ELEMENTS_MAX)} array elements`,
    `A frame has at most ${n(limits.FRAME_BYTES_MAX)} bytes`,
    `other than DATA and BUFFERMAP at most ${n(limits.CONTROL_FRAME_BYTES_MAX)}`,
    `at most ${limits.SOURCES_MAX} SOURCE records`,
    `1 to ${limits.SOURCE_ID_BYTES_MAX}`,
    `0 to ${limits.CONTENT_TYPE_BYTES_MAX}`,
    `at most ${n(limits.DATUM_BYTES_MAX)}`,
    `at most ${n(limits.WINDOW_FRAGMENTS_MAX / 8)}; 0: no holes`,
    `1 to ${limits.RANGES_PER_FRAME_MAX}; HAVE also 0`,
    `when ${limits.HAVE_BATCH_FRAGMENTS} have gathered or the oldest has waited ${limits.HAVE_DELAY_MS} ms`,
    `to the others after ${limits.HAVE_DELAY_MS_MAX} ms`,
    `within ${seconds(limits.HANDSHAKE_TIMEOUT_MS)} of connecting`,
    `heard nothing for ${seconds(limits.PING_MS)} sends PING`,
    `heard nothing for ${seconds(limits.LINK_DEAD_MS)} closes`,
    `did not move for ${seconds(limits.LINK_SLOW_MS)} close it`,
    `At most ${limits.LINK_QUEUE_BYTES_MAX / 2 ** 20} MiB of DATA`,
    `floor(i / ${limits.SUBSTREAM_RUN}) mod substreams`,
    `1 to ${limits.SUBSTREAMS_MAX})`,
    `at most ${limits.REQUESTS_IN_FLIGHT_MAX} fragments under way`,
    `by default ${n(limits.WINDOW_FRAGMENTS_DEFAULT)} or ${limits.WINDOW_BYTES_DEFAULT / 2 ** 20} MiB`,
    `do not advance for ${seconds(limits.STALL_MS_DEFAULT)}`,
    `nobody holds for ${seconds(limits.REPAIR_MS_DEFAULT)}`,
    `good standing holds for ${seconds(limits.HOLD_MS_DEFAULT)}`,
    `no progress for ${seconds(limits.LINGER_MS_DEFAULT)}`,
    `limit on linked peers, ${limits.LINKS_MAX_DEFAULT} by default`,
    `come while ${limits.LINKS_MAX_DEFAULT + limits.LINKS_PENDING_MAX} are open`,
    `A message or body has at most ${n(limits.SIGNALLING_MESSAGE_BYTES_MAX)} bytes`,
    `holds at most ${limits.CANDIDATES_MAX}`,
    `1 to ${n(limits.FEED_FRAME_DATA_MAX)}`,
    `up to ${limits.FEED_CREDIT_BYTES / 2 ** 20} MiB (${n(limits.FEED_CREDIT_BYTES_MIN)} bytes at least)`,
    `within ${seconds(limits.FEED_PROBE_MS)} the later one is refused`,
    `the next within ${seconds(limits.FEED_PIECE_MS)}`,
  ])("%s", (sentence) => {
    expect(page.text).toContain(sentence);
  });

  test("failure codes and whether to ask again", () => {
    const rows = page.section("Failure codes").tables[0]?.rows ?? [];
    expect(rows.length).toBeGreaterThan(15);
    for (const [code, , again] of rows) {
      expect(Object.keys(ERRORS)).toContain(code);
      expect(ERRORS[code as ErrorCode].retryable, code).toBe(again === "yes");
    }
  });

  test("codes of ERROR on a data source link, and whether to come again", () => {
    const rows = page.section("Faults on a data source link").tables[0]?.rows ?? [];
    expect(rows.length).toBeGreaterThan(15);
    for (const [code, again] of rows) {
      expect(ERRORS[code as ErrorCode]?.retryable, code).toBe(again === "yes");
    }
  });

  test("codes of ERROR", () => {
    const rows = page.section("Faults on a peer link").tables[0]?.rows ?? [];
    for (const [code] of rows) expect(Object.keys(ERRORS)).toContain(code);
  });
});

// --------------------------------------------------------------------------------------- examples

function block(label: string): CodeBlock {
  const found = page.blocks.find(({ info }) => info === `hex ${label}`);
  if (found === undefined) throw new Error(`no example ${label}`);
  return found;
}

const bytesOf = ({ text }: CodeBlock): Buffer => Buffer.from(text.replace(/\s/g, ""), "hex");

function writeSigned(values: never[], signature: Uint8Array): Buffer {
  return writeMsgpack([writeMsgpack(values), signature]);
}

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

test("every contents link leads to a section", () => {
  const anchors = new Set(
    page.sections.map(({ heading }: Section) =>
      heading
        .toLowerCase()
        .replace(/[^\w\- ]/g, "")
        .replace(/ /g, "-"),
    ),
  );
  const links = [...page.text.matchAll(/\]\(#([\w-]+)\)/g)];
  expect(links.length).toBeGreaterThan(10);
  for (const [, anchor] of links) expect(anchors).toContain(anchor);
});
