/** A source peer's own index files (R6): what they say, and what the IXS has of them. */

import { type Address, formatAddress } from "../../base/machine.ts";
import { bytesEqual, type OverlayId } from "../../base/units.ts";
import type { MessageOf } from "../../protocol/codec.ts";
import {
  decodeIndexFile,
  INDEX_FILE_FORMAT,
  type IndexFile,
  type IndexFileBody,
} from "../../protocol/index-file.ts";
import type { QUERY_INDEX } from "../../protocol/r6.ts";
import type { PeerContext } from "../context.ts";
import type { CreateSession, SessionDataSource } from "./session-types.ts";

export function ownIndex(
  context: PeerContext,
  session: CreateSession,
  overlay: { readonly overlayId: OverlayId; readonly sessionEpoch: number },
  dataSource: SessionDataSource,
  version: number,
): IndexFileBody {
  return {
    formatVersion: INDEX_FILE_FORMAT,
    version,
    title: session.title,
    omsAddress: formatAddress(session.oms),
    overlayId: overlay.overlayId,
    sessionEpoch: overlay.sessionEpoch,
    dataSourceId: dataSource.sourceId,
    dataId: dataSource.dataId,
    fragmentBytes: session.fragmentBytes,
    description: dataSource.description,
    integrity: session.integrity,
    delivery: session.delivery,
    maxLagMs: session.maxLagMs,
    substreams: session.substreams,
    sourcePublicKey: context.identity.publicKey,
    createdUs: context.now.wallUs,
  };
}

/** Of the files in an answer those that this peer's key registered for overlays of that OMS. */
export function filesOfKey(
  { identity }: PeerContext,
  files: readonly Uint8Array[],
  oms: Address,
): IndexFile[] {
  return files
    .map((encoded) => decodeIndexFile(encoded).file)
    .filter(
      ({ sourcePublicKey, omsAddress }) =>
        bytesEqual(sourcePublicKey, identity.publicKey) && omsAddress === formatAddress(oms),
    );
}

/** The highest version that an answer tells of, whether it stands or is gone. */
export function newestVersion({
  files,
  gone,
}: Pick<MessageOf<(typeof QUERY_INDEX)["answer"]["fields"]>, "files" | "gone">): number {
  const standing = files.map((encoded) => decodeIndexFile(encoded).file.version);
  return Math.max(0, ...standing, ...gone.map(({ version }) => version));
}
