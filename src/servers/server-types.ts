/**
 * What all servers have in common at their border: options, commands, events, counters.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Entropy, Rng } from "../base/rng.ts";

export interface ServerOptions {
  readonly rng: Rng;
  readonly entropy: Entropy;
  /** SHA-256, synchronous: 32 bytes, the caller's. */
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  readonly limits?: Partial<ServerLimits>;
}

/** Limits on what clients can make a server hold or do; at each OVERLOADED with a time to retry. */
export interface ServerLimits {
  /** Links at a time; more are told TOO_MANY_LINKS and closed. 8 KiB each: 160 MiB. */
  readonly links: number;
  /** Requests of one link not yet answered. */
  readonly inFlightPerLink: number;
  /** Messages a second and link, and how many may come at once after a pause. */
  readonly requestsPerSecond: number;
  readonly requestBurst: number;
  /** Messages beyond those that are refused, at the same rate, before the link is closed. */
  readonly refusalBurst: number;
  /** Malformed messages of one link until it is closed. */
  readonly malformedPerLink: number;
}

export const SERVER_LIMITS: ServerLimits = {
  links: 20_000,
  inFlightPerLink: 32,
  requestsPerSecond: 50,
  requestBurst: 100,
  refusalBurst: 50,
  malformedPerLink: 3,
};

/** Commands that every server takes. */
export type ServerCommand =
  /** Load the durable state; the event `ready` says when requests are served. */
  | { readonly type: "start" }
  /** Refuse new requests; the event `drained` says when the last one was answered. */
  | { readonly type: "drain" }
  /** Answered by the event `snapshot` with the same token. */
  | { readonly type: "snapshot"; readonly token: number };

/** Events that every server gives; `S` is its snapshot, plain JSON. */
export type ServerEvent<S> =
  | { readonly type: "ready" }
  | { readonly type: "drained" }
  /** The durable state can not be loaded or written. Not ready when `fatal`. */
  | {
      readonly type: "failed";
      readonly fatal: boolean;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  /** A client broke the protocol. */
  | {
      readonly type: "refused";
      readonly linkId: number;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  | { readonly type: "snapshot"; readonly token: number; readonly snapshot: S };

/** Counts since the start; all rise only, but `links` and `inFlight`. */
export interface ServerCounters {
  links: number;
  inFlight: number;
  requests: number;
  answers: number;
  failures: number;
  overloaded: number;
  malformed: number;
  unknown: number;
  linksRefused: number;
  /** Links closed because they went on after their refusals. */
  floodsClosed: number;
  /** Calls between servers that did not show the service key. */
  keyRefused: number;
  storeFailures: number;
}

export function newCounters(): ServerCounters {
  return {
    links: 0,
    inFlight: 0,
    requests: 0,
    answers: 0,
    failures: 0,
    overloaded: 0,
    malformed: 0,
    unknown: 0,
    linksRefused: 0,
    floodsClosed: 0,
    keyRefused: 0,
    storeFailures: 0,
  };
}
