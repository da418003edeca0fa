/**
 * Settings of one overlay. The first group stands in the signed index file and is the same for all
 * members; the second is each node's own.
 */

import { LocalUsageError, OperationError } from "../base/errors.ts";
import * as limits from "../base/limits.ts";
import { MIB, type OverlayId, type PeerId } from "../base/units.ts";
import type { EngineMemory } from "../stream/memory.ts";

/** Segments that an overlay's links fill and empty besides its window. */
const LINK_SEGMENTS = 4;
/** Rows of a record index per byte of a fragment, at worst: 32 for each 12. */
const ENTRY_SHARE = 3;

export type Delivery = "complete" | "live";
/** Where a newcomer starts: with the `oldest` held by anybody, the live edge, or index 0. */
export type StartFrom = "oldest" | "live" | "start";
export type Integrity = "signed" | "checksum" | "none";

export interface OverlaySettings {
  readonly overlayId: OverlayId;
  readonly sessionEpoch: number;
  /** Largest frame of a fragment, header included. */
  readonly fragmentBytes: number;
  readonly integrity: Integrity;
  readonly delivery: Delivery;
  readonly substreams: number;
  readonly maxLagMs: number;
  /** Who the source peer is: the hash of the key in the index file. */
  readonly sourcePeerId: PeerId;

  readonly windowFragments: number;
  readonly windowBytes: number;
  readonly windowMs: number;
  readonly stallMs: number;
  readonly repairMs: number;
  readonly holdMs: number;
  readonly lingerMs: number;
  readonly maxDelayMs: number;
}

export type NodeSettings = Partial<
  Pick<
    OverlaySettings,
    | "windowFragments"
    | "windowBytes"
    | "windowMs"
    | "stallMs"
    | "repairMs"
    | "holdMs"
    | "lingerMs"
    | "maxDelayMs"
  >
>;

export const NODE_DEFAULTS = {
  windowFragments: limits.WINDOW_FRAGMENTS_DEFAULT,
  windowBytes: limits.WINDOW_BYTES_DEFAULT,
  windowMs: limits.WINDOW_MS_DEFAULT,
  stallMs: limits.STALL_MS_DEFAULT,
  repairMs: limits.REPAIR_MS_DEFAULT,
  holdMs: limits.HOLD_MS_DEFAULT,
  lingerMs: limits.LINGER_MS_DEFAULT,
  maxDelayMs: limits.MAX_DELAY_MS_DEFAULT,
} as const;

/**
 * This node's settings for an overlay: what it set itself, else the defaults. A window is as long as
 * the session may lag, unless the node wants it shorter.
 */
export function nodeSettings(
  own: NodeSettings,
  maxLagMs: number,
): Pick<OverlaySettings, keyof NodeSettings> {
  const windowMs = Math.max(NODE_DEFAULTS.windowMs, maxLagMs);
  return { ...NODE_DEFAULTS, windowMs, ...own };
}

/** Throws LocalUsageError USAGE (naming the field) or INTEGRITY_UNSUPPORTED. */
export function checkSettings(settings: OverlaySettings): void {
  const within = (name: keyof OverlaySettings, low: number, high: number): void => {
    const value = settings[name];
    if (typeof value !== "number" || !Number.isInteger(value) || value < low || value > high) {
      throw new LocalUsageError("USAGE", {
        detail: `${name} is a whole number from ${low} to ${high}, not ${String(value)}`,
      });
    }
  };
  if (settings.integrity === "signed") throw new LocalUsageError("INTEGRITY_UNSUPPORTED");
  within("fragmentBytes", limits.FRAGMENT_BYTES_MIN, limits.FRAGMENT_BYTES_MAX);
  within("substreams", 1, limits.SUBSTREAMS_MAX);
  within("windowFragments", limits.WINDOW_FRAGMENTS_MIN, limits.WINDOW_FRAGMENTS_MAX);
  within("windowBytes", limits.WINDOW_BYTES_MIN, limits.WINDOW_BYTES_MAX);
  within("sessionEpoch", 0, 0xffff_ffff);
}

/**
 * Throws OperationError ENGINE_MEMORY, naming the figure to set, when what is free can't hold the
 * overlay: its window, its tables, and segments for the links that feed it.
 */
export function checkMemory(settings: OverlaySettings, memory: EngineMemory): void {
  const tablesBytes = 4 * settings.fragmentBytes * ENTRY_SHARE;
  const needBytes = settings.windowBytes + tablesBytes + LINK_SEGMENTS * memory.segmentBytes;
  const freeBytes = memory.freeSegments * memory.segmentBytes;
  if (needBytes <= freeBytes) return;
  const memoryMiB = Math.ceil((memory.bytes.length + needBytes - freeBytes) / MIB);
  throw new OperationError("ENGINE_MEMORY", {
    detail: `the overlay needs ${Math.ceil(needBytes / MIB)} MiB: set memoryMiB ${memoryMiB}, or a smaller windowBytes`,
  });
}

/** Which substream fragment `index` belongs to. */
export function substreamOf(index: number, substreams: number): number {
  return Math.floor(index / limits.SUBSTREAM_RUN) % substreams;
}

/** All substreams as a mask. */
export function allSubstreams(substreams: number): number {
  return substreams === 32 ? 0xffff_ffff : (1 << substreams) - 1;
}
