/**
 * Splitting a DATA frame into its record index, in JavaScript. `assembly/split.ts` does the same
 * step by step: both give the same tables and the same SPLIT_* code for the same bytes.
 *
 * Beyond bounds, kinds, reserved bits, number ranges and counts, the chain of slices is checked as
 * far as one fragment shows it: a slice that is not the first of its datum opens the fragment's
 * data or continues the slice before it, and nothing of another datum lies in between. Continuity
 * across fragments is the assembler's business.
 *
 * Which declaration a local source number has now is looked up in a sparse set that needs neither
 * memory of its own nor clearing: byte pair 1 and 2 of DECLARATION_SOURCE_NUMBER in row k names the
 * row that declared number k; it counts only where that row exists and says k itself.
 */

import {
  DATA_CREATED_US,
  DATA_FLAG_END,
  DATA_FLAGS,
  DATA_HEADER_BYTES,
  DATA_INDEX,
  DATA_RECORD_COUNT,
  DATUM_FLAGS,
  DATUM_HEADER_BYTES,
  DATUM_PAYLOAD_BYTES,
  DATUM_TIMESTAMP,
  DECLARATION_BASE_SEQUENCE,
  DECLARATION_BYTES,
  DECLARATION_CONTENT_TYPE_BYTES,
  DECLARATION_ENTRIES,
  DECLARATION_ID_BYTES,
  DECLARATION_ID_OFFSET,
  DECLARATION_LAST_SEQUENCE,
  DECLARATION_SOURCE_NUMBER,
  ENTRY_BYTES,
  ENTRY_DECLARATION,
  ENTRY_FLAGS,
  ENTRY_KIND,
  ENTRY_LENGTH,
  ENTRY_OFFSET,
  ENTRY_SEQUENCE,
  ENTRY_SOURCE_NUMBER,
  ENTRY_TIMESTAMP,
  FRAME_FLAGS,
  FRAME_LENGTH,
  FRAME_MAGIC,
  FRAME_MAGIC_AT,
  FRAME_TYPE,
  FRAME_TYPES,
  RECORD_KIND,
  RECORD_KIND_DATUM,
  RECORD_KIND_SOURCE,
  RECORD_KIND_SOURCE_END,
  RECORD_SOURCE_NUMBER,
  SLICE_FLAG_FIRST,
  SLICE_FLAG_LAST,
  SLICE_HEADER_BYTES,
  SLICE_OFFSET,
  SLICE_TOTAL_BYTES,
  SOURCE_BASE_SEQUENCE,
  SOURCE_BASE_TIMESTAMP,
  SOURCE_CONTENT_TYPE_BYTES_AT,
  SOURCE_END_BYTES,
  SOURCE_END_LAST_SEQUENCE,
  SOURCE_HEADER_BYTES,
  SOURCE_ID_BYTES_AT,
  SPLIT_COUNT_WRONG,
  SPLIT_KIND_UNKNOWN,
  SPLIT_LENGTH_WRONG,
  SPLIT_NUMBER_RANGE,
  SPLIT_RESERVED_BITS,
  SPLIT_SOURCE_UNDECLARED,
  SPLIT_TRUNCATED,
} from "../base/layout.ts";
import {
  CONTENT_TYPE_BYTES_MAX,
  DATUM_BYTES_MAX,
  INDEX_MAX,
  SOURCE_ID_BYTES_MAX,
  SOURCES_MAX,
} from "../base/limits.ts";

/** The shortest record is a DATUM without payload. */
const RECORD_BYTES_MIN = DATUM_HEADER_BYTES;
/** Where the sparse set keeps its row numbers, within a declaration row. */
const ROW_OF_NUMBER = DECLARATION_SOURCE_NUMBER + 1;

/** See Kernel.splitFragment. `view` spans the memory that all offsets index. */
export function splitFragmentOf(
  view: DataView,
  frame: number,
  frameBytes: number,
  entries: number,
  entryCapacity: number,
  declarations: number,
): number {
  const headerFault = checkHeader(view, frame, frameBytes);
  if (headerFault !== 0) return headerFault;

  const end = frame + frameBytes;
  let at = frame + DATA_HEADER_BYTES;
  let recordCount = 0;
  let entryCount = 0;
  let declarationCount = 0;
  let dataSeen = false;
  // The slice chain under way: its number, where the next slice starts, bytes of the whole datum.
  let openNumber = -1;
  let openOffset = 0;
  let openTotal = 0;

  while (at < end) {
    const left = end - at;
    if (left < RECORD_BYTES_MIN) return SPLIT_TRUNCATED;
    const kind = view.getUint8(at + RECORD_KIND);
    const number = view.getUint8(at + RECORD_SOURCE_NUMBER);
    recordCount++;

    if (kind === RECORD_KIND_SOURCE) {
      if (left < SOURCE_HEADER_BYTES) return SPLIT_TRUNCATED;
      const idBytes = view.getUint8(at + SOURCE_ID_BYTES_AT);
      const typeBytes = view.getUint8(at + SOURCE_CONTENT_TYPE_BYTES_AT);
      if (idBytes === 0 || idBytes > SOURCE_ID_BYTES_MAX) return SPLIT_LENGTH_WRONG;
      if (typeBytes > CONTENT_TYPE_BYTES_MAX) return SPLIT_LENGTH_WRONG;
      const baseSequence = readU64(view, at + SOURCE_BASE_SEQUENCE);
      if (baseSequence === 0 || baseSequence > Number.MAX_SAFE_INTEGER) return SPLIT_NUMBER_RANGE;
      if (readU64(view, at + SOURCE_BASE_TIMESTAMP) > Number.MAX_SAFE_INTEGER) {
        return SPLIT_NUMBER_RANGE;
      }
      if (left - SOURCE_HEADER_BYTES < idBytes + typeBytes) return SPLIT_TRUNCATED;
      if (declarationCount === SOURCES_MAX) return SPLIT_COUNT_WRONG;
      const row = declarations + declarationCount * DECLARATION_BYTES;
      view.setUint32(row + DECLARATION_ID_OFFSET, at + SOURCE_HEADER_BYTES, true);
      view.setUint16(row + DECLARATION_ID_BYTES, idBytes, true);
      view.setUint16(row + DECLARATION_CONTENT_TYPE_BYTES, typeBytes, true);
      view.setUint8(row + DECLARATION_SOURCE_NUMBER, number);
      view.setUint32(row + DECLARATION_ENTRIES, 0, true);
      view.setFloat64(row + DECLARATION_BASE_SEQUENCE, baseSequence, true);
      view.setFloat64(row + DECLARATION_LAST_SEQUENCE, baseSequence - 1, true);
      const ofNumber = declarations + number * DECLARATION_BYTES + ROW_OF_NUMBER;
      view.setUint16(ofNumber, declarationCount, true);
      declarationCount++;
      at += SOURCE_HEADER_BYTES + idBytes + typeBytes;
      continue;
    }

    if (kind > RECORD_KIND_SOURCE_END || kind < RECORD_KIND_DATUM) return SPLIT_KIND_UNKNOWN;
    const declaration = view.getUint16(
      declarations + number * DECLARATION_BYTES + ROW_OF_NUMBER,
      true,
    );
    const row = declarations + declaration * DECLARATION_BYTES;
    if (
      declaration >= declarationCount ||
      view.getUint8(row + DECLARATION_SOURCE_NUMBER) !== number
    ) {
      return SPLIT_SOURCE_UNDECLARED;
    }
    if (entryCount === entryCapacity) return SPLIT_COUNT_WRONG;
    const entry = entries + entryCount * ENTRY_BYTES;
    const id = view.getUint32(row + DECLARATION_ID_OFFSET, true);
    const baseTimestamp = readU64(view, id - SOURCE_HEADER_BYTES + SOURCE_BASE_TIMESTAMP);
    const lastSequence = view.getFloat64(row + DECLARATION_LAST_SEQUENCE, true);
    const flags = view.getUint16(at + DATUM_FLAGS, true);

    if (kind === RECORD_KIND_SOURCE_END) {
      if (left < SOURCE_END_BYTES) return SPLIT_TRUNCATED;
      if (flags !== 0 || view.getUint32(at + 4, true) !== 0) return SPLIT_RESERVED_BITS;
      const sequence = readU64(view, at + SOURCE_END_LAST_SEQUENCE);
      if (sequence < lastSequence || sequence > Number.MAX_SAFE_INTEGER) return SPLIT_NUMBER_RANGE;
      writeEntry(view, entry, at, 0, kind, number, 0, declaration, sequence, baseTimestamp);
      at += SOURCE_END_BYTES;
    } else {
      const headerBytes = kind === RECORD_KIND_DATUM ? DATUM_HEADER_BYTES : SLICE_HEADER_BYTES;
      if (left < headerBytes) return SPLIT_TRUNCATED;
      const bytes = view.getUint32(at + DATUM_PAYLOAD_BYTES, true);
      if (bytes > left - headerBytes) return SPLIT_TRUNCATED;
      let sequence = lastSequence + 1;
      if (kind === RECORD_KIND_DATUM) {
        if (flags !== 0) return SPLIT_RESERVED_BITS;
        if (openNumber !== -1) return SPLIT_LENGTH_WRONG;
      } else {
        if ((flags & ~(SLICE_FLAG_FIRST | SLICE_FLAG_LAST)) !== 0) return SPLIT_RESERVED_BITS;
        const offset = view.getUint32(at + SLICE_OFFSET, true);
        const total = view.getUint32(at + SLICE_TOTAL_BYTES, true);
        const first = (flags & SLICE_FLAG_FIRST) !== 0;
        const last = (flags & SLICE_FLAG_LAST) !== 0;
        if (bytes === 0 || total > DATUM_BYTES_MAX || offset + bytes > total) {
          return SPLIT_LENGTH_WRONG;
        }
        if (first !== (offset === 0) || last !== (offset + bytes === total)) {
          return SPLIT_LENGTH_WRONG;
        }
        if (openNumber !== -1) {
          if (number !== openNumber || offset !== openOffset || total !== openTotal) {
            return SPLIT_LENGTH_WRONG;
          }
          // Declared anew in between: the datum's number is the new base.
          if (lastSequence >= view.getFloat64(row + DECLARATION_BASE_SEQUENCE, true)) {
            sequence = lastSequence;
          }
        } else if (dataSeen && !first) {
          return SPLIT_LENGTH_WRONG;
        }
        openNumber = last ? -1 : number;
        openOffset = offset + bytes;
        openTotal = total;
      }
      const timestamp = baseTimestamp + view.getInt32(at + DATUM_TIMESTAMP, true);
      if (sequence > Number.MAX_SAFE_INTEGER) return SPLIT_NUMBER_RANGE;
      if (timestamp < 0 || timestamp > Number.MAX_SAFE_INTEGER) return SPLIT_NUMBER_RANGE;
      at += headerBytes;
      writeEntry(view, entry, at, bytes, kind, number, flags, declaration, sequence, timestamp);
      view.setFloat64(row + DECLARATION_LAST_SEQUENCE, sequence, true);
      at += bytes;
      dataSeen = true;
    }
    view.setUint32(
      row + DECLARATION_ENTRIES,
      view.getUint32(row + DECLARATION_ENTRIES, true) + 1,
      true,
    );
    entryCount++;
  }

  if (recordCount !== view.getUint16(frame + DATA_RECORD_COUNT, true)) return SPLIT_COUNT_WRONG;
  for (let i = 0; i < declarationCount; i++) {
    const at = declarations + i * DECLARATION_BYTES + DECLARATION_SOURCE_NUMBER;
    view.setUint32(at, view.getUint8(at), true);
  }
  return declarationCount * 65536 + entryCount;
}

function checkHeader(view: DataView, frame: number, frameBytes: number): number {
  if (frameBytes < DATA_HEADER_BYTES) return SPLIT_TRUNCATED;
  if (view.getUint32(frame + FRAME_LENGTH, true) !== frameBytes) return SPLIT_LENGTH_WRONG;
  if (view.getUint8(frame + FRAME_MAGIC_AT) !== FRAME_MAGIC) return SPLIT_KIND_UNKNOWN;
  if (view.getUint8(frame + FRAME_TYPE) !== FRAME_TYPES.DATA) return SPLIT_KIND_UNKNOWN;
  if (view.getUint8(frame + FRAME_FLAGS) !== 0) return SPLIT_RESERVED_BITS;
  if ((view.getUint16(frame + DATA_FLAGS, true) & ~DATA_FLAG_END) !== 0) return SPLIT_RESERVED_BITS;
  if (readU64(view, frame + DATA_INDEX) > INDEX_MAX) return SPLIT_NUMBER_RANGE;
  if (readU64(view, frame + DATA_CREATED_US) > Number.MAX_SAFE_INTEGER) return SPLIT_NUMBER_RANGE;
  return 0;
}

/** Exact up to 2^53; above that merely larger than any safe integer. */
function readU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

function writeEntry(
  view: DataView,
  entry: number,
  offset: number,
  bytes: number,
  kind: number,
  number: number,
  flags: number,
  declaration: number,
  sequence: number,
  timestamp: number,
): void {
  view.setUint32(entry + ENTRY_OFFSET, offset, true);
  view.setUint32(entry + ENTRY_LENGTH, bytes, true);
  view.setUint8(entry + ENTRY_KIND, kind);
  view.setUint8(entry + ENTRY_SOURCE_NUMBER, number);
  view.setUint16(entry + ENTRY_FLAGS, flags, true);
  view.setUint32(entry + ENTRY_DECLARATION, declaration, true);
  view.setFloat64(entry + ENTRY_SEQUENCE, sequence, true);
  view.setFloat64(entry + ENTRY_TIMESTAMP, timestamp, true);
}
