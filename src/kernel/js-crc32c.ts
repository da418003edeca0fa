/**
 * CRC32C (Castagnoli, reflected polynomial 0x82f63b78, init and xorout 0xffffffff) in JavaScript,
 * slice-by-8: eight table look-ups advance the checksum by eight bytes.
 */

const TABLES = 8;
const table = buildTables();

/** CRC32C of `length` bytes at `offset`, as u32. `u32` and `bytes` are views of one buffer. */
export function crc32cOf(
  bytes: Uint8Array,
  u32: Uint32Array,
  offset: number,
  length: number,
): number {
  const t = table;
  let crc = 0xffffffff;
  let at = offset;
  const end = offset + length;
  // Words are read aligned, so the head goes byte by byte.
  while (at < end && (at & 3) !== 0) {
    crc = (t[(crc ^ (bytes[at++] as number)) & 255] as number) ^ (crc >>> 8);
  }
  let word = at >>> 2;
  const wordEnd = word + ((end - at) >>> 3) * 2;
  at += (wordEnd - word) * 4;
  while (word < wordEnd) {
    const low = crc ^ (u32[word] as number);
    const high = u32[word + 1] as number;
    word += 2;
    crc =
      (t[1792 + (low & 255)] as number) ^
      (t[1536 + ((low >>> 8) & 255)] as number) ^
      (t[1280 + ((low >>> 16) & 255)] as number) ^
      (t[1024 + (low >>> 24)] as number) ^
      (t[768 + (high & 255)] as number) ^
      (t[512 + ((high >>> 8) & 255)] as number) ^
      (t[256 + ((high >>> 16) & 255)] as number) ^
      (t[high >>> 24] as number);
  }
  while (at < end) crc = (t[(crc ^ (bytes[at++] as number)) & 255] as number) ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Row n holds the effect of a byte followed by n zero bytes. */
function buildTables(): Int32Array {
  const rows = new Int32Array(TABLES * 256);
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
    rows[i] = crc;
  }
  for (let i = 256; i < rows.length; i++) {
    const before = rows[i - 256] as number;
    rows[i] = (before >>> 8) ^ (rows[before & 255] as number);
  }
  return rows;
}
