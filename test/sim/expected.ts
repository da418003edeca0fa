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

const never = (prefix: string, list: string, why: string): ExpectedRow[] =>
  names(prefix, list).map((row) => ({ ...row, never: why }));

const NO_FAULT = "nobody breaks the protocol: see test/peer/bad-input, test/transport";
const NO_OTHER = "all are of one version, and who they say they are: see test/peer/handshake";

export const EXPECTED: readonly ExpectedRow[] = [
  ...names("fault", "reset silence stall partition pause crash leave join wallJump serverCrash"),
  ...names("message", "DATA HELLO BUFFERMAP HAVE GET CREDIT GONE PARTNER ACCEPT REFRESH BYE ERROR"),
  ...names("message", "PING PONG"),
  { name: "message:SEAL", never: "integrity 'signed' does not exist yet" },
  { name: "message:NOTIFY", never: "no peer sends it" },
  { name: "message:BUSY" },
  { name: "message:CANCEL" },
  ...names("error", "LINK_CLOSED LINK_RESET UNREACHABLE DUPLICATE_LINK WRONG_OVERLAY"),
  ...names("error", "TOO_MANY_LINKS LINK_HALF_OPEN LINK_SLOW TIMEOUT"),
  ...never("error", "FRAME_MALFORMED FRAME_TOO_LARGE FRAME_UNEXPECTED MESSAGE_MALFORMED", NO_FAULT),
  ...never("error", "FRAGMENT_CORRUPT FRAGMENT_TO_SOURCE INDEX_OUT_OF_WINDOW", NO_FAULT),
  ...never("error", "VERSION_UNSUPPORTED IDENTITY_UNPROVEN SELF_LINK", NO_OTHER),
  ...never("error", "START_GONE", "nobody asks for fragment 0: see test/peer/standing"),
  ...never("error", "SESSION_LOST", "no session ends before its END: see test/peer/restart"),
  ...never("error", "NO_PEERS", "holdMs is longer than all are gone: see test/peer/standing"),
  { name: "branch:late job" },
  { name: "branch:lagging" },
  { name: "branch:recovered" },
  { name: "branch:held back by others" },
  { name: "branch:source held back" },
  { name: "branch:asks for other holders" },
  { name: "branch:duplicate" },
  { name: "branch:late fragment" },
  ...names("branch", "request busy"),
  { name: "branch:request served" },
  { name: "branch:request taken back" },
  { name: "branch:request timed out" },
  { name: "branch:request doubled" },
  { name: "branch:unopened link" },
  { name: "branch:request beyond credit", never: "nobody asks beyond the credit it gave" },
  { name: "branch:evicted link", never: "who links up proves who it is: see test/peer/flood" },
  { name: "branch:corrupt fragment", never: "no bits flip on the way: see test/peer/bad-input" },
  { name: "branch:malformed frame", never: "nobody sends any: see test/peer/bad-input" },
  { name: "branch:gap" },
  { name: "branch:gap of fragments" },
  { name: "branch:gap of data" },
  { name: "branch:refused link" },
  { name: "branch:slow link" },
  { name: "branch:ignored frame" },
  { name: "branch:memory stall", never: "only a message link copies; members have stream links" },
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
