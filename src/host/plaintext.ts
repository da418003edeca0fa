/**
 * Off loopback, plain text needs a word of whoever runs this: nothing is encrypted in this version,
 * data, tokens and service keys included.
 */

import { LocalUsageError } from "../base/errors.ts";
import { isLoopback } from "../base/hosts.ts";

/** Where is listened unless another host is named. */
export const LISTEN_HOST = "127.0.0.1";

/** Throws LocalUsageError PLAINTEXT_REFUSED naming what is off loopback and what allows it. */
export function checkPlaintext(
  allowed: boolean | undefined,
  places: readonly (readonly [what: string, host: string])[],
): void {
  if (allowed === true) return;
  const open = places.find(([, host]) => !isLoopback(host));
  if (open === undefined) return;
  throw new LocalUsageError("PLAINTEXT_REFUSED", { detail: `${open[0]} ${open[1]}` });
}

/** The same of where a source peer accepts data sources. */
export function checkAccept(
  allowed: boolean | undefined,
  listen: readonly { readonly host?: string }[],
): void {
  const places = listen.map(({ host = LISTEN_HOST }) => ["accept data sources at", host] as const);
  checkPlaintext(allowed, places);
}
