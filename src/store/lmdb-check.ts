/**
 * Checks the file of an LMDB environment before LMDB maps it. LMDB follows the page numbers,
 * offsets and lengths in its pages as they are: a damaged one ends the process, or hides records
 * without a word. This walks both trees of the newest snapshot by plain reads, with every bound,
 * order, count and transaction number checked, and accounts for every page. It never writes, and
 * it knows nothing of what the records mean: the store checks those by their own checksum.
 *
 * Layout (LMDB data version 2, 64 bit, little-endian): page = number u64, transaction u64, pad u16,
 * flags u16, then lower u16 and upper u16 or, for overflow, pages u32; 24 bytes. Offsets in a page
 * count from the end of that header. Pages 0 and 1 are the meta pages, used in turn.
 */

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

const PAGE_HEADER_BYTES = 24;
const NODE_HEADER_BYTES = 8;
const MAGIC = 0xbeefc0de;
const DATA_VERSION = 2;
const FLAG_BRANCH = 1;
const FLAG_LEAF = 2;
const FLAG_OVERFLOW = 4;
const FLAG_META = 8;
const NODE_BIG_DATA = 1;
const NODE_SUB_DATA = 2;
const DATABASE_BYTES = 48;
const DEPTH_MAX = 32;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;
/** Address space that no store of ours asks for: a mapping beyond it is a damaged number. */
const MAP_BYTES_MAX = 2 ** 44;

interface Tree {
  readonly flags: number;
  readonly depth: number;
  readonly branchPages: number;
  readonly leafPages: number;
  readonly overflowPages: number;
  readonly entries: number;
  /** Undefined when the tree is empty. */
  readonly root: number | undefined;
}

interface Meta {
  readonly transaction: number;
  readonly lastPage: number;
  readonly free: Tree;
  readonly main: Tree;
}

interface Counts {
  branchPages: number;
  leafPages: number;
  overflowPages: number;
  entries: number;
}

/** `key` order in a tree: negative, zero, positive. */
type Order = (a: Buffer, b: Buffer) => number;

/**
 * What is wrong with the file, as text; undefined when nothing is, or when it is empty or absent
 * (LMDB then creates it). Throws what the system throws when it can not be read.
 */
export function lmdbFileFault(path: string): string | undefined {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    const bytes = fstatSync(descriptor).size;
    if (bytes > 0) new Check(descriptor, bytes).run();
    return undefined;
  } catch (error) {
    if (error instanceof Fault) return error.message;
    throw error;
  } finally {
    closeSync(descriptor);
  }
}

class Fault extends Error {}

function demand(holds: boolean, what: string): asserts holds {
  if (!holds) throw new Fault(what);
}

class Check {
  readonly #descriptor: number;
  readonly #fileBytes: number;
  #pageBytes = 0;
  #meta: Meta | undefined;
  /** Of each page: 0 unknown, 1 in use, 2 free. */
  #seen = new Uint8Array(0);

  constructor(descriptor: number, fileBytes: number) {
    this.#descriptor = descriptor;
    this.#fileBytes = fileBytes;
  }

  run(): void {
    const meta = this.#newestMeta();
    this.#meta = meta;
    this.#seen = new Uint8Array(meta.lastPage + 1);
    this.#seen.fill(1, 0, 2);
    const freed: number[] = [];
    // Its flags hold those of the environment too: a file of its own (0x4000), integer keys (8).
    demand((meta.free.flags & ~0x4000) === 8, "the kind of the free list");
    demand(meta.main.flags === 0, "the kind of the root");
    this.#tree(meta.free, "the free list", compareNumbers, (key, value, flags) => {
      demand(flags !== NODE_SUB_DATA, "the free list holds a tree");
      const freedBy = u64(key, 0);
      demand(freedBy >= 1 && freedBy <= meta.transaction, `pages freed by transaction ${freedBy}`);
      readFreed(value, freed, meta.lastPage);
    });
    this.#tree(meta.main, "the root", Buffer.compare, (key, value, flags) => {
      demand(flags === NODE_SUB_DATA, "the root holds something else than trees");
      const tree = readTree(value, 0);
      const name = JSON.stringify(key.toString("latin1").replace(/\0+$/, ""));
      demand(tree.flags === 0, `the kind of ${name}`);
      this.#tree(tree, name, Buffer.compare, (_key, _value, below) => {
        demand(below !== NODE_SUB_DATA, `${name} holds a tree`);
      });
    });
    for (const page of freed) {
      demand(page >= 2 && page <= meta.lastPage, `free page ${page} of ${meta.lastPage}`);
      demand(this.#seen[page] === 0, `page ${page} is free and used, or free twice`);
      this.#seen[page] = 2;
    }
    const lost = this.#seen.indexOf(0);
    demand(lost < 0, `page ${lost} is neither free nor used`);
  }

  #newestMeta(): Meta {
    demand(this.#fileBytes >= 2 * 512, "shorter than its head");
    const head = this.#read(0, 512);
    this.#pageBytes = head.readUInt32LE(PAGE_HEADER_BYTES + 24);
    const isPower = (this.#pageBytes & (this.#pageBytes - 1)) === 0;
    demand(isPower && this.#pageBytes >= 512 && this.#pageBytes <= 65_536, "the page size");
    demand(this.#fileBytes >= 2 * this.#pageBytes, "shorter than its head");
    const first = this.#readMeta(0, head);
    const second = this.#readMeta(1, this.#read(this.#pageBytes, 512));
    const [older, newer] =
      first.transaction < second.transaction ? [first, second] : [second, first];
    // The two take turns: a damaged number would bring back what was before.
    const fresh = newer.transaction === 0;
    demand(
      fresh || older.transaction === newer.transaction - 1 || older.transaction === 0,
      `transactions ${older.transaction} and ${newer.transaction}`,
    );
    return newer;
  }

  #readMeta(index: number, page: Buffer): Meta {
    const where = `head ${index}`;
    demand(u64(page, 0) === index, `${where}: page number`);
    demand(page.readUInt16LE(18) === FLAG_META, `${where}: page flags`);
    const at = PAGE_HEADER_BYTES;
    demand(page.readUInt32LE(at) === MAGIC, `${where}: magic`);
    demand(page.readUInt32LE(at + 4) === DATA_VERSION, `${where}: version`);
    demand(page.readBigUInt64LE(at + 8) === 0n, `${where}: address`);
    const mapBytes = u64(page, at + 16);
    demand(mapBytes <= MAP_BYTES_MAX, `${where}: map of ${mapBytes} bytes`);
    demand(page.readUInt32LE(at + 24) === this.#pageBytes, `${where}: page size`);
    const meta = {
      free: readTree(page, at + 24),
      main: readTree(page, at + 24 + DATABASE_BYTES),
      lastPage: u64(page, at + 24 + 2 * DATABASE_BYTES),
      transaction: u64(page, at + 32 + 2 * DATABASE_BYTES),
    };
    // A map always covers its pages, so this bounds what is allocated below as well.
    demand(meta.lastPage >= 1 && meta.lastPage < 2 ** 32, `${where}: last page`);
    demand(
      meta.lastPage < this.#fileBytes / this.#pageBytes + 2 ** 16,
      `${where}: last page beyond the file`,
    );
    demand(meta.transaction >= 0, `${where}: transaction`);
    return meta;
  }

  #tree(
    tree: Tree,
    name: string,
    order: Order,
    visit: (key: Buffer, value: Buffer, flags: number) => void,
  ): void {
    const counts: Counts = { branchPages: 0, leafPages: 0, overflowPages: 0, entries: 0 };
    if (tree.root !== undefined) {
      this.#walk(
        tree.root,
        tree.depth,
        name,
        order,
        { low: undefined, high: undefined },
        counts,
        visit,
      );
    } else demand(tree.depth === 0, `${name}: depth of an empty tree`);
    demand(
      counts.branchPages === tree.branchPages &&
        counts.leafPages === tree.leafPages &&
        counts.overflowPages === tree.overflowPages &&
        counts.entries === tree.entries,
      `${name}: ${JSON.stringify(counts)} counted, ${JSON.stringify(tree)} noted`,
    );
  }

  #walk(
    pageNumber: number,
    depth: number,
    name: string,
    order: Order,
    bounds: { readonly low: Buffer | undefined; readonly high: Buffer | undefined },
    counts: Counts,
    visit: (key: Buffer, value: Buffer, flags: number) => void,
  ): void {
    const where = `${name}, page ${pageNumber}`;
    demand(depth >= 1 && depth <= DEPTH_MAX, `${where}: depth`);
    const page = this.#page(pageNumber, where);
    const isLeaf = depth === 1;
    demand(page.readUInt16LE(18) === (isLeaf ? FLAG_LEAF : FLAG_BRANCH), `${where}: flags`);
    if (isLeaf) counts.leafPages++;
    else counts.branchPages++;
    const nodes = nodesOf(page, isLeaf, where);
    let last = bounds.low;
    for (const [i, { key }] of nodes.entries()) {
      // The first key of a branch is not stored: it stands for everything below the second.
      if (!isLeaf && i === 0) continue;
      const rises = last === undefined || order(last, key) < (isLeaf && i === 0 ? 1 : 0);
      demand(rises, `${where}: order of keys`);
      demand(bounds.high === undefined || order(key, bounds.high) < 0, `${where}: key too high`);
      last = key;
    }
    for (const [i, node] of nodes.entries()) {
      if (!isLeaf) {
        const low = i === 0 ? bounds.low : node.key;
        const high = nodes[i + 1]?.key ?? bounds.high;
        this.#walk(node.child, depth - 1, name, order, { low, high }, counts, visit);
        continue;
      }
      counts.entries++;
      if (node.flags !== NODE_BIG_DATA) {
        visit(node.key, node.value, node.flags);
        continue;
      }
      const first = u64(node.value, 0);
      const pages = u64(node.value, 16);
      const needed = Math.ceil((PAGE_HEADER_BYTES + node.dataBytes) / this.#pageBytes);
      // A value that is overwritten by a shorter one in the same transaction keeps its pages.
      demand(pages >= needed, `${where}: ${pages} pages for ${node.dataBytes} bytes`);
      const overflow = this.#page(first, where, pages);
      demand(overflow.readUInt16LE(18) === FLAG_OVERFLOW, `${where}: flags of page ${first}`);
      demand(overflow.readUInt32LE(20) === pages, `${where}: pages from ${first}`);
      counts.overflowPages += pages;
      visit(
        node.key,
        overflow.subarray(PAGE_HEADER_BYTES, PAGE_HEADER_BYTES + node.dataBytes),
        node.flags,
      );
    }
  }

  /** Reads `count` pages from `pageNumber` on and marks them used. */
  #page(pageNumber: number, where: string, count = 1): Buffer {
    const meta = this.#meta;
    demand(meta !== undefined, "no head");
    demand(
      pageNumber >= 2 && count >= 1 && pageNumber + count - 1 <= meta.lastPage,
      `${where}: page ${pageNumber} of ${meta.lastPage}`,
    );
    for (let i = pageNumber; i < pageNumber + count; i++) {
      demand(this.#seen[i] === 0, `${where}: page ${i} is used twice`);
      this.#seen[i] = 1;
    }
    const page = this.#read(pageNumber * this.#pageBytes, count * this.#pageBytes);
    demand(u64(page, 0) === pageNumber, `${where}: page number of ${pageNumber}`);
    const transaction = u64(page, 8);
    demand(
      transaction >= 1 && transaction <= meta.transaction,
      `${where}: written by transaction ${transaction} of ${meta.transaction}`,
    );
    // Each commit of the store writes its revision, thus a new root: an old head under a damaged
    // number does not fit its root.
    demand(
      pageNumber !== meta.main.root || transaction === meta.transaction,
      `${where}: root of transaction ${transaction}, head of ${meta.transaction}`,
    );
    return page;
  }

  #read(offset: number, bytes: number): Buffer {
    demand(offset + bytes <= this.#fileBytes, `the file ends before ${offset + bytes} bytes`);
    const buffer = Buffer.alloc(bytes);
    let done = 0;
    while (done < bytes) {
      const read = readSync(this.#descriptor, buffer, done, bytes - done, offset + done);
      demand(read > 0, `the file ends at ${offset + done} bytes`);
      done += read;
    }
    return buffer;
  }
}

interface Node {
  readonly flags: number;
  readonly key: Buffer;
  /** In a leaf: the value, or where it lies (NODE_BIG_DATA). */
  readonly value: Buffer;
  readonly dataBytes: number;
  /** In a branch: the page below. */
  readonly child: number;
}

function nodesOf(page: Buffer, isLeaf: boolean, where: string): Node[] {
  const lower = page.readUInt16LE(20);
  const upper = page.readUInt16LE(22);
  const bodyBytes = page.length - PAGE_HEADER_BYTES;
  demand(lower % 2 === 0 && lower <= upper && upper <= bodyBytes, `${where}: free space`);
  const body = page.subarray(PAGE_HEADER_BYTES);
  const nodes: Node[] = [];
  const extents: { readonly start: number; readonly end: number }[] = [];
  for (let i = 0; i < lower; i += 2) {
    const start = body.readUInt16LE(i);
    demand(start >= upper && start + NODE_HEADER_BYTES <= bodyBytes, `${where}: place of a node`);
    const low = body.readUInt16LE(start);
    const high = body.readUInt16LE(start + 2);
    const flags = body.readUInt16LE(start + 4);
    const keyEnd = start + NODE_HEADER_BYTES + body.readUInt16LE(start + 6);
    const dataBytes = low + high * 0x1_0000;
    // Branches keep the high part of the page number where leaves keep flags.
    const known = !isLeaf || flags === 0 || flags === NODE_BIG_DATA || flags === NODE_SUB_DATA;
    demand(known, `${where}: flags of a node`);
    const stored = !isLeaf ? 0 : flags === NODE_BIG_DATA ? 24 : dataBytes;
    demand(keyEnd + stored <= bodyBytes, `${where}: length of a node`);
    demand(flags !== NODE_SUB_DATA || stored === DATABASE_BYTES, `${where}: length of a tree`);
    extents.push({ start, end: (keyEnd + stored + 1) & ~1 });
    nodes.push({
      flags,
      key: body.subarray(start + NODE_HEADER_BYTES, keyEnd),
      value: body.subarray(keyEnd, keyEnd + stored),
      dataBytes,
      child: dataBytes + flags * 0x1_0000_0000,
    });
  }
  demand(nodes.length > 0, `${where}: no node`);
  extents.sort((a, b) => a.start - b.start);
  let end = upper;
  for (const extent of extents) {
    demand(extent.start === end, `${where}: nodes overlap or leave a gap`);
    end = extent.end;
  }
  demand(end === bodyBytes, `${where}: nodes do not fill the page`);
  return nodes;
}

function readTree(bytes: Buffer, at: number): Tree {
  const root = bytes.readBigUInt64LE(at + 40);
  return {
    flags: bytes.readUInt16LE(at + 4),
    depth: bytes.readUInt16LE(at + 6),
    branchPages: u64(bytes, at + 8),
    leafPages: u64(bytes, at + 16),
    overflowPages: u64(bytes, at + 24),
    entries: u64(bytes, at + 32),
    root: root === NO_PAGE ? undefined : Number(root),
  };
}

/**
 * One record of the free list: how many words, then page numbers; zero is a word without a page,
 * -n says that n pages from the next word on are free.
 */
function readFreed(value: Buffer, freed: number[], lastPage: number): void {
  demand(value.length >= 8 && value.length % 8 === 0, "length of a free list record");
  const words = u64(value, 0);
  demand(words <= value.length / 8 - 1, "count of a free list record");
  for (let i = 1; i <= words; i++) {
    const word = Number(value.readBigInt64LE(8 * i));
    if (word > 0) freed.push(word);
    if (word >= 0) continue;
    const first = ++i <= words ? Number(value.readBigInt64LE(8 * i)) : 0;
    demand(first >= 2 && first - word - 1 <= lastPage, `${-word} free pages from ${first} on`);
    for (let page = first; page < first - word; page++) freed.push(page);
  }
}

function compareNumbers(a: Buffer, b: Buffer): number {
  demand(a.length === 8 && b.length === 8, "key of the free list");
  return u64(a, 0) - u64(b, 0);
}

function u64(bytes: Buffer, at: number): number {
  demand(at + 8 <= bytes.length, "a number beyond its page");
  return Number(bytes.readBigUInt64LE(at));
}
