/** What the end of an overlay looks at, and what it comes to: see finale.ts. */

import type { FragmentWindow } from "../stream/window.ts";
import type { ConsumerRole } from "./consumer-role.ts";
import type { KnownTimes } from "./known-times.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlaySettings } from "./settings.ts";
import type { SourceRole } from "./source-role.ts";

/** How often at most the wait for further members begins anew, whoever keeps coming. */
export const GATHERINGS_MAX = 5;

/**
 * Who steadily goes on is waited for so many times lingerMs at most: a slow reader behind a relay has
 * nobody else. No longer: by one fragment every nine seconds it would keep others for ever.
 */
export const LINGERS_MOST = 60;

/** How members fared that were linked with this node, each counted once. */
export interface MembersReport {
  /** Held everything to END; live: what was not let go by then, so it may have gaps. */
  readonly complete: number;
  /** Were gone before that. */
  readonly left: number;
  /** Are linked, or were when this node left, and lack something still. */
  readonly behind: number;
}

export interface FinaleView {
  readonly settings: OverlaySettings;
  readonly window: FragmentWindow;
  readonly neighbours: readonly Neighbour[];
  /** Those whose word on what they hold counts. */
  readonly heard: readonly Neighbour[];
  readonly source: SourceRole | undefined;
  readonly consumer: ConsumerRole | undefined;
  readonly times: KnownTimes;
}

/**
 * `ended`: a source's members have all; `leave`: a peer has and gave all; `drained`: the source goes
 * on elsewhere, and all that there is of it here was taken.
 */
export type FinaleStep =
  | { readonly kind: "ended" }
  | { readonly kind: "drained" }
  | { readonly kind: "leave" }
  | {
      readonly kind: "failed";
      readonly code: "NO_PEERS" | "SESSION_LOST";
      readonly detail: string;
    };
