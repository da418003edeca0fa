/**
 * A source peer's session: initiation (P1.2), keeping it alive (R5.d), termination (P3.2).
 *
 *     CREATE overlay -> open it -> an index file per data source (index-files.ts) -> open
 *     ... refresh at a third of the expiration time, report to the PAMS ...
 *     remove index files -> remove overlay -> leave
 *
 * A source peer that was killed and comes back with its key (`resumes`) does not create an overlay:
 * it takes over the one that its index file names, in the next session epoch. That file is the one of
 * its first data source; of a session that has none of its own, the newest of its title. Whoever still
 * runs with the tokens of before has lost the session.
 *
 * A session that fails before it is open takes back at the servers what it had made there. Of one
 * peer no two sessions have data sources of the same ids: the second is refused.
 *
 * Servers that are away for a while disturb no data: everything is retried with jitter. An overlay
 * that the OMS says is gone ends the session for newcomers, not for those who are linked already.
 */

import type { OverlayId } from "../../base/units.ts";
import type { MessageOf } from "../../protocol/codec.ts";
import { ROLES } from "../../protocol/common.ts";
import {
  CREATE,
  createProof,
  REFRESH_OVERLAY,
  REMOVE_SESSION_OVERLAY,
  TAKE_OVER,
  takeOverProof,
} from "../../protocol/r5.ts";
import { QUERY_INDEX } from "../../protocol/r6.ts";
import type { PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import { nodeSettings } from "../settings.ts";
import { type Failure, IndexFiles, type IndexFilesHost } from "./index-files.ts";
import { filesOfKey } from "./own-index.ts";
import type { ServerFailure } from "./server-client.ts";
import { SessionBase, type SessionOutlet } from "./session-base.ts";
import type { CreateSession, SessionDataSource } from "./session-types.ts";
import { askVirtualPeers } from "./virtual-peers.ts";

/** Termination does not wait for servers longer than this. */
const TERMINATION_MS = 5_000;
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

const takenIds = ({ sourceId, dataId }: SessionDataSource): Failure => ({
  code: "SOURCE_REGISTERED",
  detail: `another session of this peer has data source id "${sourceId}" and data id "${dataId}"`,
});

export class SourceSession extends SessionBase {
  readonly #options: CreateSession;
  readonly #files: IndexFiles;
  /** The overlay of before that this session goes on in, or tries to. */
  #takesOver: OverlayId | undefined;
  #ownerToken: Uint8Array = new Uint8Array(0);
  #sessionEpoch = 0;
  #hasWished = false;
  #ending = false;
  /** Why the session failed, told once the servers know. */
  #failure: Failure | undefined;

  constructor(context: PeerContext, outlet: SessionOutlet, options: CreateSession) {
    super(context, outlet, options.sessionId);
    this.#options = options;
    this.#files = new IndexFiles(this.#filesHost(), options);
  }

  override start(): void {
    const { dataSources, resumes } = this.#options;
    const taken = dataSources.find((dataSource) => this.#isTaken(dataSource));
    if (taken !== undefined) this.fail(takenIds(taken));
    else if (resumes === true) this.#findOwn();
    else this.#create();
  }

  /** A data source that came when the session was open. */
  add(dataSource: SessionDataSource): void {
    if (this.#isTaken(dataSource)) this.#refused(dataSource, takenIds(dataSource));
    else this.#files.add(dataSource);
  }

  /** A data source that gave its place back. */
  remove(sourceId: string): void {
    this.#files.remove(sourceId);
  }

  /** Whether another session of this peer has the index file of these ids, or is to have it. */
  #isTaken(dataSource: SessionDataSource): boolean {
    return this.#others().some((other) => other.#files.has(this.#options.ixs, dataSource));
  }

  #others(): SourceSession[] {
    return [...this.outlet.sessions()].filter(
      (other): other is SourceSession =>
        other instanceof SourceSession && other !== this && !other.#ending,
    );
  }

  protected override get claimed(): OverlayId | undefined {
    return this.#ending ? undefined : (this.overlayId ?? this.#takesOver);
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
    this.#files.removeAll(() => this.#removeOverlay());
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

  /** Looks for the overlay that this key left behind under these ids, or under this title. */
  #findOwn(): void {
    const { ixs, oms, dataSources, title } = this.#options;
    const [first] = dataSources;
    const ids = { dataSourceId: first?.sourceId ?? "", dataId: first?.dataId ?? "" };
    const retry = (failure: ServerFailure): void => this.#retry(failure, () => this.#findOwn());
    this.ask(
      ixs,
      QUERY_INDEX,
      { version: 0, title: first === undefined ? title : "", ...ids },
      (answer) => {
        const own = filesOfKey(this.context, answer.files, oms)
          .sort((a, b) => b.createdUs - a.createdUs)
          .map(({ overlayId }) => overlayId);
        this.#takeOver([...new Set(own)]);
      },
      (failure) => {
        if (failure.code === "UNKNOWN_INDEX") this.#create();
        else retry(failure);
      },
    );
  }

  /** The first of them that is there still; else a new one. */
  #takeOver(overlays: readonly OverlayId[]): void {
    const { oms } = this.#options;
    this.#takesOver = undefined;
    const [overlayId, ...others] = overlays.filter((one) => !this.isTaken(one));
    this.#takesOver = overlayId;
    if (overlayId === undefined) {
      this.#create();
      return;
    }
    const failed = (failure: ServerFailure): void => {
      // It expired, or this OMS does not know it or the operation.
      if (NOT_THERE.has(failure.code)) this.#takeOver(others);
      else this.#retry(failure, () => this.#takeOver([overlayId, ...others]));
    };
    this.prove(
      oms,
      (nonce) => takeOverProof(nonce, overlayId),
      (nonce, signature) => {
        const candidates = [...this.outlet.listen()];
        const request = { overlayId, nonce, signature, candidates };
        const taken = (answer: MessageOf<(typeof TAKE_OVER)["answer"]["fields"]>): void => {
          this.note(`goes on in the overlay of before, epoch ${answer.sessionEpoch}`);
          this.#files.renew();
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
    this.startReports(answer.pamsUrl, this.#options.oms, ROLES.source);
    this.#files.next();
  }

  /** Another process with this key took the overlay over: nothing at the servers is ours any more. */
  #superseded(): void {
    this.#ending = true;
    this.leaveOverlay();
    super.fail({
      code: "NOT_OWNER",
      detail: "a source peer with the same key took the session over",
    });
  }

  #retry(
    failure: ServerFailure,
    action: () => void,
    giveUp: (failure: Failure) => void = (final) => this.fail(final),
  ): void {
    if (this.#ending) return;
    if (!SessionBase.isRetryable(failure)) {
      giveUp(failure);
      return;
    }
    this.noteRetry(failure);
    this.after("step", this.backoffMs(failure.retryAfterMs), action);
  }

  // ------------------------------------------------------------------------------ R6

  #filesHost(): IndexFilesHost {
    const { sessionId } = this;
    return {
      context: this.context,
      overlay: () => ({
        overlayId: this.overlayId as string,
        sessionEpoch: this.#sessionEpoch,
      }),
      isEnding: () => this.#ending,
      askIxs: (operation, request, done, failed) =>
        this.ask(this.#options.ixs, operation, request, done, failed),
      sign: (bytes, done) => this.sign(bytes, done),
      after: (delayMs, action) => this.after("step", delayMs, action),
      backoffMs: (retryAfterMs) => this.backoffMs(retryAfterMs),
      isRetryable: (failure) => SessionBase.isRetryable(failure),
      retry: (failure, action, giveUp) => this.#retry(failure, action, giveUp),
      note: (text) => this.note(text),
      fail: (failure) => this.fail(failure),
      opened: () => this.#opened(),
      added: ({ sourceId }) => {
        this.#wish();
        this.outlet.event({ kind: "dataSourceAdded", sessionId, sourceId });
      },
      renewed: () => this.#wish(),
      refused: (dataSource, failure) => this.#refused(dataSource, failure),
    };
  }

  /** P1.3, once there is an index file, by which virtual peers find the session. */
  #wish(): void {
    const { oms, virtualPeers } = this.#options;
    if (virtualPeers === undefined || this.#hasWished || this.#ending) return;
    this.#hasWished = true;
    const owned = { overlayId: this.overlayId as string, ownerToken: this.#ownerToken };
    askVirtualPeers(this.wishHost(), oms, owned, virtualPeers);
  }

  #opened(): void {
    if (this.#options.dataSources.length > 0) this.#wish();
    this.outlet.event({
      kind: "sessionOpen",
      sessionId: this.sessionId,
      overlayId: this.overlayId as string,
      sourcePeerId: this.context.identity.peerId,
      title: this.#options.title,
    });
  }

  #refused({ sourceId }: SessionDataSource, { code, detail }: Failure): void {
    const { sessionId } = this;
    this.outlet.event({ kind: "dataSourceRefused", sessionId, sourceId, code, detail });
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
    this.leaveOverlay();
    if (this.#failure === undefined) this.finish();
    else super.fail(this.#failure);
  }
}
