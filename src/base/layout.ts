/**
 * The byte layout table: every offset and magic number of what is not msgpack. Little-endian.
 * `assembly/layout.ts` is generated from this table (npm run build); docs/protocol.md describes it.
 *
 * Every frame on a peer link starts with the frame header:
 *
 *     0  u32  length of the whole frame, header included
 *     4  u8   magic
 *     5  u8   version
 *     6  u8   type
 *     7  u8   flags, reserved: zero
 */

export const FRAME_MAGIC = 0xb6;
export const FRAME_VERSION = 1;
/** The lowest version this build still speaks (N and N-1 interoperate; N is the first). */
export const FRAME_VERSION_MIN = 1;

export const FRAME_LENGTH = 0;
export const FRAME_MAGIC_AT = 4;
export const FRAME_VERSION_AT = 5;
export const FRAME_TYPE = 6;
export const FRAME_FLAGS = 7;
export const FRAME_HEADER_BYTES = 8;

/** Frame types. Peer links: 0x01 to 0x1f; data source links (R11): 0x20 to 0x2f. */
export const FRAME_TYPES = {
  DATA: 0x01,
  SEAL: 0x02,
  HELLO: 0x03,
  BUFFERMAP: 0x04,
  HAVE: 0x05,
  GET: 0x06,
  CREDIT: 0x07,
  GONE: 0x08,
  CANCEL: 0x09,
  PARTNER: 0x0a,
  ACCEPT: 0x0b,
  NOTIFY: 0x0c,
  REFRESH: 0x0d,
  BUSY: 0x0e,
  BYE: 0x0f,
  ERROR: 0x10,
  PING: 0x11,
  PONG: 0x12,
  REGISTER: 0x20,
  REGISTERED: 0x21,
  DATUM: 0x22,
  ACCEPTED: 0x23,
  HELD: 0x24,
  TERMINATE: 0x25,
} as const;
export type FrameTypeName = keyof typeof FRAME_TYPES;

/** Every frame of an overlay carries its tag here: 8 bytes of SHA-256(overlay id, session epoch). */
export const OVERLAY_TAG_BYTES = 8;

/**
 * DATA: one fragment, byte-identical on every link.
 *
 *     8   u32  CRC32C (Castagnoli) of bytes 12 to the end; 0 when the overlay's integrity is none
 *     12  u16  fragment flags: bit 0 END, others reserved (zero)
 *     14  u16  number of records
 *     16  8    overlay tag
 *     24  u64  fragment index (at most 2^53 - 2)
 *     32  u64  creation time, microseconds since 1970
 *     40  records
 */
export const DATA_CHECKSUM = 8;
export const DATA_CHECKED_FROM = 12;
export const DATA_FLAGS = 12;
export const DATA_RECORD_COUNT = 14;
export const DATA_TAG = 16;
export const DATA_INDEX = 24;
export const DATA_CREATED_US = 32;
export const DATA_HEADER_BYTES = 40;
export const DATA_FLAG_END = 0x0001;

/**
 * Records of a fragment, back to back, unpadded. Byte 0 is the kind, byte 1 the local source number,
 * which a SOURCE record of the same fragment declared before.
 *
 * SOURCE declares a local number: whose data follow, from which sequence number on.
 *     2  u8   bytes of the data source id (1 to 128)
 *     3  u8   bytes of the content type (0 to 128)
 *     4  u32  numbering: of a data source with a link of its own, a number of its run, or of all
 *             that number alike; while it is the same, so is what each sequence number stands for,
 *             in later epochs too; 0: unknown
 *     8  u64  base sequence: that of the next datum or slice of this number in this fragment; each
 *             further datum has the next one (all slices of one datum share one)
 *     16 u64  base timestamp, microseconds since 1970
 *     24      data source id (UTF-8), content type (UTF-8)
 *
 * DATUM is a whole datum.
 *     2  u16  reserved: zero
 *     4  u32  payload bytes
 *     8  i32  timestamp less the base timestamp, microseconds
 *     12      payload
 *
 * SLICE is a piece of a datum that did not fit. The slices of one datum follow each other through
 * consecutive fragments, nothing of another datum in between.
 *     2  u16  flags: bit 0 first slice, bit 1 last slice
 *     4  u32  payload bytes of this slice
 *     8  i32  timestamp less the base timestamp
 *     12 u32  offset of this slice in the datum
 *     16 u32  bytes of the whole datum (at most 16 MiB)
 *     20      payload
 *
 * SOURCE_END says that the data source has ended.
 *     2  u16  reserved: zero
 *     4  u32  reserved: zero
 *     8  u64  the last sequence number of this source; 0 = it never sent
 *     16
 */
export const RECORD_KIND = 0;
export const RECORD_SOURCE_NUMBER = 1;
export const RECORD_KIND_SOURCE = 1;
export const RECORD_KIND_DATUM = 2;
export const RECORD_KIND_SLICE = 3;
export const RECORD_KIND_SOURCE_END = 4;

export const SOURCE_ID_BYTES_AT = 2;
export const SOURCE_CONTENT_TYPE_BYTES_AT = 3;
export const SOURCE_NUMBERING = 4;
export const SOURCE_BASE_SEQUENCE = 8;
export const SOURCE_BASE_TIMESTAMP = 16;
export const SOURCE_HEADER_BYTES = 24;

export const DATUM_FLAGS = 2;
export const DATUM_PAYLOAD_BYTES = 4;
export const DATUM_TIMESTAMP = 8;
export const DATUM_HEADER_BYTES = 12;

export const SLICE_OFFSET = 12;
export const SLICE_TOTAL_BYTES = 16;
export const SLICE_HEADER_BYTES = 20;
export const SLICE_FLAG_FIRST = 0x0001;
export const SLICE_FLAG_LAST = 0x0002;

export const SOURCE_END_LAST_SEQUENCE = 8;
export const SOURCE_END_BYTES = 16;

/**
 * Record index: what splitting a fragment gives. Two tables in the engine's memory, not on the wire.
 *
 * ENTRY, one per DATUM, SLICE and SOURCE_END in record order:
 *     0  u32  memory offset of the payload (SOURCE_END: of the record)
 *     4  u32  payload bytes (SOURCE_END: 0)
 *     8  u8   record kind
 *     9  u8   local source number
 *     10 u16  record flags (slice flags)
 *     12 u32  row of its declaration
 *     16 f64  sequence number (SOURCE_END: the last one)
 *     24 f64  timestamp in microseconds (SOURCE_END: the base timestamp)
 *
 * DECLARATION, one per SOURCE record:
 *     0  u32  memory offset of the id
 *     4  u16  id bytes, 6 u16 content type bytes (the content type follows the id)
 *     8  u32  local source number
 *     12 u32  entries that belong to it
 *     16 f64  base sequence
 *     24 f64  highest sequence number of a DATUM or SLICE under it; base sequence - 1 when none
 */
export const ENTRY_BYTES = 32;
export const ENTRY_OFFSET = 0;
export const ENTRY_LENGTH = 4;
export const ENTRY_KIND = 8;
export const ENTRY_SOURCE_NUMBER = 9;
export const ENTRY_FLAGS = 10;
export const ENTRY_DECLARATION = 12;
export const ENTRY_SEQUENCE = 16;
export const ENTRY_TIMESTAMP = 24;

export const DECLARATION_BYTES = 32;
export const DECLARATION_ID_OFFSET = 0;
export const DECLARATION_ID_BYTES = 4;
export const DECLARATION_CONTENT_TYPE_BYTES = 6;
export const DECLARATION_SOURCE_NUMBER = 8;
export const DECLARATION_ENTRIES = 12;
export const DECLARATION_BASE_SEQUENCE = 16;
export const DECLARATION_LAST_SEQUENCE = 24;

/** Why a fragment's records could not be split: negative results of split. */
export const SPLIT_TRUNCATED = -1;
export const SPLIT_KIND_UNKNOWN = -2;
export const SPLIT_SOURCE_UNDECLARED = -3;
export const SPLIT_RESERVED_BITS = -4;
export const SPLIT_COUNT_WRONG = -5;
export const SPLIT_LENGTH_WRONG = -6;
export const SPLIT_NUMBER_RANGE = -7;

/**
 * Picker's table, in the engine's memory only. Bit i of a map is bit i % 64 of its word i / 64.
 *
 *     0   u32  memory offset of the window's map of held fragments
 *     4   u32  words of a map (at most 63 groups of 64)
 *     8   u32  candidates: bits set in the map of candidates
 *     12  u32  memory offset of the cells
 *     16  u32  memory offset of the map of candidates
 *     20  u32  memory offset of the upper planes
 *     64  u64  for each kind: the groups that have one
 *     128      groups of 64 words: for each kind a u64, the words that have one
 *
 * Kinds 0 to 5 are the classes of rarity, candidates with availability 1, 2, 3, 4-7, 8-15 and
 * 16 or more; kind 6 is any candidate; 7 is unused.
 *
 * CELL, one per word, as large as a line of the cache: picking looks at no more of a word.
 *     0   u64  planes 0 to 3: bit i of plane p is bit p of the availability of index i
 *     32  u64  many: availability 16 and more, any bit of the upper planes
 *     40  u64  taken: requested, under verification, or below the window's start
 *     48  u64  reserved: left to those who push it
 *     56  u64  presence: bit k = the word has candidates of kind k
 *
 * UPPER PLANES, one per word: planes 4 to 12, a u64 each.
 */
export const PICKER_HELD = 0;
export const PICKER_WORDS = 4;
export const PICKER_CANDIDATES = 8;
export const PICKER_CELLS = 12;
export const PICKER_ANY = 16;
export const PICKER_UPPER = 20;
export const PICKER_TOP = 64;
export const PICKER_GROUPS = 128;
export const PICKER_GROUP_BYTES = 64;
export const PICKER_CLASSES = 6;
export const PICKER_KIND_ANY = 6;
export const PICKER_CELL_BYTES = 64;
export const PICKER_CELL_PLANES = 4;
export const PICKER_MANY = 32;
export const PICKER_TAKEN = 40;
export const PICKER_RESERVED = 48;
export const PICKER_PRESENCE = 56;
export const PICKER_UPPER_BYTES = 72;
export const PICKER_UPPER_PLANES = 9;

/**
 * SEAL: signed manifest of consecutive fragments. Signature empty (zero bytes) until integrity
 * 'signed' exists.
 *
 *     8   8    overlay tag
 *     16  u64  first index
 *     24  u16  count (1 to 64)
 *     26  u8   bytes of one leaf hash (32)
 *     27  u8   bytes of the signature (0 or 64)
 *     28  u32  reserved: zero
 *     32       leaf hashes, signature
 */
export const SEAL_TAG = 8;
export const SEAL_FIRST_INDEX = 16;
export const SEAL_COUNT = 24;
export const SEAL_LEAF_BYTES_AT = 26;
export const SEAL_SIGNATURE_BYTES_AT = 27;
export const SEAL_HEADER_BYTES = 32;
export const SEAL_COUNT_MAX = 64;
export const SEAL_LEAF_BYTES = 32;

/**
 * BUFFERMAP: `start` = lowest index still held or wanted; `run` fragments from start on are held;
 * index start + run is missing by definition; bits run from the next index on, least significant
 * bit first; the last byte is not zero (none when there are no holes).
 *
 *     8   8    overlay tag
 *     16  u64  start
 *     24  u32  run
 *     28  u32  bytes of bits
 *     32       bits
 */
export const BUFFERMAP_TAG = 8;
export const BUFFERMAP_START = 16;
export const BUFFERMAP_RUN = 24;
export const BUFFERMAP_BITS_BYTES = 28;
export const BUFFERMAP_HEADER_BYTES = 32;

/**
 * HAVE, GET, GONE and CANCEL carry ranges: ascending, disjoint, not touching.
 *
 *     8   8    overlay tag
 *     16  u64  HAVE: start, the sender's lowest index still held or wanted; others: zero
 *     24  u32  number of ranges (1 to 512; HAVE also 0)
 *     28  u32  HAVE: flags, bit 0 held back: the sender's window is full because of others, its own
 *              consumer took what it holds; bits 8 to 15 readers: the sender is a virtual peer, and so
 *              many members (255: or more) take what it passes on, or have all
 *              GET: bit 0 patient: the asker has other neighbours, that may come to hold it
 *              other bits and other frames: zero
 *     32       ranges: u64 first index, u32 count
 */
export const RANGES_TAG = 8;
export const RANGES_START = 16;
export const RANGES_COUNT = 24;
export const RANGES_FLAGS = 28;
export const RANGES_HEADER_BYTES = 32;
export const HAVE_FLAG_HELD_BACK = 1;
export const HAVE_READERS_MASK = 0xff00;
export const HAVE_READERS_SHIFT = 8;
export const GET_FLAG_PATIENT = 1;
export const RANGE_BYTES = 12;

/**
 * CREDIT: DATA with an index below the limit may be sent; limits only rise.
 *
 *     8   8    overlay tag
 *     16  u64  limit (exclusive)
 */
export const CREDIT_TAG = 8;
export const CREDIT_LIMIT = 16;
export const CREDIT_BYTES = 24;

/**
 * DATUM (R11): data of one data source on their way to its source peer.
 *
 *     8   u64  sequence number of the first datum; each further one has the next
 *     16  u64  base timestamp, microseconds since 1970; 0: when they arrive
 *     24  u32  number of data
 *     28  u32  0: whole data; else bytes of the whole datum that this frame holds a piece of
 *     32  u32  offset of the piece in its datum; whole data: zero
 *     36  u32  reserved: zero
 *     40       of each datum: u32 payload bytes, i32 timestamp less the base timestamp
 *              payloads back to back to the end of the frame
 */
export const DATUM_FRAME_SEQUENCE = 8;
export const DATUM_FRAME_TIMESTAMP = 16;
export const DATUM_FRAME_COUNT = 24;
export const DATUM_FRAME_TOTAL_BYTES = 28;
export const DATUM_FRAME_OFFSET = 32;
export const DATUM_FRAME_RESERVED = 36;
export const DATUM_FRAME_HEADER_BYTES = 40;
export const DATUM_FRAME_ENTRY_BYTES = 8;

/** PING and PONG: 8 bytes of the pinger's choice, given back. No overlay. */
export const PING_TOKEN = 8;
export const PING_BYTES = 16;

/** Frames with a msgpack body: HELLO, BYE, ERROR, PARTNER, ACCEPT, NOTIFY, REFRESH, BUSY, R11. */
export const MESSAGE_BODY = 8;
