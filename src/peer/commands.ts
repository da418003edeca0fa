/**
 * What a host asks of a peer machine, and what the machine tells it. Fields marked "out" are filled
 * in before handle() returns: hot calls need no event for their answer.
 */

import type { ErrorCode } from "../base/errors.ts";
import type { Address } from "../base/machine.ts";
import type {
  FragmentIndex,
  OverlayId,
  PeerId,
  SequenceNumber,
  TimestampUs,
} from "../base/units.ts";
import type { Candidate } from "../protocol/common.ts";
import type { AssembledBatch, Gap } from "../stream/assembler.ts";
import type { LentFragment } from "../stream/fragment-cursor.ts";
import type { AssembledSource, SourceStanding, TakenBefore } from "../stream/source-book.ts";
import type { SessionCommand, SessionEvent } from "./session/session-types.ts";
import type { OverlaySettings, StartFrom } from "./settings.ts";

/** Takes part in an overlay. Throws LocalUsageError for settings out of range. */
export interface OpenOverlay {
  readonly kind: "openOverlay";
  readonly settings: OverlaySettings;
  readonly role: "source" | "peer" | "virtual";
  /** Source, complete: nothing is freed before so many members were seen. */
  readonly waitPeers?: number;
  /** Source, complete: nothing is freed until no new member came for so long. Default 0. */
  readonly gatherMs?: number;
  /** Peer: default the oldest held (complete) or the live edge (live). */
  readonly from?: StartFrom | undefined;
  /** False: this peer only forwards; nothing is to be taken. Default true. */
  readonly consume?: boolean;
  /** Peer: what it took in the epochs before this one, by data source id. */
  readonly before?: ReadonlyMap<string, TakenBefore>;
}

/**
 * Links up with a member of the overlay: over a link to it that is there or under way, else over a
 * new one. With `peerId` nobody else is taken for it.
 */
export interface Dial {
  readonly kind: "dial";
  readonly overlayId: OverlayId;
  readonly address: Address;
  readonly peerId?: PeerId;
}

/** Where this node accepts links; told to others in HELLO and to the OMS. */
export interface SetListen {
  readonly kind: "setListen";
  readonly addresses: readonly Candidate[];
}

export interface RegisterDataSource {
  readonly kind: "registerDataSource";
  readonly overlayId: OverlayId;
  readonly sourceId: string;
  readonly contentType: string;
  /** Where its sequence numbers begin here. Default 1. */
  readonly firstSequence?: SequenceNumber;
  /** What its numbers go by, u32 above 0, if they stand for the same data in later epochs. */
  readonly numbering?: number;
}

/** Gives the place of a data source back of which nothing was written; of another, nothing. */
export interface UnregisterDataSource {
  readonly kind: "unregisterDataSource";
  readonly overlayId: OverlayId;
  readonly sourceId: string;
}

/** Another run goes on with a data source: its numbers need not stand for the same data any more. */
export interface ForgetNumbering {
  readonly kind: "forgetNumbering";
  readonly overlayId: OverlayId;
  readonly sourceId: string;
}

/** Tells with "held", from now on, how far at least `minHolders` neighbours hold what was made. */
export interface WatchHeld {
  readonly kind: "watchHeld";
  readonly overlayId: OverlayId;
  readonly minHolders: number;
}

/**
 * Data of one registered source: payloads back to back, datum i has lengths[i] bytes. Copied before
 * handle() returns. `accepted` (out) data were taken; `credit` (out) is how many fragments the
 * window still takes, 0 = wait for the event "writable".
 */
export interface Write {
  readonly kind: "write";
  readonly overlayId: OverlayId;
  readonly sourceId: string;
  readonly payloads: Uint8Array;
  readonly lengths: Uint32Array;
  readonly timestampUs: TimestampUs;
  readonly contentType: string | undefined;
  accepted: number;
  credit: number;
}

/** Ends one data source; with the last one, or `session`, comes END. */
export interface EndSource {
  readonly kind: "endSource";
  readonly overlayId: OverlayId;
  readonly sourceId: string;
}

export interface EndSession {
  readonly kind: "endSession";
  readonly overlayId: OverlayId;
  /**
   * False: as long as no datum was written only those are waited for who are linked, for there is
   * nothing to hold for others. May be said later, too. Default true.
   */
  readonly waitsForPeers?: boolean;
}

/**
 * Next data for the consumer; takes back the batch lent before. `batch` (out) is undefined when
 * there is none: wait for the event "readable".
 */
export interface Take {
  readonly kind: "take";
  readonly overlayId: OverlayId;
  batch: AssembledBatch | undefined;
  /** Resolves the ENTRY_DECLARATION of a row of the batch. */
  sourceOf: ((row: number) => AssembledSource) | undefined;
}

/**
 * Next whole fragment for the consumer, in place of data; takes back the one lent before. `fragment`
 * (out) is undefined when there is none, or `release` asked only for the taking back. Throws
 * LocalUsageError USAGE once data were taken.
 */
export interface TakeFragment {
  readonly kind: "takeFragment";
  readonly overlayId: OverlayId;
  readonly release: boolean;
  fragment: LentFragment | undefined;
}

/** Leaves the overlay; announced = BYE to all neighbours. */
export interface LeaveOverlay {
  readonly kind: "leaveOverlay";
  readonly overlayId: OverlayId;
  readonly announced: boolean;
  /** The session goes on in another epoch: no event "left". */
  readonly movesOn?: boolean;
}

/** No new members will come: what nobody holds now stays lost. Told by the session part. */
export interface OverlayEnded {
  readonly kind: "overlayEnded";
  readonly overlayId: OverlayId;
  /** The source goes on in another overlay: nothing more will ever come here. */
  readonly startedOver?: boolean;
  /** And this node will go on there: it is told "drained" when it has taken all there is here. */
  readonly movesOn?: boolean;
}

export type PeerCommand =
  | OpenOverlay
  | Dial
  | SetListen
  | RegisterDataSource
  | UnregisterDataSource
  | ForgetNumbering
  | WatchHeld
  | Write
  | EndSource
  | EndSession
  | Take
  | TakeFragment
  | LeaveOverlay
  | OverlayEnded
  | SessionCommand;

export type PeerEvent =
  /** The consumer, told "nothing" before, may take again. */
  | { readonly kind: "readable"; readonly overlayId: OverlayId }
  /** The source, told credit 0 before, may write again. */
  | { readonly kind: "writable"; readonly overlayId: OverlayId }
  /** A peer starts at this index: everything from here on will come or be reported. */
  | { readonly kind: "started"; readonly overlayId: OverlayId; readonly index: FragmentIndex }
  | { readonly kind: "gap"; readonly overlayId: OverlayId; readonly gap: Gap }
  /** END was taken (peer) or every neighbour has all up to END or left (source). */
  | {
      readonly kind: "ended";
      readonly overlayId: OverlayId;
      /** Peer: how far each data source came, in this epoch and those before. */
      readonly sources?: readonly SourceStanding[];
    }
  /** Nothing came, and where this peer starts there is nothing: its first neighbours were wrong. */
  | { readonly kind: "misled"; readonly overlayId: OverlayId }
  /** The source goes on elsewhere, and what there is of it here was taken. */
  | { readonly kind: "drained"; readonly overlayId: OverlayId }
  /** The overlay is left; nothing more comes of it. */
  | { readonly kind: "left"; readonly overlayId: OverlayId }
  | {
      readonly kind: "failed";
      readonly overlayId: OverlayId;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  | {
      readonly kind: "neighbour";
      readonly overlayId: OverlayId;
      readonly peerId: PeerId;
      readonly state: "up" | "down" | "lagging" | "recovered";
      readonly detail: string;
    }
  /** An own data source has ended: its last sequence number lies in a sealed fragment. */
  | {
      readonly kind: "sourceEnded";
      readonly overlayId: OverlayId;
      readonly sourceId: string;
      readonly lastSequence: SequenceNumber;
    }
  /** Source, when watched: more is held by others than was; SourceRole.heldSequence() says how much. */
  | { readonly kind: "held"; readonly overlayId: OverlayId }
  /** Too few neighbours, or fragments that none of them holds: more members are welcome. */
  | {
      readonly kind: "needMembers";
      readonly overlayId: OverlayId;
      readonly holding: FragmentIndex | undefined;
    }
  /** A dialled or accepted link did not become a neighbour. */
  | {
      readonly kind: "linkFailed";
      readonly overlayId: OverlayId | undefined;
      readonly address: Address;
      readonly code: ErrorCode;
      readonly detail: string;
    }
  | SessionEvent;
