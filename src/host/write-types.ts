/** What writing data takes, at a source peer and at a data source on a link of its own alike. */

import type { ErrorCode } from "../base/errors.ts";
import type { TimestampUs } from "../base/units.ts";

/** Where log lines go; pino fits as it is. Silent when not given. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What is waited for, for people; `failure`: that is tried again. */
export type OnNote = (
  text: string,
  failure?: { readonly code: ErrorCode; readonly detail: string },
) => void;

export interface WriteMeta {
  /** Default: now. */
  readonly timestampUs?: TimestampUs;
  readonly contentType?: string;
}

export interface BatchWrite {
  /** Payloads back to back. */
  readonly payloads: Uint8Array;
  /** lengths[i] bytes belong to datum i. */
  readonly lengths: Uint32Array;
}
