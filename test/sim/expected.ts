/**
 * What must occur in at least EXPECTED_SHARE of seeds. A row switched off says why; should it occur
 * all the same the run fails, so that the row is switched on.
 */

export const EXPECTED_SHARE = 0.01;

export interface ExpectedRow {
  readonly name: string;
  /** Absent: expected. */
  readonly never?: string;
  /** Occurs, too seldom to be asked for in this many seeds. */
  readonly seldom?: string;
}

const names = (prefix: string, list: string): ExpectedRow[] =>
  list.split(" ").map((name) => ({ name: `${prefix}:${name}` }));

export const EXPECTED: readonly ExpectedRow[] = [
  ...names("fault", "reset silence stall partition pause crash leave join wallJump"),
  ...names("message", "DATA HELLO BUFFERMAP HAVE GET CREDIT GONE PARTNER ACCEPT REFRESH BYE ERROR"),
  ...names("message", "PING PONG"),
  { name: "message:SEAL", never: "integrity 'signed' does not exist yet" },
  { name: "message:NOTIFY", never: "no peer sends it" },
  { name: "message:BUSY" },
  { name: "message:CANCEL" },
  ...names("error", "LINK_CLOSED LINK_RESET UNREACHABLE DUPLICATE_LINK WRONG_OVERLAY"),
  ...names("error", "TOO_MANY_LINKS"),
  { name: "error:LINK_HALF_OPEN", seldom: "a link must stay silent for 25 s" },
  { name: "error:LINK_SLOW", seldom: "a queue must stand still for 30 s" },
  { name: "error:TIMEOUT", seldom: "a handshake must take 5 s" },
  { name: "branch:late job" },
  { name: "branch:lagging" },
  { name: "branch:recovered", seldom: "who was told lagging must catch up" },
  { name: "branch:held back by others" },
  { name: "branch:source held back" },
  { name: "branch:asks for other holders" },
  { name: "branch:duplicate" },
  { name: "branch:late fragment" },
  { name: "branch:request timed out" },
  { name: "branch:gap" },
  { name: "branch:gap of fragments" },
  { name: "branch:gap of data" },
  { name: "branch:refused link" },
  { name: "branch:slow link", seldom: "as LINK_SLOW" },
  { name: "branch:memory stall", seldom: "memory must run out for a moment" },
  { name: "branch:ignored frame", seldom: "maps must move more than twice a second" },
];

export interface CoverageFaults {
  /** A line for each name: how often, and what is wrong with that. */
  readonly table: string;
  readonly faults: readonly string[];
}

/** Holds what occurred in each of `runs` against the table. */
export function judgeCoverage(
  runs: readonly (readonly string[])[],
  expected: readonly ExpectedRow[] = EXPECTED,
): CoverageFaults {
  const counts = new Map<string, number>();
  for (const run of runs) for (const name of run) counts.set(name, (counts.get(name) ?? 0) + 1);
  const least = Math.max(1, Math.ceil(EXPECTED_SHARE * runs.length));
  const faults: string[] = [];
  const lines: string[] = [];
  for (const { name, never, seldom } of expected) {
    const count = counts.get(name) ?? 0;
    counts.delete(name);
    let fault = "";
    if (never !== undefined) {
      if (count > 0) fault = `occurs now, though "${never}": switch its row on`;
    } else if (seldom === undefined && count < least) {
      fault = `in ${count} of ${runs.length} seeds, ${least} are asked for`;
    }
    if (fault !== "") faults.push(`${name}: ${fault}`);
    const note = never ?? seldom ?? "";
    lines.push(`${String(count).padStart(5)}  ${name}${note === "" ? "" : `  (${note})`}`);
  }
  for (const [name, count] of counts) {
    faults.push(`${name}: occurs in ${count} seeds and has no row`);
    lines.push(`${String(count).padStart(5)}  ${name}  (no row)`);
  }
  return { table: lines.join("\n"), faults };
}
