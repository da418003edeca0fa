/**
 * A limit on everything, each with its reason. Relations between them are asserted at load.
 */

import { assert } from "./assert.ts";
import { DATA_HEADER_BYTES } from "./layout.ts";
import { KIB, MIB } from "./units.ts";

/** Segment of the engine's memory: 16 default fragments; large enough for the largest frame. */
export const SEGMENT_BYTES = 256 * KIB;

/** A fragment's whole frame, header included. Below 1 KiB headers outweigh data. */
export const FRAGMENT_BYTES_MIN = 1 * KIB;
/** The largest frame fills one segment, so that it lies contiguous wherever it arrives. */
export const FRAGMENT_BYTES_MAX = SEGMENT_BYTES;
/** Cheap per-fragment costs without delaying relays: 16 KiB take 13 us at 10 Gbit/s. */
export const FRAGMENT_BYTES_DEFAULT = 16 * KIB;

/** One datum; the assembler holds one datum of this size per overlay and no more. */
export const DATUM_BYTES_MAX = 16 * MIB;

/** Bits of a window; 64 Ki bits are 8 KiB a buffermap and neighbour. */
export const WINDOW_FRAGMENTS_MAX = 65_536;
export const WINDOW_FRAGMENTS_MIN = 64;
export const WINDOW_FRAGMENTS_DEFAULT = 8_192;
/** Small rings stay in the cache: 2 to 8 MiB move 13 to 27 % faster than 64 MiB (measured). */
export const WINDOW_BYTES_DEFAULT = 8 * MIB;
export const WINDOW_BYTES_MIN = 64 * KIB;
export const WINDOW_BYTES_MAX = 0x7fff_ffff;
/** Live: what is older than this left the window of interest. */
export const WINDOW_MS_DEFAULT = 10_000;

/** Highest fragment index: JavaScript's exact integers, less one for "one past the end". */
export const INDEX_MAX = Number.MAX_SAFE_INTEGER - 1;

export const SOURCE_ID_BYTES_MAX = 128;
export const DATA_ID_BYTES_MAX = 128;
export const CONTENT_TYPE_BYTES_MAX = 128;
/** Local source numbers are one byte in a record header. */
export const SOURCES_MAX = 256;
export const TITLE_BYTES_MAX = 256;
export const DESCRIPTION_BYTES_MAX = 4 * KIB;

/** Any frame on a peer link. Only DATA comes near it; the limit is checked before bytes are kept. */
export const FRAME_BYTES_MAX = SEGMENT_BYTES;
/** Control frames other than DATA and BUFFERMAP on a peer link. */
export const CONTROL_FRAME_BYTES_MAX = 16 * KIB;
/** A message between peer and server. An index file with its description fits many times over. */
export const SIGNALLING_MESSAGE_BYTES_MAX = 64 * KIB;

/** msgpack pre-scan: our deepest message nests 5 levels. */
export const MSGPACK_DEPTH_MAX = 8;
/** msgpack pre-scan: elements of one message, all levels together. */
export const MSGPACK_ELEMENTS_MAX = 4_096;

/** Links of one engine; at the limit inbound links are refused with TOO_MANY_LINKS. */
export const LINKS_MAX_DEFAULT = 64;
/** And no engine may be told more: availability is counted up to 8,191 holders. */
export const LINKS_MAX_MOST = 4_096;
/** Links that have not finished their HELLO; a flood of half-open links stops here. */
export const LINKS_PENDING_MAX = 64;
/** A HELLO must complete within this, or the link is closed. */
export const HANDSHAKE_TIMEOUT_MS = 5_000;

/** DATA handed to one link's socket and not yet sent: a run of 32 default fragments, doubled. */
export const LINK_QUEUE_BYTES_MAX = 1 * MIB;
/** And on a slow link what leaves within this: what waits there could have gone another way. */
export const LINK_QUEUE_MS = 250;
/** But at least this: two default fragments. */
export const LINK_QUEUE_BYTES_MIN = 32 * KIB;
/**
 * Control frames handed to one link's socket and not yet sent. Twice the DATA: HAVE for a stream of
 * 10 Gbit/s fills it in seconds, so who comes here does not read. Closed with LINK_SLOW.
 */
export const LINK_CONTROL_BYTES_MAX = 2 * MIB;
/** PINGs of one link answered a second: ours come every PING_MS, a measuring tool's more often. */
export const PINGS_PER_SECOND_MAX = 10;
/** Buffermaps told one neighbour a second at REFRESH: it asks that often when its maps move. */
export const REFRESHES_PER_SECOND_MAX = 2;
/** A link whose queue did not move for this long is closed with LINK_SLOW. */
export const LINK_SLOW_MS = 30_000;
/** Fragments asked for and not yet answered, per link. */
export const REQUESTS_IN_FLIGHT_MAX = 64;
/** Requests of a neighbour none of which could be served for this long are declined: BUSY. */
export const SERVE_WAIT_MS = 700;
/** And it is told to come back after this. */
export const BUSY_RETRY_MS = 500;
/** Indices per GET, HAVE or GONE frame; more go into further frames. */
export const RANGES_PER_FRAME_MAX = 512;
/** Indices that one range covers. */
export const RANGE_COUNT_MAX = 0xffff_ffff;

/** A data source goes on behind this at most: its numbers never come near what 53 bits hold. */
export const HELD_MAX = 2 ** 52;

/** HAVE leaves when so many fragments have gathered ... */
export const HAVE_BATCH_FRAGMENTS = 16;
/** ... or the oldest has waited this long for those that could send it another time ... */
export const HAVE_DELAY_MS = 20;
/** ... and this long for the others. */
export const HAVE_DELAY_MS_MAX = 250;

/** A neighbour that stands still with a full window for this long is lagging (complete). */
export const STALL_MS_DEFAULT = 10_000;
/** What no neighbour holds for this long is a gap. */
export const REPAIR_MS_DEFAULT = 5_000;
/** How long a source holds without a member in good standing (complete). */
export const HOLD_MS_DEFAULT = 60_000;
/** How long a finished peer stays for its neighbours. */
export const LINGER_MS_DEFAULT = 10_000;
/** Live: what is later than this behind the newest known index is dropped. */
export const MAX_LAG_MS_DEFAULT = 10_000;
/** As the index file has room for. */
export const LAG_MS_MAX = 0xffff_ffff;
/** A datum waits at most this long for others to share its fragment. */
export const MAX_DELAY_MS_DEFAULT = 20;

/** The lowest upload or download limit: a default fragment in 16 s; below that nothing arrives. */
export const RATE_LIMIT_MIN = 1 * KIB;
/** The highest: above it nothing is measured any more. 100 Gbit/s. */
export const RATE_LIMIT_MAX = 12_500_000_000;
/** Upload saved up while there was nothing to send: short enough not to be seen as a burst. */
export const UPLOAD_BURST_MS = 100;
/** And at least this: one default fragment. */
export const UPLOAD_BURST_BYTES_MIN = FRAGMENT_BYTES_DEFAULT;
/** Download granted ahead: what is under way to a neighbour half a second away and back. */
export const DOWNLOAD_BURST_MS = 500;

/** Own PING when a link was silent this long; dead after LINK_DEAD_MS. */
export const PING_MS = 10_000;
export const LINK_DEAD_MS = 25_000;

/** Substreams of an overlay: bits of one u32 mask. */
export const SUBSTREAMS_MAX = 32;
export const SUBSTREAMS_DEFAULT = 8;
/** Pushed copies of one substream per node but the source: wide trees stay shallow. */
export const CHILDREN_MAX = 8;
/** Hops from the source beyond which a substream is not handed on: what runs in a circle ends here. */
export const DEPTH_MAX = 32;
/** Fragments of one substream run: one contiguous write. */
export const SUBSTREAM_RUN = 16;
/** Words of 64 fragments in which a pick looks for one class of rarity, however large the window. */
export const PICK_CLASS_WORDS_MAX = 24;

/** Candidates of one member (DESIGN: up to 8). */
export const CANDIDATES_MAX = 8;
/** Members in one peer list answer: more would be scraping, fewer would strand newcomers. */
export const PEER_LIST_MAX = 30;

/**
 * Checksums of fewer bytes run inline. Posting a job keeps this thread busy for about 40 us, in
 * which it verifies 130 KiB itself; what one read of a link brings (up to 256 KiB) is above that. A
 * job that nobody else waits for is answered sooner inline up to 512 KiB, but this thread is free
 * meanwhile (measured: two workers are 1.4 times one thread at 512 KiB, 1.7 times at 1 MiB).
 */
export const POOL_JOB_BYTES_MIN = 192 * KIB;
/** A kernel job takes microseconds to milliseconds; one this old hangs or its machine is drowned. */
export const POOL_JOB_TIMEOUT_MS = 10_000;
/** Kernel jobs that wait for a worker; more would only wait longer: run them inline. */
export const POOL_QUEUE_MAX = 1_024;

/** Data in one DATUM frame of a data source; what a reader keeps tables for. */
export const FEED_FRAME_DATA_MAX = 8_192;
/** Payload bytes that a data source gathers in one DATUM frame: one write, one merge. */
export const FEED_FRAME_BYTES = 64 * KIB;
/** Bytes of DATUM frames that a data source may have on their way or waiting for room. */
export const FEED_CREDIT_BYTES = 1 * MIB;
/** The same with many data sources: any frame still fits. */
export const FEED_CREDIT_BYTES_MIN = FRAME_BYTES_MAX;
/** All data sources together; beyond, each is granted less. */
export const FEED_CREDIT_TOTAL_BYTES = 128 * MIB;
/**
 * What has come of big data of all data sources together: four of the largest size, one of which is
 * for who finds no other room.
 */
export const FEED_ASSEMBLY_BYTES_MAX = 4 * DATUM_BYTES_MAX;
/** The next piece of a big datum must come within this once granted, or its memory is wanted back. */
export const FEED_PIECE_MS = 30_000;
/** While others wait for that memory, of each datum such a share must come in FEED_PIECE_MS. */
export const FEED_DATUM_PARTS = 8;
/** A second link for a data source: how long the first may take to show that it lives. */
export const FEED_PROBE_MS = 2_000;
/** A data source that never sent anything makes room for another, at most once in this time. */
export const FEED_FORGET_MS = 5_000;
/** What a data source keeps because no peer is known to hold it; more has to wait. */
export const FEED_KEEP_BYTES_DEFAULT = 32 * MIB;

/** Memory of one engine; fixed at start, growth would detach every view. */
export const MEMORY_MIB_DEFAULT = 64;
export const MEMORY_MIB_MIN = 8;
export const MEMORY_MIB_MAX = 4_095;

/** Virtual peers of one cache server, and overlays that each may be in (R8). */
export const VIRTUAL_PEERS_MAX = 64;
export const VIRTUAL_PEERS_DEFAULT = 4;
export const OVERLAYS_PER_VIRTUAL_PEER_MAX = 64;
export const OVERLAYS_PER_VIRTUAL_PEER_DEFAULT = 4;
/** Virtual peers that one overlay can ask for, and gets unless its OMS is told otherwise. */
export const OVERLAY_VIRTUAL_PEERS_MAX = 64;
export const OVERLAY_VIRTUAL_PEERS_DEFAULT = 16;
/** R8.c: 0 gives way to all others. */
export const PRIORITY_MAX = 7;
/** Name of a cache server, for people. */
export const CACHE_LABEL_BYTES_MAX = 128;

assert(FRAGMENT_BYTES_MAX <= SEGMENT_BYTES, "a fragment fits a segment");
assert(FRAME_BYTES_MAX <= SEGMENT_BYTES, "a frame fits a segment");
assert(
  FRAGMENT_BYTES_MIN > 2 * DATA_HEADER_BYTES + SOURCE_ID_BYTES_MAX + CONTENT_TYPE_BYTES_MAX + 128,
  "a source declaration and a piece of a datum fit the smallest fragment",
);
assert(FEED_CREDIT_TOTAL_BYTES >= SOURCES_MAX * FEED_CREDIT_BYTES_MIN, "credit for all sources");
assert(WINDOW_BYTES_DEFAULT >= 4 * FRAGMENT_BYTES_DEFAULT, "a window holds several fragments");
assert(LINK_DEAD_MS > 2 * PING_MS, "two pings fit before a link is dead");
