/**
 * The one table of errors. Codes are stable and may be scripted against; sentences may change. They
 * name options as the flags of the command; those of the library are the same words in camel case.
 *
 * Three families, told apart by class: `LocalUsageError` (the caller misused the API),
 * `RemoteProtocolError` (the other side broke the protocol: the link is closed or the request
 * refused), `OperationError` (the world: refused, timed out, full). A bug of ours is an
 * AssertionError.
 */

export interface ErrorRow {
  /** What happened and what cures it, for a person. */
  readonly sentence: string;
  /** Whether the same call may succeed later without a change. */
  readonly retryable: boolean;
}

const row = (sentence: string, retryable = false): ErrorRow => ({ sentence, retryable });

export const ERRORS = {
  // Usage
  USAGE: row("An option or argument is wrong."),
  CLOSED: row("The object was closed; create a new one."),
  UNKNOWN_FORMAT: row("The data format is unknown; use lines, ndjson, csv, raw or framed."),
  INPUT_MALFORMED: row("The input does not follow its format."),
  INTEGRITY_UNSUPPORTED: row(
    "Integrity 'signed' does not exist in this version; use checksum or none.",
  ),
  DATUM_TOO_LARGE: row("A datum holds at most 16 MiB; split it before writing."),
  SOURCE_UNREGISTERED: row(
    "The data source is not registered with this source peer; register it first.",
  ),
  SOURCE_REGISTERED: row("A data source with this id is registered already; use another id."),
  SOURCE_ENDED: row("The data source or its session has ended; nothing new is taken."),
  SEQUENCE_NOT_RISING: row("Sequence numbers of one data source must rise."),
  SEQUENCE_SKIPPED: row("A data source goes on where it was told to, and skips no number."),
  CREDIT_EXCEEDED: row("More data were sent than was granted; wait for ACCEPTED."),
  ENGINE_MEMORY: row("The engine's memory is too small for this; raise --memory-mib."),
  PLAINTEXT_REFUSED: row(
    "Nothing is encrypted in this version: off loopback allow it with --allow-plaintext, in a network that you trust.",
  ),
  MODULE_MISSING: row("An optional package is not installed; install it with npm."),

  // The world
  ABORTED: row("The call was aborted by its signal."),
  ADDRESS_IN_USE: row("The port is in use by another process; choose another or 0.", true),
  ADDRESS_UNAVAILABLE: row("The address does not belong to this machine; choose another."),
  UNREACHABLE: row("The other side could not be reached; check address and that it runs.", true),
  TIMEOUT: row("No answer came in time.", true),
  JOB_FAILED: row("A worker thread failed to carry out a job; the cause says why.", true),
  LINK_CLOSED: row("The link was closed by the other side.", true),
  LINK_RESET: row("The link was reset.", true),
  LINK_HALF_OPEN: row("The other side stopped answering; the link was closed.", true),
  LINK_SLOW: row("The other side does not read; its queue passed the limit.", true),
  TOO_MANY_LINKS: row("The limit on links is reached; raise it or try another peer.", true),
  FILE_NOT_FOUND: row("The file does not exist or can not be read."),
  OUTPUT_FAILED: row("The output can not be written; check space and rights."),
  DATA_DIR_IN_USE: row("Another server uses this data directory; stop it or choose another."),
  DATA_DIR_UNUSABLE: row("The data directory can not be opened; check the path and rights."),
  STORE_CORRUPT: row("A stored record is damaged; restore the directory from a backup."),
  STORE_FULL: row("The disk refuses writes; free space. Reads go on.", true),
  STORE_CONFLICT: row("The record changed meanwhile; read it again and retry.", true),

  // Sessions
  UNKNOWN_OVERLAY: row("No such overlay, or no right to see it.", true),
  OVERLAY_GONE: row("The overlay was removed or has expired."),
  UNKNOWN_PEER: row("The peer is not registered here (any more); join or register again.", true),
  CLOSED_UNSUPPORTED: row("Closed sessions do not exist in this version; create an open one."),
  UNKNOWN_INDEX: row("No such session, or no right to see it.", true),
  INDEX_GONE: row("The session was removed."),
  VERSION_NOT_RISING: row("The version must be higher than the one registered."),
  TITLE_AMBIGUOUS: row("The title names several overlays; name data source id and data id."),
  NOT_OWNER: row("Only the owner may do this."),
  NOT_ADMITTED: row("The overlay does not admit this peer."),
  SESSION_LOST: row("The session's overlay ended before its last fragment was seen."),
  NO_PEERS: row(
    "Nobody took the data: for all of --hold-ms no peer in good standing was there, or fewer had come than --wait-peers.",
  ),
  START_GONE: row("The first fragment is held by nobody any more; start from oldest or live."),
  TERM_PASSED: row("The order is of an earlier start of the overlay server; it counts no more."),
  KEY_REQUIRED: row("This call needs the service key of the server."),
  KEY_FILE_UNUSABLE: row("The file of the service key can not be used; put it right or remove it."),
  INTERNAL: row(
    "A bug or a failing part kept this from being done; the detail or the log says why.",
    true,
  ),
  OVERLOADED: row(
    "The other side is at a limit; try again later, after the time it gives if any.",
    true,
  ),

  // Remote broke the protocol
  FRAME_MALFORMED: row("A frame does not follow the protocol."),
  FRAME_TOO_LARGE: row("A frame is larger than the limit."),
  FRAME_UNEXPECTED: row("A frame is not allowed in this state of the link."),
  VERSION_UNSUPPORTED: row("No protocol version in common; upgrade the older side."),
  MESSAGE_MALFORMED: row("A message does not match its schema."),
  MESSAGE_UNKNOWN: row("The message is not known to this server."),
  WRONG_OVERLAY: row("The overlay of the frame is not shared on this link."),
  IDENTITY_UNPROVEN: row("The peer did not prove its identity."),
  DUPLICATE_LINK: row("A link to this peer exists already."),
  SELF_LINK: row("The link leads back to this very peer."),
  FRAGMENT_CORRUPT: row("A fragment's checksum or records are wrong."),
  FRAGMENT_TO_SOURCE: row("A source peer receives no fragment (P0.1)."),
  INDEX_OUT_OF_WINDOW: row("A fragment index lies outside the granted window."),
  BUFFERMAP_LIE: row("The peer advertised a fragment that it does not hold."),
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERRORS;

export interface ErrorDetails {
  /** What exactly, e.g. the flag, the path, the index. Appended to the table's sentence. */
  readonly detail?: string;
  readonly cause?: unknown;
}

export class Mp2pError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly detail: string | undefined;
  constructor(code: ErrorCode, details: ErrorDetails = {}) {
    const sentence = ERRORS[code].sentence;
    super(
      details.detail === undefined
        ? `${code}: ${sentence}`
        : `${code}: ${sentence} (${details.detail})`,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.name = new.target.name;
    this.code = code;
    this.retryable = ERRORS[code].retryable;
    this.detail = details.detail;
  }
}

/** The caller misused the API; thrown at once. */
export class LocalUsageError extends Mp2pError {}
/** The other side broke the protocol. */
export class RemoteProtocolError extends Mp2pError {}
/** The world refused: network, disk, time. */
export class OperationError extends Mp2pError {}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === "string" && Object.hasOwn(ERRORS, code);
}

const OF_THE_LINK: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  "UNREACHABLE",
  "TIMEOUT",
  "LINK_CLOSED",
  "LINK_RESET",
  "LINK_HALF_OPEN",
  "LINK_SLOW",
]);

/** Whether a failure says that nobody answered, and not what was answered. */
export function isOfTheLink(code: ErrorCode): boolean {
  return OF_THE_LINK.has(code);
}
