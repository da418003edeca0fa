/**
 * A source peer's session: initiation (P1.2), keeping it alive (R5.d), termination (P3.2).
 *
 *     CREATE overlay -> open it -> an index file per data source, signed -> open
 *     ... refresh at a third of the expiration time, report to the PAMS ...
 *     remove index files -> remove overlay -> leave
 *
 * A source peer that was killed and comes back with its key (`resumes`) does not create an overlay:
 * it takes over the one that its index file names, in the next session epoch. Whoever still runs
 * with the tokens of before has lost the session.
 *
 * Where another key holds the same data source id and data id, most often this very source before it
 * was killed, the session waits up to waitMs for that overlay to expire. A session that fails before
 * it is open takes back at the servers what it had made there.
 *
 * Servers that are away for a while disturb no data: everything is retried with jitter. An overlay
 * that the OMS says is gone ends the session for newcomers, not for those who are linked already.
 */

import { type Address, formatAddress } from "../../base/machine.ts";
import { bytesEqual, type MonoMs, type OverlayId } from "../../base/units.ts";
import type { MessageOf } from "../../protocol/codec.ts";
import { ROLES } from "../../protocol/common.ts";
import { decodeIndexFile, encodeIndexFile, indexFileBytes } from "../../protocol/index-file.ts";
import {
  CREATE,
  createProof,
  REFRESH_OVERLAY,
  REMOVE_SESSION_OVERLAY,
  TAKE_OVER,
  takeOverProof,
} from "../../protocol/r5.ts";
import { QUERY_INDEX, REGISTER_INDEX, REMOVE_INDEX, removeProof } from "../../protocol/r6.ts";
import type { PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import { nodeSettings } from "../settings.ts";
import { ownIndex } from "./own-index.ts";
import type { ServerFailure } from "./server-client.ts";
import { SessionBase, type SessionOutlet } from "./session-base.ts";
import type { CreateSession, SessionDataSource } from "./session-types.ts";
import { askVirtualPeers } from "./virtual-peers.ts";

/** Termination does not wait for servers longer than this. */
const TERMINATION_MS = 5_000;
/** While another key holds the ids: asked again after this, up to twice as long. */
const HELD_AGAIN_MS = 1_000;
/** The last try comes so long before the end of waitMs, so that its answer is in time. */
const LAST_TRY_MS = 500;

/** Members of the epoch before find this one within so long: until then it keeps all for them. */
const RESTART_GATHER_MS = 5_000;
/** What says that there is no overlay to take over. */
const NOT_THERE: ReadonlySet<string> = new Set([
  "OVERLAY_GONE",
  "UNKNOWN_OVERLAY",
  "IDENTITY_UNPROVEN",
  "MESSAGE_UNKNOWN",
]);

/** What CREATE and TAKE_OVER have in common. */
type Owned = Pick<
  MessageOf<(typeof CREATE)["answer"]["fields"]>,
  "overlayId" | "sessionEpoch" | "ownerToken" | "refreshMs" | "pamsUrl"
>;
type Failure = Pick<ServerFailure, "code" | "detail">;

/** A data source whose index file is to be registered. */
interface Wanted {
  readonly dataSource: SessionDataSource;
  /** Until when ids that another key holds are waited for. */
  readonly untilMs: MonoMs;
  /** It came when the session was open: what becomes of it is its own matter. */
  readonly late: boolean;
}

interface RegisteredFile {
  readonly dataSource: SessionDataSource;
  version: number;
}

export class SourceSession extends SessionBase {
  readonly #options: CreateSession;
  readonly #files: RegisteredFile[] = [];
  /** To be removed before anything else is registered. */
  readonly #gone: RegisteredFile[] = [];
  /** In the order they came; the first is at work. */
  readonly #wanted: Wanted[] = [];
  #isOpen = false;
  #ownerToken: Uint8Array = new Uint8Array(0);
  #sessionEpoch = 0;
  #ending = false;
  #saidHeld = false;
  /** Why the session failed, told once the servers know. */
  #failure: Failure | undefined;

  constructor(context: PeerContext, outlet: SessionOutlet, options: CreateSession) {
    super(context, outlet, options.sessionId);
    this.#options = options;
  }

  override start(): void {
    for (const dataSource of this.#options.dataSources) this.#want(dataSource, false);
    if (this.#options.resumes === true && this.#wanted.length > 0) this.#findOwn();
    else this.#create();
  }

  /** A data source that came when the session was open. */
  add(dataSource: SessionDataSource): void {
    this.#want(dataSource, true);
    this.#goOn();
  }

  /** A data source that gave its place back. */
  remove(sourceId: string): void {
    const at = this.#files.findIndex(({ dataSource }) => dataSource.sourceId === sourceId);
    if (at < 0) return;
    this.#gone.push(...this.#files.splice(at, 1));
    this.#goOn();
  }

  /** Begins with what has just come, unless something is at work. */
  #goOn(): void {
    if (this.#wanted.length + this.#gone.length === 1 && this.#isOpen) this.#registerNext();
  }

  #want(dataSource: SessionDataSource, late: boolean): void {
    const untilMs = this.context.now.monoMs + (this.#options.waitMs ?? 0);
    this.#wanted.push({ dataSource, untilMs, late });
  }

  override observe(event: PeerEvent): void {
    this.reportEvent(event, this.context.identity.peerId);
  }

  override leave(): void {
    if (this.#ending) return;
    this.#ending = true;
    this.cancel("refresh");
    this.cancel("step");
    this.after("end", TERMINATION_MS, () => this.#left());
    this.#files.push(...this.#gone.splice(0));
    this.#removeFiles();
  }

  /** With an overlay at the OMS: takes that back first, for as long as termination may last. */
  protected override fail(failure: Failure): void {
    if (this.overlayId === undefined || this.#ending) {
      super.fail(failure);
      return;
    }
    this.#failure = failure;
    this.leave();
  }

  /** Looks for the overlay that this key left behind under these ids. */
  #findOwn(): void {
    const { ixs, oms, dataSources } = this.#options;
    const { sourceId: dataSourceId, dataId } = dataSources[0] as SessionDataSource;
    const retry = (failure: ServerFailure): void => this.#retry(failure, () => this.#findOwn());
    this.ask(
      ixs,
      QUERY_INDEX,
      { version: 0, title: "", dataSourceId, dataId },
      (answer) => {
        const own = answer.files
          .map((encoded) => decodeIndexFile(encoded).file)
          .find(({ sourcePublicKey, omsAddress, overlayId }) => {
            const mine = bytesEqual(sourcePublicKey, this.context.identity.publicKey);
            const here = omsAddress === formatAddress(oms);
            return mine && here && this.outlet.overlay(overlayId) === undefined;
          });
        if (own === undefined) this.#create();
        else this.#takeOver(own.overlayId);
      },
      (failure) => {
        if (failure.code === "UNKNOWN_INDEX") this.#create();
        else retry(failure);
      },
    );
  }

  #takeOver(overlayId: OverlayId): void {
    const { oms } = this.#options;
    const failed = (failure: ServerFailure): void => {
      // It expired, or this OMS does not know it or the operation: then a new one it is.
      if (NOT_THERE.has(failure.code)) this.#create();
      else this.#retry(failure, () => this.#takeOver(overlayId));
    };
    this.prove(
      oms,
      (nonce) => takeOverProof(nonce, overlayId),
      (nonce, signature) => {
        const candidates = [...this.outlet.listen()];
        const request = { overlayId, nonce, signature, candidates };
        const taken = (answer: MessageOf<(typeof TAKE_OVER)["answer"]["fields"]>): void => {
          this.note(`goes on in the overlay of before, epoch ${answer.sessionEpoch}`);
          this.#own({ ...answer, overlayId }, RESTART_GATHER_MS);
        };
        this.ask(oms, TAKE_OVER, request, taken, failed);
      },
      failed,
    );
  }

  #create(): void {
    const { oms, title } = this.#options;
    const retry = (failure: ServerFailure): void => this.#retry(failure, () => this.#create());
    this.prove(
      oms,
      createProof,
      (nonce, signature) => {
        const request = {
          nonce,
          publicKey: this.context.identity.publicKey,
          signature,
          candidates: [...this.outlet.listen()],
          title,
          pams: true,
        };
        this.ask(oms, CREATE, request, (answer) => this.#own(answer, 0), retry);
      },
      retry,
    );
  }

  /** The overlay is this session's. */
  #own(answer: Owned, gatherMs: number): void {
    this.overlayId = answer.overlayId;
    this.#ownerToken = answer.ownerToken;
    this.#sessionEpoch = answer.sessionEpoch;
    const opened = this.openOverlay({
      kind: "openOverlay",
      role: "source",
      waitPeers: this.#options.waitPeers,
      gatherMs: Math.max(this.#options.gatherMs ?? 0, gatherMs),
      settings: {
        ...nodeSettings(this.#options.node, this.#options.maxLagMs),
        overlayId: answer.overlayId,
        sessionEpoch: answer.sessionEpoch,
        fragmentBytes: this.#options.fragmentBytes,
        integrity: this.#options.integrity,
        delivery: this.#options.delivery,
        substreams: this.#options.substreams,
        maxLagMs: this.#options.maxLagMs,
        sourcePeerId: this.context.identity.peerId,
      },
    });
    if (!opened) return;
    this.#scheduleRefresh(answer.refreshMs);
    const { oms, virtualPeers } = this.#options;
    this.startReports(answer.pamsUrl, oms, ROLES.source);
    if (virtualPeers !== undefined) askVirtualPeers(this.wishHost(), oms, answer, virtualPeers);
    this.#registerNext();
  }

  /** Another process with this key took the overlay over: nothing at the servers is ours any more. */
  #superseded(): void {
    this.#ending = true;
    const overlayId = this.overlayId as string;
    this.outlet.command({ kind: "leaveOverlay", overlayId, announced: true });
    super.fail({
      code: "NOT_OWNER",
      detail: "a source peer with the same key took the session over",
    });
  }

  #retry(failure: ServerFailure, action: () => void): void {
    if (this.#ending) return;
    if (!SessionBase.isRetryable(failure)) {
      this.#giveUp(failure);
      return;
    }
    this.note(`${failure.code} ${failure.detail}: trying again`);
    this.after("step", this.backoffMs(failure.retryAfterMs), action);
  }

  /** The session fails, or if it is open, only the data source that was to be added. */
  #giveUp(failure: Failure): void {
    const wanted = this.#wanted[0];
    if (!this.#isOpen || wanted?.late !== true) {
      this.fail(failure);
      return;
    }
    this.#wanted.shift();
    const { sessionId } = this;
    const { sourceId } = wanted.dataSource;
    const { code, detail } = failure;
    this.outlet.event({ kind: "dataSourceRefused", sessionId, sourceId, code, detail });
    this.#registerNext();
  }

  /** Waits for the overlay of the other key to expire, as long as it was told to. */
  #held(wanted: Wanted): void {
    if (this.#ending) return;
    const { dataSource, untilMs, late } = wanted;
    const { sourceId, dataId } = dataSource;
    const detail =
      `another key holds data source id "${sourceId}" and data id "${dataId}" until its overlay ` +
      "expires: wait, use the same key (--identity), or name another data id (--data-id)";
    const leftMs = untilMs - LAST_TRY_MS - this.context.now.monoMs;
    if (leftMs <= 0) {
      this.#giveUp({ code: "NOT_OWNER", detail });
      return;
    }
    if (!this.#saidHeld) {
      this.#saidHeld = true;
      this.note(`NOT_OWNER ${detail}; trying again for ${Math.ceil(leftMs / 1_000)} s`);
    }
    const delayMs = HELD_AGAIN_MS * (1 + this.context.rng.next());
    // Others that came late do not wait for this one.
    if (late) this.#wanted.push(this.#wanted.shift() as Wanted);
    this.after("step", Math.min(delayMs, leftMs), () => this.#registerNext());
  }

  // ------------------------------------------------------------------------------ R6

  #registerNext(): void {
    if (this.#gone.length > 0 && !this.#ending) {
      this.#remove(this.#gone, () => this.#registerNext());
      return;
    }
    const wanted = this.#wanted[0];
    const overlayId = this.overlayId as string;
    if (wanted === undefined) {
      if (this.#isOpen) return;
      this.#isOpen = true;
      this.outlet.event({
        kind: "sessionOpen",
        sessionId: this.sessionId,
        overlayId,
        sourcePeerId: this.context.identity.peerId,
        title: this.#options.title,
      });
      return;
    }
    if (this.#ending) return;
    const { ixs } = this.#options;
    const { dataSource } = wanted;
    const retry = (failure: ServerFailure): void =>
      this.#retry(failure, () => this.#registerNext());
    // The version rises over all that the key ever had, removals included (R6.c).
    this.ask(
      ixs,
      QUERY_INDEX,
      { version: 0, title: "", dataSourceId: dataSource.sourceId, dataId: dataSource.dataId },
      (answer) => {
        let version = 0;
        for (const encoded of answer.files) {
          version = Math.max(version, decodeIndexFile(encoded).file.version);
        }
        for (const row of answer.gone) version = Math.max(version, row.version);
        this.#register(ixs, wanted, version + 1, retry);
      },
      (failure) => {
        if (failure.code === "UNKNOWN_INDEX") this.#register(ixs, wanted, 1, retry);
        else retry(failure);
      },
    );
  }

  #register(
    ixs: Address,
    wanted: Wanted,
    version: number,
    retry: (failure: ServerFailure) => void,
  ): void {
    const { dataSource } = wanted;
    const overlay = {
      overlayId: this.overlayId as string,
      sessionEpoch: this.#sessionEpoch,
    };
    const body = ownIndex(this.context, this.#options, overlay, dataSource, version);
    this.sign(indexFileBytes(body), (signature) => {
      this.ask(
        ixs,
        REGISTER_INDEX,
        { indexFile: encodeIndexFile(body, signature) },
        () => {
          this.#files.push({ dataSource, version });
          this.#wanted.shift();
          if (wanted.late) {
            const { sessionId } = this;
            const { sourceId } = dataSource;
            this.outlet.event({ kind: "dataSourceAdded", sessionId, sourceId });
          }
          this.#registerNext();
        },
        (failure) => {
          // Somebody was faster with this version: ask again which is the newest.
          if (failure.code === "VERSION_NOT_RISING") {
            this.after("step", this.backoffMs(0), () => this.#registerNext());
          } else if (failure.code === "NOT_OWNER") this.#held(wanted);
          else retry(failure);
        },
      );
    });
  }

  // ------------------------------------------------------------------------------ R5

  #scheduleRefresh(refreshMs: number): void {
    const delayMs = (refreshMs / 3) * (1 - 0.1 * this.context.rng.next());
    this.after("refresh", delayMs, () => this.#refresh(refreshMs));
  }

  #refresh(lastMs: number): void {
    this.ask(
      this.#options.oms,
      REFRESH_OVERLAY,
      { overlayId: this.overlayId as string, ownerToken: this.#ownerToken, candidates: undefined },
      (answer) => {
        this.noteReach(answer.reach);
        this.#scheduleRefresh(answer.refreshMs);
      },
      (failure) => {
        if (failure.code === "OVERLAY_GONE") {
          this.note("the OMS removed the overlay: no newcomer will find it");
          return;
        }
        if (failure.code === "NOT_OWNER") {
          this.#superseded();
          return;
        }
        const delayMs = Math.min(this.backoffMs(failure.retryAfterMs), lastMs / 6);
        this.after("refresh", delayMs, () => this.#refresh(lastMs));
      },
    );
  }

  // ------------------------------------------------------------------------------ termination

  #removeFiles(): void {
    if (this.#files.length === 0) this.#removeOverlay();
    else this.#remove(this.#files, () => this.#removeFiles());
  }

  /** Removes the first of `files` there and here, then goes on. */
  #remove(files: RegisteredFile[], goOn: () => void): void {
    const { dataSource, version } = files[0] as RegisteredFile;
    const statement = {
      version,
      dataSourceId: dataSource.sourceId,
      dataId: dataSource.dataId,
    };
    const next = (): void => {
      files.shift();
      goOn();
    };
    this.sign(removeProof(statement), (signature) => {
      const { publicKey } = this.context.identity;
      this.ask(
        this.#options.ixs,
        REMOVE_INDEX,
        { ...statement, publicKey, signature },
        next,
        (failure) => {
          // Termination has taken over what was to be removed.
          if (this.#ending && files === this.#gone) return;
          if (SessionBase.isRetryable(failure)) {
            this.after("step", this.backoffMs(failure.retryAfterMs), goOn);
          } else next();
        },
      );
    });
  }

  #removeOverlay(): void {
    const { overlayId } = this;
    if (overlayId === undefined) {
      this.#left();
      return;
    }
    this.stopReports(() => {
      this.ask(
        this.#options.oms,
        REMOVE_SESSION_OVERLAY,
        { overlayId, ownerToken: this.#ownerToken },
        () => this.#left(),
        (failure) => {
          if (!SessionBase.isRetryable(failure)) {
            this.#left();
            return;
          }
          this.after("step", this.backoffMs(failure.retryAfterMs), () => this.#removeOverlay());
        },
      );
    });
  }

  #left(): void {
    const { overlayId } = this;
    if (overlayId !== undefined && this.outlet.overlay(overlayId) !== undefined) {
      this.outlet.command({ kind: "leaveOverlay", overlayId, announced: true });
    }
    if (this.#failure === undefined) this.finish();
    else super.fail(this.#failure);
  }
}
