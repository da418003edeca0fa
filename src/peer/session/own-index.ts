/** What a source peer's index file says of one of its data sources (R6). */

import { formatAddress } from "../../base/machine.ts";
import type { OverlayId } from "../../base/units.ts";
import { INDEX_FILE_FORMAT, type IndexFileBody } from "../../protocol/index-file.ts";
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
