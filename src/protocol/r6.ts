/**
 * R6 Peer-IXS.
 *
 * Participants: a source peer registers, updates and removes the index file of each of its data
 * sources; any peer queries; an OMS tells which overlays ended. The key of a file is (data source id, data id); it belongs to the
 * public key in the file, and each operation that changes it is signed with that key.
 *
 * The version strictly rises, also across removal and re-registration, and the answer to a query is
 * the newest version whose write is on disk, or `gone` (R6.c). Index files travel in their encoded,
 * signed form, so that a peer verifies them itself.
 */

import { DATA_ID_BYTES_MAX, SOURCE_ID_BYTES_MAX, TITLE_BYTES_MAX } from "../base/limits.ts";
import { bool, bytes, integer, list, maybe, record, text, u53 } from "./codec.ts";
import { overlayId, publicKey, serviceKey, signature } from "./common.ts";
import { INDEX_FILE_BYTES_MAX } from "./index-file.ts";
import { defineOperation } from "./signalling.ts";

/** Index files in one answer; more than a title should ever have. */
export const QUERY_FILES_MAX = 16;
/** Rows in one answer of LIST. */
export const LIST_ROWS_MAX = 64;

const encodedFile = bytes(1, INDEX_FILE_BYTES_MAX);
const dataSourceId = text(SOURCE_ID_BYTES_MAX, 1);
const dataId = text(DATA_ID_BYTES_MAX, 1);
const version = integer(1, Number.MAX_SAFE_INTEGER);

/**
 * R6.a: registers an index file. VERSION_NOT_RISING names the version that stands (also a removed
 * one). The very file that stands is acknowledged again.
 */
export const REGISTER_INDEX = defineOperation({
  name: "r6/register",
  type: 0x50,
  request: { indexFile: encodedFile },
  answer: { version },
});

/** R6.b: replaces a registered index file by one of a higher version (version, title, source). */
export const UPDATE_INDEX = defineOperation({
  name: "r6/update",
  type: 0x51,
  request: { indexFile: encodedFile },
  answer: { version },
});

/** R6.d: removes a session; `version` is at least the registered one. Signed: removeProof. */
export const REMOVE_INDEX = defineOperation({
  name: "r6/remove",
  type: 0x52,
  request: { version, dataSourceId, dataId, publicKey, signature },
  answer: {},
});

const gone = record({ dataSourceId, dataId, version, whenUs: u53 });

/**
 * R6.e: all four fields; version = the lowest acceptable (0 = any), the others may be empty, not
 * all of them, unless an overlay is named. `files`: the newest of each key that matches. `gone`: keys that matched and were
 * removed; by title only while no live file has it. Nothing at all: UNKNOWN_INDEX.
 */
export const QUERY_INDEX = defineOperation({
  name: "r6/query",
  type: 0x53,
  request: {
    version: u53,
    title: text(TITLE_BYTES_MAX),
    dataSourceId: text(SOURCE_ID_BYTES_MAX),
    dataId: text(DATA_ID_BYTES_MAX),
    /** Only of this overlay: what a virtual peer that is ordered into it asks. */
    overlayId: maybe(overlayId),
  },
  answer: {
    files: list(encodedFile, QUERY_FILES_MAX),
    gone: list(gone, QUERY_FILES_MAX),
    /** More match than one message holds. */
    more: bool,
  },
});

/** Live sessions whose title starts with `prefix`, by title. */
export const LIST_INDEX = defineOperation({
  name: "r6/list",
  type: 0x54,
  request: { prefix: text(TITLE_BYTES_MAX), limit: integer(1, LIST_ROWS_MAX) },
  answer: {
    rows: list(
      record({ title: text(TITLE_BYTES_MAX, 1), dataSourceId, dataId, version, overlayId }),
      LIST_ROWS_MAX,
    ),
    more: bool,
  },
});

/** Overlays in one OVERLAY_GONE. */
export const OVERLAYS_GONE_MAX = 64;

/**
 * From an OMS of another process: these overlays ended, so their index files are removed. Needs the
 * service key of the IXS; one without a key takes it from nobody. Acknowledged when on disk; saying
 * it again, or of unknown ones, succeeds.
 */
export const OVERLAY_GONE = defineOperation({
  name: "r6/overlay-gone",
  type: 0x55,
  request: { overlayIds: list(overlayId, OVERLAYS_GONE_MAX), serviceKey },
  answer: {},
});

export const R6_OPERATIONS = [
  REGISTER_INDEX,
  UPDATE_INDEX,
  REMOVE_INDEX,
  QUERY_INDEX,
  LIST_INDEX,
  OVERLAY_GONE,
] as const;

const REMOVE_DOMAIN = "mp2p-r6-remove-1";

/** The bytes signed for REMOVE: domain, version (u64 little-endian), and both ids with lengths. */
export function removeProof(statement: {
  readonly version: number;
  readonly dataSourceId: string;
  readonly dataId: string;
}): Uint8Array {
  const encoder = new TextEncoder();
  const head = encoder.encode(REMOVE_DOMAIN);
  const source = encoder.encode(statement.dataSourceId);
  const data = encoder.encode(statement.dataId);
  const all = new Uint8Array(head.length + 8 + 1 + source.length + 1 + data.length);
  all.set(head);
  let at = head.length;
  new DataView(all.buffer).setBigUint64(at, BigInt(statement.version), true);
  at += 8;
  for (const part of [source, data]) {
    all[at] = part.length;
    all.set(part, at + 1);
    at += 1 + part.length;
  }
  return all;
}
