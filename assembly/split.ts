/**
 * Splitting a DATA frame into its record index. `src/kernel/js-split.ts` says what is checked and
 * how a local source number finds its declaration; here the declaration in use stays in locals and
 * goes back to its row when another one comes.
 */

import {
  DATA_CREATED_US,
  DATA_FLAGS,
  DATA_FLAG_END,
  DATA_HEADER_BYTES,
  DATA_INDEX,
  DATA_RECORD_COUNT,
  DATUM_BYTES_MAX,
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
  CONTENT_TYPE_BYTES_MAX,
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
  FRAME_TYPE_DATA,
  INDEX_MAX,
  NUMBER_MAX,
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
  SOURCES_MAX,
  SOURCE_BASE_SEQUENCE,
  SOURCE_BASE_TIMESTAMP,
  SOURCE_CONTENT_TYPE_BYTES_AT,
  SOURCE_END_BYTES,
  SOURCE_END_LAST_SEQUENCE,
  SOURCE_HEADER_BYTES,
  SOURCE_ID_BYTES_AT,
  SOURCE_ID_BYTES_MAX,
  SPLIT_COUNT_WRONG,
  SPLIT_KIND_UNKNOWN,
  SPLIT_LENGTH_WRONG,
  SPLIT_NUMBER_RANGE,
  SPLIT_RESERVED_BITS,
  SPLIT_SOURCE_UNDECLARED,
  SPLIT_TRUNCATED,
} from "./layout";
import { assertRange } from "./bounds";

/** The shortest record is a DATUM without payload. */
const RECORD_BYTES_MIN: u32 = DATUM_HEADER_BYTES;
/** Where the sparse set keeps its row numbers, within a declaration row. */
const ROW_OF_NUMBER: u32 = DECLARATION_SOURCE_NUMBER + 1;
/** No local source number. */
const NONE: u32 = 256;

export function splitFragment(
  frame: usize,
  frameBytes: u32,
  entries: usize,
  entryCapacity: u32,
  declarations: usize,
): i32 {
  assertRange(frame, frameBytes);
  assertRange(entries, <usize>entryCapacity * ENTRY_BYTES);
  assertRange(declarations, SOURCES_MAX * DECLARATION_BYTES);
  const headerFault = checkHeader(frame, frameBytes);
  if (headerFault != 0) return headerFault;

  const end = frame + frameBytes;
  let at = frame + DATA_HEADER_BYTES;
  let recordCount: u32 = 0;
  let declarationCount: u32 = 0;
  let entry = entries;
  const entriesEnd = entries + <usize>entryCapacity * ENTRY_BYTES;
  let dataSeen = false;
  // The slice chain under way: its number, where the next slice starts, bytes of the whole datum.
  let openNumber: u32 = NONE;
  let openOffset: u32 = 0;
  let openTotal: u32 = 0;
  // The declaration in use.
  let current: u32 = NONE;
  let declaration: u32 = 0;
  let row: usize = 0;
  let rowEntries: u32 = 0;
  let lastSequence: u64 = 0;
  let baseTimestamp: u64 = 0;

  while (at < end) {
    const left = <u32>(end - at);
    if (left < RECORD_BYTES_MIN) return SPLIT_TRUNCATED;
    const kind = <u32>load<u8>(at, RECORD_KIND);
    const number = <u32>load<u8>(at, RECORD_SOURCE_NUMBER);
    recordCount++;

    if (kind == RECORD_KIND_SOURCE) {
      const recordBytes = checkSource(at, left);
      if (recordBytes < 0) return recordBytes;
      if (declarationCount == SOURCES_MAX) return SPLIT_COUNT_WRONG;
      const fresh = declarations + <usize>(declarationCount * DECLARATION_BYTES);
      const base = load<u64>(at, SOURCE_BASE_SEQUENCE);
      store<u32>(fresh, <u32>(at + SOURCE_HEADER_BYTES), DECLARATION_ID_OFFSET);
      store<u16>(fresh, load<u8>(at, SOURCE_ID_BYTES_AT), DECLARATION_ID_BYTES);
      store<u16>(
        fresh,
        load<u8>(at, SOURCE_CONTENT_TYPE_BYTES_AT),
        DECLARATION_CONTENT_TYPE_BYTES,
      );
      store<u8>(fresh, number, DECLARATION_SOURCE_NUMBER);
      store<u32>(fresh, 0, DECLARATION_ENTRIES);
      store<f64>(fresh, <f64>base, DECLARATION_BASE_SEQUENCE);
      store<f64>(fresh, <f64>(base - 1), DECLARATION_LAST_SEQUENCE);
      store<u16>(
        declarations + <usize>(number * DECLARATION_BYTES),
        declarationCount,
        ROW_OF_NUMBER,
      );
      declarationCount++;
      if (number == current) {
        flush(row, rowEntries, lastSequence);
        current = NONE;
      }
      at += recordBytes;
      continue;
    }

    if (kind > RECORD_KIND_SOURCE_END || kind < RECORD_KIND_DATUM) return SPLIT_KIND_UNKNOWN;
    if (number != current) {
      if (current != NONE) flush(row, rowEntries, lastSequence);
      declaration = <u32>load<u16>(
        declarations + <usize>(number * DECLARATION_BYTES),
        ROW_OF_NUMBER,
      );
      if (declaration >= declarationCount) return SPLIT_SOURCE_UNDECLARED;
      row = declarations + <usize>(declaration * DECLARATION_BYTES);
      if (<u32>load<u8>(row, DECLARATION_SOURCE_NUMBER) != number) return SPLIT_SOURCE_UNDECLARED;
      current = number;
      rowEntries = load<u32>(row, DECLARATION_ENTRIES);
      lastSequence = <u64>load<f64>(row, DECLARATION_LAST_SEQUENCE);
      const id = <usize>load<u32>(row, DECLARATION_ID_OFFSET);
      baseTimestamp = load<u64>(id - SOURCE_HEADER_BYTES, SOURCE_BASE_TIMESTAMP);
    }
    if (entry == entriesEnd) return SPLIT_COUNT_WRONG;
    const flags = <u32>load<u16>(at, DATUM_FLAGS);

    if (kind == RECORD_KIND_SOURCE_END) {
      if (left < SOURCE_END_BYTES) return SPLIT_TRUNCATED;
      if (flags != 0 || load<u32>(at, 4) != 0) return SPLIT_RESERVED_BITS;
      const sequence = load<u64>(at, SOURCE_END_LAST_SEQUENCE);
      if (sequence < lastSequence || sequence > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
      writeEntry(entry, at, 0, kind | (number << 8), declaration, sequence, baseTimestamp);
      at += SOURCE_END_BYTES;
    } else {
      const headerBytes = kind == RECORD_KIND_DATUM ? DATUM_HEADER_BYTES : SLICE_HEADER_BYTES;
      if (left < headerBytes) return SPLIT_TRUNCATED;
      const bytes = load<u32>(at, DATUM_PAYLOAD_BYTES);
      if (bytes > left - headerBytes) return SPLIT_TRUNCATED;
      let sequence = lastSequence + 1;
      if (kind == RECORD_KIND_DATUM) {
        if (flags != 0) return SPLIT_RESERVED_BITS;
        if (openNumber != NONE) return SPLIT_LENGTH_WRONG;
      } else {
        if ((flags & ~(SLICE_FLAG_FIRST | SLICE_FLAG_LAST)) != 0) return SPLIT_RESERVED_BITS;
        const offset = load<u32>(at, SLICE_OFFSET);
        const total = load<u32>(at, SLICE_TOTAL_BYTES);
        const sliceEnd = <u64>offset + <u64>bytes;
        const first = (flags & SLICE_FLAG_FIRST) != 0;
        const last = (flags & SLICE_FLAG_LAST) != 0;
        if (bytes == 0 || total > DATUM_BYTES_MAX || sliceEnd > <u64>total) {
          return SPLIT_LENGTH_WRONG;
        }
        if (first != (offset == 0) || last != (sliceEnd == <u64>total)) return SPLIT_LENGTH_WRONG;
        if (openNumber != NONE) {
          if (number != openNumber || offset != openOffset || total != openTotal) {
            return SPLIT_LENGTH_WRONG;
          }
          // Declared anew in between: the datum's number is the new base.
          if (<f64>lastSequence >= load<f64>(row, DECLARATION_BASE_SEQUENCE)) {
            sequence = lastSequence;
          }
        } else if (dataSeen && !first) {
          return SPLIT_LENGTH_WRONG;
        }
        openNumber = last ? NONE : number;
        openOffset = <u32>sliceEnd;
        openTotal = total;
      }
      // Unsigned: a sum below zero is larger than any number allowed.
      const timestamp = baseTimestamp + <u64>(<i64>load<i32>(at, DATUM_TIMESTAMP));
      if (sequence > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
      if (timestamp > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
      at += headerBytes;
      const head = kind | (number << 8) | (flags << 16);
      writeEntry(entry, at, bytes, head, declaration, sequence, timestamp);
      lastSequence = sequence;
      at += bytes;
      dataSeen = true;
    }
    rowEntries++;
    entry += ENTRY_BYTES;
  }

  if (current != NONE) flush(row, rowEntries, lastSequence);
  if (recordCount != <u32>load<u16>(frame, DATA_RECORD_COUNT)) return SPLIT_COUNT_WRONG;
  for (let i: u32 = 0; i < declarationCount; i++) {
    const declared = declarations + <usize>(i * DECLARATION_BYTES);
    store<u32>(
      declared,
      <u32>load<u8>(declared, DECLARATION_SOURCE_NUMBER),
      DECLARATION_SOURCE_NUMBER,
    );
  }
  return (declarationCount << 16) + <u32>((entry - entries) / ENTRY_BYTES);
}

function checkHeader(frame: usize, frameBytes: u32): i32 {
  if (frameBytes < DATA_HEADER_BYTES) return SPLIT_TRUNCATED;
  if (load<u32>(frame, FRAME_LENGTH) != frameBytes) return SPLIT_LENGTH_WRONG;
  if (<u32>load<u8>(frame, FRAME_MAGIC_AT) != FRAME_MAGIC) return SPLIT_KIND_UNKNOWN;
  if (<u32>load<u8>(frame, FRAME_TYPE) != FRAME_TYPE_DATA) return SPLIT_KIND_UNKNOWN;
  if (load<u8>(frame, FRAME_FLAGS) != 0) return SPLIT_RESERVED_BITS;
  if ((<u32>load<u16>(frame, DATA_FLAGS) & ~DATA_FLAG_END) != 0) return SPLIT_RESERVED_BITS;
  if (load<u64>(frame, DATA_INDEX) > INDEX_MAX) return SPLIT_NUMBER_RANGE;
  if (load<u64>(frame, DATA_CREATED_US) > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
  return 0;
}

/** Bytes of the SOURCE record at `at`, or what is wrong with it. */
function checkSource(at: usize, left: u32): i32 {
  if (left < SOURCE_HEADER_BYTES) return SPLIT_TRUNCATED;
  const idBytes = <u32>load<u8>(at, SOURCE_ID_BYTES_AT);
  const typeBytes = <u32>load<u8>(at, SOURCE_CONTENT_TYPE_BYTES_AT);
  if (idBytes == 0 || idBytes > SOURCE_ID_BYTES_MAX) return SPLIT_LENGTH_WRONG;
  if (typeBytes > CONTENT_TYPE_BYTES_MAX) return SPLIT_LENGTH_WRONG;
  const base = load<u64>(at, SOURCE_BASE_SEQUENCE);
  if (base == 0 || base > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
  if (load<u64>(at, SOURCE_BASE_TIMESTAMP) > NUMBER_MAX) return SPLIT_NUMBER_RANGE;
  if (left - SOURCE_HEADER_BYTES < idBytes + typeBytes) return SPLIT_TRUNCATED;
  return <i32>(SOURCE_HEADER_BYTES + idBytes + typeBytes);
}

// @ts-ignore: decorator
@inline
function flush(row: usize, entryCount: u32, lastSequence: u64): void {
  store<u32>(row, entryCount, DECLARATION_ENTRIES);
  store<f64>(row, <f64>lastSequence, DECLARATION_LAST_SEQUENCE);
}

/** `head`: kind, local source number and record flags, as the record starts with them. */
// @ts-ignore: decorator
@inline
function writeEntry(
  entry: usize,
  offset: usize,
  bytes: u32,
  head: u32,
  declaration: u32,
  sequence: u64,
  timestamp: u64,
): void {
  assert(ENTRY_SOURCE_NUMBER == ENTRY_KIND + 1 && ENTRY_FLAGS == ENTRY_KIND + 2);
  store<u32>(entry, <u32>offset, ENTRY_OFFSET);
  store<u32>(entry, bytes, ENTRY_LENGTH);
  store<u32>(entry, head, ENTRY_KIND);
  store<u32>(entry, declaration, ENTRY_DECLARATION);
  store<f64>(entry, <f64>sequence, ENTRY_SEQUENCE);
  store<f64>(entry, <f64>timestamp, ENTRY_TIMESTAMP);
}
