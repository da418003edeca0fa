// The cases of bench:flow. Each names what writes, what reads, and how many peers there are.

/** What fills a fragment of 16 KiB but for its headers. */
const BULK_BYTES = 16_256;
const SMALL_BYTES = 200;

/**
 * @typedef {object} Flow
 * @property {string} name
 * @property {"GB/s" | "Mdata/s" | "us"} unit  us: the case is about latency, at `ratePerSecond`
 * @property {"writeBatch" | "write" | "paced" | "raw"} write
 * @property {"batches" | "data" | "raw"} read
 * @property {number} datumBytes
 * @property {number} batchData
 * @property {number} peers
 * @property {number} [ratePerSecond]
 * @property {number} [warmSeconds]  where the common warm-up is too short: code of more processes than
 *   cores is compiled later, and slows the first seconds down to a third
 */

/** @type {Flow[]} */
export const CASES = [
  {
    name: "raw TCP, writev of 16 x 16 KiB",
    unit: "GB/s",
    write: "raw",
    read: "raw",
    datumBytes: 16_384,
    batchData: 16,
    peers: 1,
  },
  {
    name: "bulk 16 KiB, writeBatch to batches()",
    unit: "GB/s",
    write: "writeBatch",
    read: "batches",
    datumBytes: BULK_BYTES,
    batchData: 16,
    peers: 1,
  },
  {
    name: "200 B, writeBatch to batches()",
    unit: "Mdata/s",
    write: "writeBatch",
    read: "batches",
    datumBytes: SMALL_BYTES,
    batchData: 1024,
    peers: 1,
  },
  {
    name: "200 B, writeBatch to data()",
    unit: "Mdata/s",
    write: "writeBatch",
    read: "data",
    datumBytes: SMALL_BYTES,
    batchData: 1024,
    peers: 1,
  },
  {
    name: "200 B, write to batches()",
    unit: "Mdata/s",
    write: "write",
    read: "batches",
    datumBytes: SMALL_BYTES,
    batchData: 1024,
    peers: 1,
  },
  {
    name: "bulk 16 KiB to 4 peers",
    unit: "GB/s",
    write: "writeBatch",
    read: "batches",
    datumBytes: BULK_BYTES,
    batchData: 16,
    peers: 4,
    warmSeconds: 5,
  },
  {
    name: "latency of 200 B at 5,000/s",
    unit: "us",
    write: "paced",
    read: "batches",
    datumBytes: SMALL_BYTES,
    batchData: 1024,
    peers: 1,
    ratePerSecond: 5_000,
  },
];

/** What must hold, with the names of cases; `over`: the median of ratios of runs side by side. */
export const FLOORS = [
  { name: "bulk / raw TCP", of: CASES[1].name, over: CASES[0].name, floor: 0.25 },
  { name: "200 B, batches(), Mdata/s", of: CASES[2].name, floor: 2 },
  { name: "200 B, data(), Mdata/s", of: CASES[3].name, floor: 1 },
];
