/** Numbers for people. */

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

export function bytesText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < BYTE_UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

export function countText(count: number): string {
  return Math.round(count).toLocaleString("en-US");
}

/** "1 peer", "2 peers". */
export function count(n: number, one: string, many: string): string {
  return `${countText(n)} ${Math.round(n) === 1 ? one : many}`;
}

/** "datum 7", "data 7 to 9". */
export function span(from: number, to: number, one: string, many: string): string {
  return from === to
    ? `${one} ${countText(from)}`
    : `${many} ${countText(from)} to ${countText(to)}`;
}

export function dataText(n: number): string {
  return count(n, "datum", "data");
}

export function secondsText(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

export function percentText(share: number): string {
  return `${Math.round(100 * share)} %`;
}
