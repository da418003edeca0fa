/** Exit codes, which scripts rely on, and which error leads to which. */

import { type ErrorCode, Mp2pError } from "../base/errors.ts";

export const EXIT = {
  /** Done, or drained after SIGTERM. */
  ok: 0,
  failure: 1,
  /** A flag, an argument, a variable or the configuration file is wrong. */
  usage: 2,
  /** The session worked, and data are missing. */
  dataLost: 3,
  /** SIGINT, or a second signal. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Errors that another flag cures. */
const USAGE_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "USAGE",
  "UNKNOWN_FORMAT",
  "INTEGRITY_UNSUPPORTED",
  "CLOSED_UNSUPPORTED",
  "ENGINE_MEMORY",
  "TITLE_AMBIGUOUS",
  "PLAINTEXT_REFUSED",
]);
/** Errors that say: what was sent did not all arrive here. */
const LOSS_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(["SESSION_LOST", "START_GONE"]);

export function exitCodeOf(error: unknown): ExitCode {
  if (!(error instanceof Mp2pError)) return EXIT.failure;
  if (USAGE_CODES.has(error.code)) return EXIT.usage;
  if (LOSS_CODES.has(error.code)) return EXIT.dataLost;
  return EXIT.failure;
}
