/** An IXS at work: index files as their owners sign them, and answers by independent code. */

import {
  encodeIndexFile,
  type IndexFileBody,
  indexFileBytes,
} from "../../../src/protocol/index-file.ts";
import * as r6 from "../../../src/protocol/r6.ts";
import { createIxs, type IxsOptions } from "../../../src/servers/ixs.ts";
import { readMsgpack } from "../../support/msgpack-reader.ts";
import { Disk, type Identity, ServerDriver } from "../driver.ts";

export function ixs(options: Partial<IxsOptions> = {}, seed = 1, disk = new Disk()): ServerDriver {
  return new ServerDriver((base) => createIxs({ ...base, ...options }), seed, disk).start();
}

export function file(owner: Identity, changes: Partial<IndexFileBody> = {}): IndexFileBody {
  return {
    formatVersion: 1,
    version: 1,
    title: "Seattle weather",
    omsAddress: "ws://192.0.2.1:7900",
    overlayId: "0f".repeat(16),
    sessionEpoch: 1,
    dataSourceId: "temperature",
    dataId: "hourly",
    fragmentBytes: 16_384,
    description: "Hourly normals of the airport",
    integrity: "checksum",
    delivery: "complete",
    maxLagMs: 10_000,
    substreams: 8,
    sourcePublicKey: owner.publicKey,
    createdUs: 1_700_000_000_000_000,
    ...changes,
  };
}

export function signed(owner: Identity, changes: Partial<IndexFileBody> = {}): Uint8Array {
  const body = file(owner, changes);
  return encodeIndexFile(body, owner.sign(indexFileBytes(body)));
}

export function removal(owner: Identity, version: number, changes: object = {}) {
  const statement = { version, dataSourceId: "temperature", dataId: "hourly", ...changes };
  const signature = owner.sign(r6.removeProof(statement));
  return { ...statement, publicKey: owner.publicKey, signature };
}

export const anything = { version: 0, title: "", dataSourceId: "", dataId: "" };
export const byKey = { ...anything, dataSourceId: "temperature", dataId: "hourly" };

/** The fields of an encoded index file, read by independent code. */
export function fieldsOf(encoded: Uint8Array): unknown[] {
  const [body] = readMsgpack(encoded) as Uint8Array[];
  return readMsgpack(body ?? new Uint8Array(0)) as unknown[];
}
export const versionOf = (encoded: Uint8Array | undefined): unknown =>
  encoded === undefined ? undefined : fieldsOf(encoded)[1];
