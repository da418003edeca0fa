/**
 * The index files of a source peer's session (R6): registered one after the other, those of data
 * sources that come later too, and removed when a data source or the session ends.
 *
 * In an overlay that was taken over, those of before are registered anew for its next epoch, whether
 * their data sources are back or not: by whichever of them a member came, it finds where the session
 * goes on, and all of them name one overlay.
 *
 * Where another key holds the same data source id and data id, most often this very source before it
 * was killed, it waits up to waitMs for that overlay to expire.
 */

import type { MonoMs, OverlayId } from "../../base/units.ts";
import type { Fields, InputOf, MessageOf } from "../../protocol/codec.ts";
import { encodeIndexFile, type IndexFile, indexFileBytes } from "../../protocol/index-file.ts";
import { QUERY_INDEX, REGISTER_INDEX, REMOVE_INDEX, removeProof } from "../../protocol/r6.ts";
import type { Operation } from "../../protocol/signalling.ts";
import type { PeerContext } from "../context.ts";
import { filesOfKey, newestVersion, ownIndex } from "./own-index.ts";
import type { ServerFailure } from "./server-client.ts";
import { sameAddress } from "./session-base.ts";
import type { CreateSession, SessionDataSource } from "./session-types.ts";

/** While another key holds the ids: asked again after this, up to twice as long. */
const HELD_AGAIN_MS = 1_000;
/** The last try comes so long before the end of waitMs, so that its answer is in time. */
const LAST_TRY_MS = 500;

export type Failure = Pick<ServerFailure, "code" | "detail">;

/** What the index files need of their session. */
export interface IndexFilesHost {
  readonly context: PeerContext;
  /** Where the data are. */
  overlay(): { readonly overlayId: OverlayId; readonly sessionEpoch: number };
  isEnding(): boolean;
  askIxs<Q extends Fields, A extends Fields>(
    operation: Operation<Q, A>,
    request: InputOf<Q>,
    done: (answer: MessageOf<A>) => void,
    failed: (failure: ServerFailure) => void,
  ): void;
  sign(bytes: Uint8Array, done: (signature: Uint8Array) => void): void;
  /** The one step that waits. */
  after(delayMs: number, action: () => void): void;
  backoffMs(retryAfterMs: number): number;
  isRetryable(failure: ServerFailure): boolean;
  /** Later again, if that is of use; else `giveUp`. */
  retry(failure: ServerFailure, action: () => void, giveUp: (failure: Failure) => void): void;
  note(text: string): void;
  fail(failure: Failure): void;
  /** All that the session began with are registered. */
  opened(): void;
  added(dataSource: SessionDataSource): void;
  /** A file of before was registered anew. */
  renewed(): void;
  refused(dataSource: SessionDataSource, failure: Failure): void;
}

/** A data source whose index file is to be registered. */
interface Wanted {
  readonly dataSource: SessionDataSource;
  /** Until when ids that another key holds are waited for. */
  readonly untilMs: MonoMs;
  /** It came when the session was open: what becomes of it is its own matter. */
  readonly late: boolean;
  /** Its file is registered anew, whether it comes or not. */
  readonly renews: boolean;
}

interface RegisteredFile {
  readonly dataSource: SessionDataSource;
  readonly version: number;
}

export class IndexFiles {
  readonly #host: IndexFilesHost;
  readonly #options: CreateSession;
  readonly #files: RegisteredFile[] = [];
  /** To be removed before anything else is registered. */
  readonly #gone: RegisteredFile[] = [];
  /** In the order they came; the first is at work. */
  readonly #wanted: Wanted[] = [];
  #isOpen = false;
  #saidHeld = false;
  /** Files of an epoch before may stand; the index server is asked for them, or will be after a while. */
  #hasOlder = false;
  #asks = false;
  #asksLater = false;

  constructor(host: IndexFilesHost, options: CreateSession) {
    this.#host = host;
    this.#options = options;
    for (const dataSource of options.dataSources) this.#want(dataSource, "first");
  }

  /** Whether the file of these ids at this IXS is here, or is to be. */
  has(ixs: CreateSession["ixs"], { sourceId, dataId }: SessionDataSource): boolean {
    return (
      sameAddress(ixs, this.#options.ixs) &&
      [...this.#wanted, ...this.#files].some(
        ({ dataSource: own }) => own.sourceId === sourceId && own.dataId === dataId,
      )
    );
  }

  /** The overlay was taken over: files of its epochs before are to be registered anew. */
  renew(): void {
    this.#hasOlder = true;
  }

  /** A data source that came when the session was open. */
  add(dataSource: SessionDataSource): void {
    this.#want(dataSource, "late");
    this.#goOn();
  }

  /** A data source that gave its place back. */
  remove(sourceId: string): void {
    const at = this.#files.findIndex(({ dataSource }) => dataSource.sourceId === sourceId);
    if (at < 0) return;
    this.#gone.push(...this.#files.splice(at, 1));
    this.#goOn();
  }

  /** The session ends: `done` once the IXS has none of them. */
  removeAll(done: () => void): void {
    this.#files.push(...this.#gone.splice(0));
    this.#removeRest(done);
  }

  /** Removes and registers what is to be, one at a time. */
  next(): void {
    this.#asksLater = false;
    if (this.#host.isEnding()) return;
    if (this.#gone.length > 0) {
      this.#remove(this.#gone, () => this.next());
      return;
    }
    const wanted = this.#wanted[0];
    if (wanted !== undefined) {
      if (this.#stands(wanted.dataSource)) this.#registered(wanted);
      else this.#registerNewest(wanted);
      return;
    }
    if (!this.#isOpen) {
      this.#isOpen = true;
      this.#host.opened();
    }
    if (this.#hasOlder && this.#isIdle && !this.#asks) this.#findOlder();
  }

  get #isIdle(): boolean {
    return this.#wanted.length + this.#gone.length === 0;
  }

  /** Begins with what has just come, unless something is at work. */
  #goOn(): void {
    if (this.#wanted.length + this.#gone.length !== 1 || !this.#isOpen) return;
    // In place of that, which comes after what has just come.
    if (this.#asksLater) this.#host.after(0, () => this.next());
    else this.next();
  }

  /**
   * Wants what the index server has of this overlay and an epoch before. It tells of a few at a time,
   * those that were not touched for longest first: so they are asked for until none is among them.
   */
  #findOlder(): void {
    const { context, overlay, askIxs } = this.#host;
    const { overlayId, sessionEpoch } = overlay();
    const isOlder = (file: IndexFile): boolean =>
      file.sessionEpoch < sessionEpoch && this.#fileOf(file.dataSourceId, file.dataId) < 0;
    this.#asks = true;
    askIxs(
      QUERY_INDEX,
      { version: 0, title: "", dataSourceId: "", dataId: "", overlayId },
      ({ files }) => {
        this.#asks = false;
        if (this.#host.isEnding()) return;
        const older = filesOfKey(context, files, this.#options.oms).filter(isOlder);
        this.#hasOlder = older.length > 0;
        const goesOn = this.#isIdle;
        for (const { dataSourceId: sourceId, dataId, description } of older) {
          const of = { sourceId, dataId, contentType: "", description: description ?? "" };
          this.#want(of, "renews");
        }
        if (goesOn && this.#hasOlder) this.next();
      },
      (failure) => {
        this.#asks = false;
        this.#hasOlder = failure.code !== "UNKNOWN_INDEX";
        // What came meanwhile goes on to this again.
        if (!this.#hasOlder || !this.#isIdle) return;
        this.#asksLater = true;
        this.#host.retry(
          failure,
          () => this.next(),
          ({ code, detail }) => {
            this.#hasOlder = false;
            this.#asksLater = false;
            this.#host.note(`index files of before stay as they are: ${code} ${detail}`);
          },
        );
      },
    );
  }

  #fileOf(sourceId: string, dataId: string): number {
    return this.#files.findIndex(
      ({ dataSource: own }) => own.sourceId === sourceId && own.dataId === dataId,
    );
  }

  /** Whether its file stands as it would be registered now. */
  #stands({ sourceId, dataId, description }: SessionDataSource): boolean {
    const file = this.#files[this.#fileOf(sourceId, dataId)];
    return file?.dataSource.description === description;
  }

  #registered(wanted: Wanted): void {
    const { dataSource, late, renews } = wanted;
    this.#wanted.splice(this.#wanted.indexOf(wanted), 1);
    if (renews) this.#host.renewed();
    else if (late) this.#host.added(dataSource);
    this.next();
  }

  #want(dataSource: SessionDataSource, how: "first" | "late" | "renews"): void {
    const untilMs = this.#host.context.now.monoMs + (this.#options.waitMs ?? 0);
    this.#wanted.push({ dataSource, untilMs, late: how !== "first", renews: how === "renews" });
  }

  /** The version rises over all that the key ever had, removals included (R6.c). */
  #registerNewest(wanted: Wanted): void {
    const { sourceId: dataSourceId, dataId } = wanted.dataSource;
    this.#host.askIxs(
      QUERY_INDEX,
      { version: 0, title: "", dataSourceId, dataId },
      (answer) => this.#register(wanted, newestVersion(answer) + 1),
      (failure) => {
        if (failure.code === "UNKNOWN_INDEX") this.#register(wanted, 1);
        else this.#retry(failure);
      },
    );
  }

  #register(wanted: Wanted, version: number): void {
    const { dataSource } = wanted;
    const host = this.#host;
    const body = ownIndex(host.context, this.#options, host.overlay(), dataSource, version);
    host.sign(indexFileBytes(body), (signature) => {
      host.askIxs(
        REGISTER_INDEX,
        { indexFile: encodeIndexFile(body, signature) },
        () => {
          const before = this.#fileOf(dataSource.sourceId, dataSource.dataId);
          if (before >= 0) this.#files.splice(before, 1);
          this.#files.push({ dataSource, version });
          this.#registered(wanted);
        },
        (failure) => {
          // Somebody was faster with this version: ask again which is the newest.
          if (failure.code === "VERSION_NOT_RISING") {
            host.after(host.backoffMs(0), () => this.next());
          } else if (failure.code === "NOT_OWNER") this.#held(wanted);
          else this.#retry(failure);
        },
      );
    });
  }

  #retry(failure: ServerFailure): void {
    this.#host.retry(
      failure,
      () => this.next(),
      (final) => this.#giveUp(final),
    );
  }

  /** The session fails, or if it is open, only the data source that was to be added. */
  #giveUp(failure: Failure): void {
    const wanted = this.#wanted[0];
    if (!this.#isOpen || wanted?.late !== true) {
      this.#host.fail(failure);
      return;
    }
    this.#wanted.shift();
    const { sourceId } = wanted.dataSource;
    if (!wanted.renews) this.#host.refused(wanted.dataSource, failure);
    else this.#host.note(`${failure.code} ${failure.detail}: the file of ${sourceId} is of before`);
    this.next();
  }

  /** Waits for the overlay of the other key to expire, as long as it was told to. */
  #held(wanted: Wanted): void {
    const host = this.#host;
    if (host.isEnding()) return;
    const { dataSource, untilMs, late } = wanted;
    const { sourceId, dataId } = dataSource;
    const detail =
      `another key holds data source id "${sourceId}" and data id "${dataId}" until its overlay ` +
      "expires: wait, use the same key (--identity), or name another data id (--data-id)";
    const leftMs = untilMs - LAST_TRY_MS - host.context.now.monoMs;
    if (leftMs <= 0) {
      this.#giveUp({ code: "NOT_OWNER", detail });
      return;
    }
    if (!this.#saidHeld) {
      this.#saidHeld = true;
      host.note(`NOT_OWNER ${detail}; trying again for ${Math.ceil(leftMs / 1_000)} s`);
    }
    const delayMs = HELD_AGAIN_MS * (1 + host.context.rng.next());
    // Others that came late do not wait for this one.
    if (late) this.#wanted.push(this.#wanted.shift() as Wanted);
    host.after(Math.min(delayMs, leftMs), () => this.next());
  }

  #removeRest(done: () => void): void {
    if (this.#files.length === 0) done();
    else this.#remove(this.#files, () => this.#removeRest(done));
  }

  /** Removes the first of `files` there and here, then goes on. */
  #remove(files: RegisteredFile[], goOn: () => void): void {
    const host = this.#host;
    const { dataSource, version } = files[0] as RegisteredFile;
    const { sourceId: dataSourceId, dataId } = dataSource;
    const statement = { version, dataSourceId, dataId };
    const next = (): void => {
      files.shift();
      goOn();
    };
    host.sign(removeProof(statement), (signature) => {
      const { publicKey } = host.context.identity;
      host.askIxs(REMOVE_INDEX, { ...statement, publicKey, signature }, next, (failure) => {
        // Termination has taken over what was to be removed.
        if (host.isEnding() && files === this.#gone) return;
        if (host.isRetryable(failure)) host.after(host.backoffMs(failure.retryAfterMs), goOn);
        else next();
      });
    });
  }
}
