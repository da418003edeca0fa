/**
 * The index file (R6.a): what a peer must know of a session before it joins. The source peer signs
 * it; its key, named in the file, is the one that HELLO of the source must prove.
 *
 * Encoded form: msgpack [body, signature], where body is the msgpack of the fields as one byte
 * string. The signature covers the domain text and the body exactly as received, so nothing hangs
 * on two encoders agreeing; a reader never signs or checks a re-encoded object.
 */

import { RemoteProtocolError } from "../base/errors.ts";
import {
  DATA_ID_BYTES_MAX,
  DESCRIPTION_BYTES_MAX,
  FRAGMENT_BYTES_MAX,
  FRAGMENT_BYTES_MIN,
  SOURCE_ID_BYTES_MAX,
  SUBSTREAMS_MAX,
  TITLE_BYTES_MAX,
} from "../base/limits.ts";
import { bytes, type Decoded, defineMessage, integer, text, u32, u53, word } from "./codec.ts";
import { overlayId, publicKey, SIGNATURE_BYTES, url } from "./common.ts";

export const INDEX_FILE_FORMAT = 1;
export const INDEX_FILE_DOMAIN = "mp2p-index-file-1";
/** Encoded; description, URL, title and ids at their limits fit. */
export const INDEX_FILE_BYTES_MAX = 6_144;

const INTEGRITIES = ["checksum", "none", "signed"] as const;
const DELIVERIES = ["complete", "live"] as const;

const BODY = defineMessage({
  name: "index file",
  type: 0,
  fields: {
    /** Of this encoding; a reader refuses a higher one. */
    formatVersion: integer(1, 255),
    /** R6.b: of this index file; strictly rises for one data source id and data id. */
    version: integer(1, Number.MAX_SAFE_INTEGER),
    title: text(TITLE_BYTES_MAX, 1),
    /** `ws://host:port` of the OMS that knows the overlay. */
    omsAddress: url,
    overlayId,
    sessionEpoch: u32,
    dataSourceId: text(SOURCE_ID_BYTES_MAX, 1),
    dataId: text(DATA_ID_BYTES_MAX, 1),
    fragmentBytes: integer(FRAGMENT_BYTES_MIN, FRAGMENT_BYTES_MAX),
    description: text(DESCRIPTION_BYTES_MAX),
    integrity: word(INTEGRITIES),
    delivery: word(DELIVERIES),
    maxLagMs: u32,
    substreams: integer(1, SUBSTREAMS_MAX),
    sourcePublicKey: publicKey,
    createdUs: u53,
  },
});

const SIGNED = defineMessage({
  name: "signed index file",
  type: 0,
  fields: {
    body: bytes(1, INDEX_FILE_BYTES_MAX),
    signature: bytes(SIGNATURE_BYTES),
  },
});

/** The fields that the signature covers. */
export type IndexFileBody = Decoded<typeof BODY>;
export type IndexFile = IndexFileBody & { readonly signature: Uint8Array };

export interface ReceivedIndexFile {
  readonly file: IndexFile;
  /** What `file.signature` must verify over, with `file.sourcePublicKey`. */
  readonly signedBytes: Uint8Array;
}

/** The bytes to sign for `file`. Throws LocalUsageError USAGE naming a field that does not fit. */
export function indexFileBytes(file: IndexFileBody): Uint8Array {
  return withDomain(BODY.encode(file));
}

/** The encoded, signed file. `signature` was made over indexFileBytes of the same fields. */
export function encodeIndexFile(file: IndexFileBody, signature: Uint8Array): Uint8Array {
  return SIGNED.encode({ body: BODY.encode(file), signature });
}

/**
 * Decodes; the signature is NOT verified yet. Throws RemoteProtocolError MESSAGE_MALFORMED, or
 * VERSION_UNSUPPORTED for a later format.
 */
export function decodeIndexFile(encoded: Uint8Array): ReceivedIndexFile {
  if (encoded.length > INDEX_FILE_BYTES_MAX) {
    throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: "index file too large" });
  }
  const signed = SIGNED.decode(encoded);
  const body = BODY.decode(signed.body);
  if (body.formatVersion > INDEX_FILE_FORMAT) {
    throw new RemoteProtocolError("VERSION_UNSUPPORTED", {
      detail: `index file format ${body.formatVersion}`,
    });
  }
  return {
    file: { ...body, signature: signed.signature },
    signedBytes: withDomain(signed.body),
  };
}

/** Plain JSON of a decoded file, bytes as lower-case hex. */
export function indexFileToJson(file: IndexFileBody): Record<string, unknown> {
  return BODY.toJson(file);
}

function withDomain(body: Uint8Array): Uint8Array {
  const head = new TextEncoder().encode(INDEX_FILE_DOMAIN);
  const all = new Uint8Array(head.length + body.length);
  all.set(head);
  all.set(body, head.length);
  return all;
}
