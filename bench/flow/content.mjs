// What the data of a flow hold: a function of their number, known at both ends, so that the
// receiver can check every byte. No two data are alike and none can be compressed: each batch is
// another stretch of one table of random bytes, and each datum begins with its own number and the
// time before it was written.
//
// Datum n: bytes 0-3 n, bytes 4-7 clock (us, modulo 2^32), the rest from the table.

const TABLE_BYTES = 4 * 1024 * 1024;
/** From this size on one call that compares natively beats a loop over words. */
const NATIVE_BYTES_MIN = 1024;
/** How far apart the stretches of consecutive batches begin, in words; odd. */
const STRIDE_WORDS = 40_503;
const STAMP_BYTES = 8;

/** Microseconds of the monotonic clock, the same in all processes of this machine. */
const clockOffsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
export function clockUs() {
  return (performance.now() + clockOffsetMs) * 1000;
}

/** Microseconds from the stamp of a datum until now. */
export function sinceUs(stampUs, nowUs) {
  return (Math.floor(nowUs) - stampUs) | 0;
}

export class Content {
  /** Words of the table, the same in every process. */
  #words = new Int32Array(TABLE_BYTES / 4);
  #bytes = Buffer.from(this.#words.buffer);
  #spanWords;

  /** Data of `datumBytes` (a multiple of 4), `batchData` of them a batch. */
  constructor(datumBytes, batchData) {
    this.datumBytes = datumBytes;
    this.batchData = batchData;
    this.#spanWords = (TABLE_BYTES - datumBytes * batchData) / 4;
    let state = 0x9e3779b9;
    for (let i = 0; i < this.#words.length; i++) {
      // xorshift32
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#words[i] = state;
    }
  }

  /** Writes batch `batch` to `payloads`, all stamped `stampUs`. */
  fill(batch, payloads, view, stampUs) {
    const { datumBytes, batchData } = this;
    const from = this.#startOf(batch);
    payloads.set(this.#bytes.subarray(from, from + datumBytes * batchData));
    const stamp = Math.floor(stampUs) >>> 0;
    let n = batch * batchData;
    for (let at = 0; at < payloads.length; at += datumBytes) {
      view.setUint32(at, n++, true);
      view.setUint32(at + 4, stamp, true);
    }
  }

  /** Whether the `bytes` bytes at `at` of `memory` (`view` is over the same) are datum `n`. */
  matches(n, memory, view, at, bytes) {
    const { datumBytes, batchData } = this;
    if (bytes !== datumBytes || view.getUint32(at, true) !== n) return false;
    const batch = Math.floor(n / batchData);
    const from = this.#startOf(batch) + (n - batch * batchData) * datumBytes;
    if (datumBytes >= NATIVE_BYTES_MIN) {
      const sourceStart = from + STAMP_BYTES;
      const sourceEnd = from + datumBytes;
      return (
        this.#bytes.compare(memory, at + STAMP_BYTES, at + bytes, sourceStart, sourceEnd) === 0
      );
    }
    const words = this.#words;
    const end = at + bytes;
    let word = (from + STAMP_BYTES) >>> 2;
    let differing = 0;
    for (let i = at + STAMP_BYTES; i < end; i += 4) {
      differing |= view.getInt32(i, true) ^ words[word++];
    }
    return differing === 0;
  }

  #startOf(batch) {
    return 4 * ((batch * STRIDE_WORDS) % this.#spanWords);
  }
}
