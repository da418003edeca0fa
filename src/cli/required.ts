/** Options that a command can't do without; they may come from flag, environment or file. */

import { LocalUsageError } from "../base/errors.ts";

/** Throws USAGE naming the flag and an example. */
export function requireText(value: string | undefined, flag: string, example: string): string {
  if (value !== undefined) return value;
  throw new LocalUsageError("USAGE", { detail: `${flag} is missing, ${example}` });
}
