/**
 * The parts of an overlay and how they are put together: which of them a source peer has, which a
 * consumer, and what each is told of the others. What is done with them, and when, is overlay.ts.
 */

import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import { FragmentWindow } from "../stream/window.ts";
import { Advertiser } from "./advertiser.ts";
import type { PeerEvent } from "./commands.ts";
import { ConsumerRole } from "./consumer-role.ts";
import type { PeerContext } from "./context.ts";
import { Pace } from "./download.ts";
import { KnownTimes } from "./known-times.ts";
import type { Neighbour } from "./neighbour.ts";
import type { OverlayOptions } from "./overlay-options.ts";
import { Partners } from "./partners/partners.ts";
import { Puller } from "./pull.ts";
import { Reach } from "./reach.ts";
import { FragmentReceiver } from "./receiver.ts";
import { Retention } from "./retention.ts";
import { Serving } from "./serving.ts";
import { checkMemory, checkSettings, type OverlaySettings } from "./settings.ts";
import { SourceRole } from "./source-role.ts";

/** Complete: a partner that is steadily late by no more than this is waited for. */
const PATIENCE_MS_MAX = 10_000;
/** Live: so much time, or this part of it all, is left for a request before a fragment is late. */
const PULL_MS = 2_000;
const PULL_PART = 0.4;

export abstract class OverlayParts {
  readonly settings: OverlaySettings;
  readonly tag: Uint8Array;
  readonly window: FragmentWindow;
  readonly neighbours: Neighbour[] = [];
  readonly source: SourceRole | undefined;
  readonly consumer: ConsumerRole | undefined;
  readonly partners: Partners;
  readonly serving: Serving;
  protected readonly context: PeerContext;
  protected readonly options: OverlayOptions;
  protected readonly reach = new Reach();
  protected readonly receiver: FragmentReceiver;
  /** A source peer asks for nothing. */
  protected readonly puller: Puller | undefined;
  protected readonly retention: Retention;
  protected readonly pace: Pace;
  protected readonly advertiser: Advertiser;
  readonly times: KnownTimes;

  /** Throws LocalUsageError for settings out of range, OperationError ENGINE_MEMORY. */
  constructor(context: PeerContext, options: OverlayOptions) {
    const { settings, tag } = options;
    checkSettings(settings);
    checkMemory(settings, context.memory);
    this.context = context;
    this.settings = settings;
    this.tag = tag;
    this.options = options;
    const { substreams } = settings;
    const window = new FragmentWindow(context.memory, {
      start: 0,
      fragments: settings.windowFragments,
      bytes: settings.windowBytes,
      fragmentBytes: settings.fragmentBytes,
    });
    this.window = window;
    this.times = new KnownTimes(Math.max(settings.windowMs, settings.maxLagMs));
    const isSource = options.role === "source";
    const { delivery, maxLagMs } = settings;
    const patienceMs = delivery === "live" ? livePatienceMs(maxLagMs) : PATIENCE_MS_MAX;
    this.puller = isSource ? undefined : new Puller(context, window, tag, substreams, patienceMs);
    this.receiver = new FragmentReceiver(context, window, settings.integrity, {
      came: (index, from) => this.puller?.came(index, from),
      arriving: (index) => this.puller?.arriving(index),
      failed: (index) => this.puller?.failed(index),
      stored: (index, offset, bytes, from) => this.stored(index, offset, bytes, from),
      corrupt: (from, error) => options.blame(from.link, error),
    });
    // No partner is to blame for what had no room here.
    const times = this.puller?.times ?? this.times;
    this.partners = new Partners(context, window, tag, substreams, isSource, times);
    this.serving = new Serving(context, tag);
    const leaves = (to: FragmentIndex): void => this.consumer?.leaves(to);
    this.retention = new Retention(context, window, settings, tag, leaves);
    this.pace = new Pace(context.download, window);
    const { neighbours, pace } = this;
    this.advertiser = new Advertiser(context, window, tag, neighbours, isSource, pace, substreams);
    if (isSource) {
      this.source = this.#makeSource();
      this.consumer = undefined;
    } else {
      this.source = undefined;
      this.consumer = new ConsumerRole(context, window, settings, options, this.times);
    }
  }

  /** Neighbours whose word on what they hold counts: without those that never answer. */
  get heard(): readonly Neighbour[] {
    return this.puller?.withoutMute(this.neighbours) ?? this.neighbours;
  }

  /** Links to others come up, or one to the source peer did, and what it holds is still to be told. */
  protected get isOpening(): boolean {
    const isDue = ({ isSource, mapKnown }: Neighbour): boolean => isSource && !mapKnown;
    return this.options.opening() || this.neighbours.some(isDue);
  }

  #makeSource(): SourceRole {
    const { settings, window, tag, context } = this;
    const { overlayId } = settings;
    return new SourceRole(context, window, settings, tag, {
      produced: (index, offset, bytes) => this.stored(index, offset, bytes, undefined),
      sourceEnded: ({ id: sourceId, nextSequence }) =>
        this.event({ kind: "sourceEnded", overlayId, sourceId, lastSequence: nextSequence - 1 }),
    });
  }

  /** Tells when this node stands where nothing is. Called now and then. */
  protected watchPlace(): void {
    const { consumer, reach, window, neighbours, context } = this;
    if (consumer?.gotNothing !== true || window.heldCount > 0) return;
    if (!reach.isMisled(neighbours, window.start, context.now.monoMs)) return;
    this.event({ kind: "misled", overlayId: this.settings.overlayId });
  }

  /** A fragment is verified, or was made here: its reference passes to the overlay. */
  protected abstract stored(
    index: FragmentIndex,
    offset: MemoryOffset,
    bytes: number,
    from: Neighbour | undefined,
  ): void;

  protected event(event: PeerEvent): void {
    this.context.event(event);
  }

  /** See Retention#silenceOf. */
  silenceOf(neighbour: Neighbour): ReturnType<Retention["silenceOf"]> {
    return this.retention.silenceOf(neighbour);
  }
}

function livePatienceMs(maxLagMs: number): number {
  return Math.min(PATIENCE_MS_MAX, maxLagMs - Math.min(PULL_MS, PULL_PART * maxLagMs));
}
