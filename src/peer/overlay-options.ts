/** What an overlay is opened with: settings, role, and what its owner is told. */

import type { RemoteProtocolError } from "../base/errors.ts";
import type { TakenBefore } from "../stream/source-book.ts";
import type { PeerLink } from "./link.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlaySettings, StartFrom } from "./settings.ts";

export interface OverlayOptions {
  readonly settings: OverlaySettings;
  readonly tag: Uint8Array;
  readonly role: "source" | "peer" | "virtual";
  readonly waitPeers: number;
  /** Source, complete: nothing is freed until no new member came for so long. */
  readonly gatherMs: number;
  /** Undefined: as the delivery has it. */
  readonly from: StartFrom | undefined;
  readonly consume: boolean;
  /** Peer: what it took in the epochs before this one, by data source id. */
  readonly before: ReadonlyMap<string, TakenBefore> | undefined;
  /** Whether a member is being dialled for this overlay, or has not answered yet. */
  readonly opening: () => boolean;
  /** Closes a link for what came over it. */
  readonly blame: (link: PeerLink, error: RemoteProtocolError) => void;
  /** A neighbour is none any more. */
  readonly dropped: (neighbour: Neighbour) => void;
}
