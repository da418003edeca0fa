/** The tables and numbers of docs/protocol.md agree with what the engine does. */

import { describe, expect, test } from "vitest";
import { ERRORS, type ErrorCode } from "../../src/base/errors.ts";
import * as layout from "../../src/base/layout.ts";
import * as limits from "../../src/base/limits.ts";
import { defineMessage, type Field } from "../../src/protocol/codec.ts";
import { decodeIndexFile } from "../../src/protocol/index-file.ts";
import { OPERATIONS } from "../../src/protocol/operations.ts";
import * as r10 from "../../src/protocol/r10.ts";
import * as r11 from "../../src/protocol/r11.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { writeMsgpack } from "../support/msgpack-writer.ts";
import type { Section, Table } from "./page.ts";
import { block, bytesOf, page } from "./protocol-page.ts";
import * as wire from "./wire.ts";

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

function writeSigned(values: never[], signature: Uint8Array): Buffer {
  return writeMsgpack([writeMsgpack(values), signature]);
}

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
    `together in ${limits.FEED_ASSEMBLY_BYTES_MAX / 2 ** 20} MiB`,
    `at least 1/${limits.FEED_DATUM_PARTS} of any other`,
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
