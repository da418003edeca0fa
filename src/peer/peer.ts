/**
 * The peer machine: links, handshakes, overlays, and the sessions that lead to them. One per
 * engine; several overlays may share it, and a link.
 *
 * It routes: a frame to the neighbour its tag names, a job's result to who asked, a command to its
 * overlay. What is decided is decided in the parts. A link that breaks the protocol gets ERROR and
 * is closed; other links do not notice.
 */

import { LocalUsageError } from "../base/errors.ts";
import { LINKS_MAX_DEFAULT } from "../base/limits.ts";
import { type Input, type Job, type JobResult, MachineBase, type Now } from "../base/machine.ts";
import type { Entropy, Rng } from "../base/rng.ts";
import type { OverlayId } from "../base/units.ts";
import type { EngineMemory } from "../stream/memory.ts";
import type { PeerCommand, PeerEvent } from "./commands.ts";
import { type DistanceTo, type PeerContext, type PeerIdentity, zeroCounters } from "./context.ts";
import { Download } from "./download.ts";
import { FrameRouter, openOverlay } from "./frame-router.ts";
import { LinkKeeper } from "./link-keeper.ts";
import { LinkTable } from "./link-table.ts";
import { Overlay } from "./overlay.ts";
import { overlayTag } from "./overlay-tag.ts";
import { Sessions } from "./session/sessions.ts";
import { Upload } from "./upload.ts";

export { overlayTag } from "./overlay-tag.ts";

export interface PeerOptions {
  readonly memory: EngineMemory;
  readonly identity: PeerIdentity;
  readonly rng: Rng;
  readonly entropy: Entropy;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  /** Links of this engine at most; LINKS_MAX_DEFAULT. */
  readonly maxLinks?: number;
  /** DATA sent, and taken, a second by all overlays together; none: no limit. */
  readonly uploadLimitBytesPerSecond?: number | undefined;
  readonly downloadLimitBytesPerSecond?: number | undefined;
  /** None: all are as near. */
  readonly distanceTo?: DistanceTo | undefined;
}

export class PeerMachine extends MachineBase<PeerCommand, PeerEvent> {
  readonly context: PeerContext;
  readonly #table = new LinkTable();
  readonly #keeper: LinkKeeper;
  readonly #router: FrameRouter;
  readonly #overlays = new Map<OverlayId, Overlay>();
  readonly #dirty = new Set<Overlay>();
  readonly #jobs = new Map<number, (result: JobResult) => void>();
  readonly #sessions: Sessions;
  #nextJob = 1;

  constructor(options: PeerOptions) {
    super();
    this.context = {
      memory: options.memory,
      identity: options.identity,
      rng: options.rng,
      entropy: options.entropy,
      sha256: options.sha256,
      counters: zeroCounters(),
      upload: new Upload(options.uploadLimitBytesPerSecond),
      download: new Download(options.downloadLimitBytesPerSecond),
      distanceTo: options.distanceTo ?? (() => 0),
      now: { monoMs: 0, wallUs: 0 },
      job: (job, done) => this.#job(job, done),
      event: (event) => this.#event(event),
    };
    const shared = {
      overlay: (overlayId: OverlayId) => this.#overlays.get(overlayId),
      touched: (overlay: Overlay) => {
        this.#dirty.add(overlay);
      },
    };
    this.#keeper = new LinkKeeper(
      this.context,
      this.#table,
      options.maxLinks ?? LINKS_MAX_DEFAULT,
      {
        ...shared,
        open: (linkId, address) => this.emit({ kind: "open", linkId, address }),
        transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
        close: (linkId, abort) => this.emit({ kind: "close", linkId, abort }),
        frame: (row, frame) => this.#router.frame(row, frame, 0, frame.length),
      },
    );
    this.#router = new FrameRouter(this.context, this.#table, {
      ...shared,
      hello: (row, hello) => this.#keeper.introductions.hello(row, hello),
      bye: (row, tag, code, detail) => this.#keeper.introductions.bye(row, tag, code, detail),
      fail: (link, error) => this.#keeper.fail(link, error),
      refused: (row, code, detail) => {
        this.#keeper.linkFailed(row.link.dialledFor, row.link.remote, code, detail);
        this.#keeper.detach(row, code);
        row.link.close(false);
      },
    });
    this.#sessions = new Sessions(this.context, {
      openLink: (address) => {
        const linkId = this.#table.takeLinkId();
        this.emit({ kind: "open", linkId, address });
        return linkId;
      },
      transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
      closeLink: (linkId) => this.emit({ kind: "close", linkId, abort: false }),
      command: (command) => this.#command(command),
      overlay: (overlayId) => this.#overlays.get(overlayId),
      event: (event) => this.emit({ kind: "event", event }),
      listen: () => this.#keeper.listen,
    });
  }

  /** For checks and reports: never changed from outside. */
  get overlays(): ReadonlyMap<OverlayId, Overlay> {
    return this.#overlays;
  }
  get links(): LinkTable {
    return this.#table;
  }

  protected override nextDeadlineMs(): number {
    let earliest = Math.min(
      this.#keeper.deadlineMs,
      this.#sessions.deadlineMs,
      this.context.upload.deadlineMs(this.context.now.monoMs),
    );
    for (const overlay of this.#overlays.values()) {
      if (overlay.deadlineMs < earliest) earliest = overlay.deadlineMs;
    }
    return earliest;
  }

  protected override step(input: Input<PeerCommand>, now: Now): void {
    this.context.now = now;
    switch (input.kind) {
      case "frames":
        if (!this.#sessions.frames(input)) this.#router.frames(input);
        break;
      case "sent":
        this.#keeper.sent(input.linkId, input.totalBytes);
        break;
      case "command":
        this.#command(input.command);
        break;
      case "jobDone": {
        const done = this.#jobs.get(input.jobId);
        this.#jobs.delete(input.jobId);
        done?.(input.result);
        // Whose job it was is not known here; what it made ready is to leave now, not at a tick.
        for (const overlay of this.#overlays.values()) this.#dirty.add(overlay);
        break;
      }
      case "linkUp":
        if (!this.#sessions.linkUp(input.linkId)) this.#keeper.linkUp(input);
        break;
      case "linkDown":
        if (!this.#sessions.linkDown(input.linkId, input.code, input.detail)) {
          this.#keeper.linkDown(input);
        }
        break;
      case "timeout":
      case "storeDone":
        break;
    }
    this.#keeper.watch();
    this.#sessions.settle();
    for (const overlay of this.#overlays.values()) {
      if (this.#dirty.has(overlay) || overlay.deadlineMs <= now.monoMs) {
        overlay.settle();
        if (overlay.hasLeft) this.#forget(overlay);
      }
    }
    this.#dirty.clear();
    this.#giveTurns();
  }

  /** What the upload limit lets go now, to who waited for it. */
  #giveTurns(): void {
    const { upload, now } = this.context;
    let neighbour = upload.next(now.monoMs);
    while (neighbour !== undefined) {
      openOverlay(neighbour)?.turn(neighbour);
      neighbour = upload.next(now.monoMs);
    }
  }

  // ------------------------------------------------------------------------------ commands

  #command(command: PeerCommand): void {
    switch (command.kind) {
      case "createSession":
      case "addDataSource":
      case "removeDataSource":
      case "joinSession":
      case "leaveSession":
        this.#sessions.command(command);
        return;
      case "setListen":
        this.#keeper.listen = command.addresses;
        return;
      case "dial":
        this.#keeper.dial(command);
        return;
      case "openOverlay":
        this.#openOverlay(command);
        return;
    }
    const overlay = this.#overlays.get(command.overlayId);
    if (overlay === undefined) {
      throw new LocalUsageError("UNKNOWN_OVERLAY", { detail: command.overlayId });
    }
    this.#dirty.add(overlay);
    switch (command.kind) {
      case "write":
        if (overlay.write(command)) this.#dirty.delete(overlay);
        return;
      case "take":
      case "takeFragment":
        overlay.take(command);
        return;
      case "registerDataSource":
        this.#sourceOf(overlay).register(command);
        return;
      case "unregisterDataSource":
        this.#sourceOf(overlay).unregister(command.sourceId);
        return;
      case "forgetNumbering":
        this.#sourceOf(overlay).forgetNumbering(command.sourceId);
        return;
      case "watchHeld":
        this.#sourceOf(overlay).watchHeld(overlay.neighbours, command.minHolders);
        return;
      case "endSource":
        this.#sourceOf(overlay).endSource(command.sourceId);
        return;
      case "endSession":
        this.#sourceOf(overlay).endSession();
        if (command.waitsForPeers === false) overlay.finale.hurry();
        return;
      case "overlayEnded":
        overlay.sessionOver(command.startedOver ?? false, command.movesOn ?? false);
        return;
      case "leaveOverlay":
        overlay.leave(command.announced, command.movesOn ?? false);
        this.#forget(overlay);
        return;
    }
  }

  #openOverlay(command: Extract<PeerCommand, { kind: "openOverlay" }>): void {
    const { overlayId, sessionEpoch } = command.settings;
    if (this.#overlays.has(overlayId)) {
      throw new LocalUsageError("USAGE", { detail: `overlay ${overlayId} is open already` });
    }
    const tag = overlayTag(this.context.sha256, overlayId, sessionEpoch);
    const overlay = new Overlay(this.context, {
      settings: command.settings,
      tag,
      role: command.role,
      waitPeers: command.waitPeers ?? 0,
      gatherMs: command.gatherMs ?? 0,
      from: command.from,
      consume: command.consume ?? true,
      before: command.before,
      opening: () => this.#table.isOpening(overlayId),
      blame: (link, error) => this.#keeper.fail(link, error),
      dropped: (neighbour) => {
        this.#table.drop(neighbour, tag);
        this.context.upload.forget(neighbour);
      },
    });
    this.#overlays.set(overlayId, overlay);
    this.#router.opened(tag);
    this.#dirty.add(overlay);
  }

  #sourceOf(overlay: Overlay): NonNullable<Overlay["source"]> {
    if (overlay.source !== undefined) return overlay.source;
    throw new LocalUsageError("USAGE", { detail: "only a source peer has data sources" });
  }

  #forget(overlay: Overlay): void {
    if (!this.#overlays.delete(overlay.settings.overlayId)) return;
    this.#router.left(overlay.tag);
    this.#keeper.introductions.left(overlay.settings.overlayId);
  }

  #job(job: Job, done: (result: JobResult) => void): void {
    const jobId = this.#nextJob++;
    this.#jobs.set(jobId, done);
    this.emit({ kind: "job", jobId, job });
  }

  #event(event: PeerEvent): void {
    this.#sessions.observe(event);
    this.emit({ kind: "event", event });
  }
}
