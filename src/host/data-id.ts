/** The data id of data sources that name none. */

import { DATA_ID_BYTES_MAX } from "../base/limits.ts";
import { toHex } from "../base/units.ts";
import { sha256 } from "./node-identity.ts";

/** Two sessions of different titles never claim the same index file: the title is the data id. */
export function dataIdOf(title: string): string {
  const bytes = new TextEncoder().encode(title);
  return bytes.length <= DATA_ID_BYTES_MAX ? title : toHex(sha256(bytes));
}
