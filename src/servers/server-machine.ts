/**
 * What OMS, IXS and PAMS share: one machine with links, requests, jobs and durable records.
 *
 * Life: `start` loads the records under the server's prefix page by page; only then requests are
 * served (`ready`). `drain` refuses new requests and says `drained` when the last was answered.
 *
 * Durable state: `commit` writes one transaction under compare-and-set and calls back after it is
 * flushed; only then a server changes what it serves and acknowledges. When the store refuses, what
 * it holds now is read again before the caller hears of it, so memory never runs behind the disk.
 */

import { assert } from "../base/assert.ts";
import type { ErrorCode } from "../base/errors.ts";
import {
  type Frames,
  type Input,
  type JobResult,
  type LinkId,
  MachineBase,
  type Now,
  type StoreOperation,
  type StoreRecord,
  type StoreResult,
} from "../base/machine.ts";
import type { Fields } from "../protocol/codec.ts";
import { type Reply, RequestRouter } from "./request-router.ts";
import {
  newCounters,
  SERVER_LIMITS,
  type ServerCommand,
  type ServerCounters,
  type ServerEvent,
  type ServerLimits,
  type ServerOptions,
} from "./server-types.ts";

/** Records read in one store operation while loading. */
const LOAD_PAGE = 256;

export interface StoreFailure {
  readonly code: ErrorCode;
  readonly detail: string;
}

export interface Write {
  readonly key: string;
  /** Undefined removes the key. */
  readonly value: Uint8Array | undefined;
  /** The revision it must have now; 0 = absent. */
  readonly revision: number;
}

export abstract class ServerMachine<
  S,
  C extends { readonly type: string } = never,
  E extends { readonly type: string } = never,
> extends MachineBase<ServerCommand | C, ServerEvent<S> | E> {
  protected readonly options: ServerOptions;
  protected readonly limits: ServerLimits;
  protected readonly counters: ServerCounters = newCounters();
  protected readonly router: RequestRouter;
  readonly #prefix: string;
  readonly #jobs = new Map<number, (result: JobResult, now: Now) => void>();
  readonly #stores = new Map<number, (result: StoreResult, now: Now) => void>();
  #nextId = 1;
  #life: "new" | "loading" | "ready" | "draining" | "drained" | "failed" = "new";

  /** `prefix` of the server's keys in the store; "" when it has none. */
  constructor(options: ServerOptions, prefix: string, requestIdBase: number) {
    super();
    this.options = options;
    this.limits = { ...SERVER_LIMITS, ...options.limits };
    this.#prefix = prefix;
    this.router = new RequestRouter(
      {
        transmit: (linkId, bytes) => this.emit({ kind: "transmit", linkId, bytes }),
        close: (linkId, abort) => this.emit({ kind: "close", linkId, abort }),
        refused: (linkId, code, detail) => this.report({ type: "refused", linkId, code, detail }),
      },
      this.limits,
      this.counters,
      options.rng,
      requestIdBase,
    );
  }

  protected override step(input: Input<ServerCommand | C>, now: Now): void {
    switch (input.kind) {
      case "linkUp":
        if (!this.isPeerLink(input.linkId)) this.router.linkUp(input, now);
        this.onLinkUp(input.linkId, now);
        break;
      case "linkDown":
        this.router.linkDown(input.linkId, input.code, now);
        this.onLinkDown(input.linkId, now);
        break;
      case "frames":
        if (this.isPeerLink(input.linkId)) this.onPeerFrames(input, now);
        else this.router.frames(input, now);
        break;
      case "jobDone":
        this.#settle(this.#jobs, input.jobId, input.result, now);
        break;
      case "storeDone":
        this.#settle(this.#stores, input.opId, input.result, now);
        break;
      case "command":
        this.#command(input.command, now);
        break;
      case "timeout":
      case "sent":
        break;
    }
    // Time passes whatever the input was: no lease is honoured after its end.
    this.router.expire(now);
    this.onTime(now);
    if (this.#life === "draining" && this.counters.inFlight === 0) {
      this.#life = "drained";
      this.report({ type: "drained" });
    }
  }

  protected override nextDeadlineMs(): number {
    return Math.min(this.router.earliestMs(), this.earliestMs());
  }

  get ready(): boolean {
    return this.#life === "ready";
  }

  protected report(event: ServerEvent<S> | E): void {
    this.emit({ kind: "event", event });
  }

  // ------------------------------------------------------------------------- for each server

  /** Takes one durable record while loading, or after a refused write (undefined: absent). */
  protected abstract take(key: string, record: StoreRecord | undefined, now: Now): void;
  /** All records were taken. Calls `serve` at once, or after writes of its own. */
  protected abstract onLoaded(now: Now): void;
  protected abstract onCommand(command: C, now: Now): void;
  /** After every input: what is due at `now`. */
  protected abstract onTime(now: Now): void;
  protected abstract earliestMs(): number;
  protected abstract snapshot(now: Now): S;
  protected onLinkUp(_linkId: LinkId, _now: Now): void {}
  protected onLinkDown(_linkId: LinkId, _now: Now): void {}
  /** A link that this server opened to a peer's port: it carries frames of R10, no requests. */
  protected isPeerLink(_linkId: LinkId): boolean {
    return false;
  }
  protected onPeerFrames(_input: Frames, _now: Now): void {}

  /** From now on requests are served. */
  protected serve(): void {
    this.#life = "ready";
    this.router.shut(undefined);
    this.report({ type: "ready" });
  }

  /** The durable state can not be had: this server never becomes ready. */
  protected giveUp(failure: StoreFailure): void {
    this.#life = "failed";
    this.router.shut(`${failure.code} while starting`);
    this.report({ type: "failed", fatal: true, ...failure });
  }

  // --------------------------------------------------------------------------- jobs and store

  /**
   * Runs `then` when the Ed25519 signature holds; otherwise the request is answered:
   * IDENTITY_UNPROVEN, or INTERNAL when the check itself failed.
   */
  protected proven(
    claim: {
      readonly publicKey: Uint8Array;
      readonly bytes: Uint8Array;
      readonly signature: Uint8Array;
    },
    reply: Pick<Reply<Fields>, "fail">,
    then: (now: Now) => void,
  ): void {
    const jobId = this.#nextId++;
    this.#jobs.set(jobId, (result, now) => {
      if (result.kind === "verifySignature" && result.valid) then(now);
      else if (result.kind === "verifySignature") {
        reply.fail("IDENTITY_UNPROVEN", "the signature is wrong");
      } else {
        reply.fail("INTERNAL", "the signature could not be checked");
      }
    });
    this.emit({ kind: "job", jobId, job: { kind: "verifySignature", ...claim } });
  }

  /**
   * Writes all or nothing. `then` is called after the flush with the new revision, or with a
   * failure after `take` was given what the store holds now.
   */
  protected commit(
    writes: readonly Write[],
    now: Now,
    then: (result: { readonly revision: number } | StoreFailure, now: Now) => void,
  ): void {
    assert(now.monoMs >= 0 && writes.length > 0, "something to write");
    const conditions = writes.map(({ key, revision }) => ({ key, revision }));
    const operation: StoreOperation = {
      kind: "transaction",
      conditions,
      writes: writes.map(({ key, value }) => ({ key, value })),
    };
    this.#store(operation, (result, then_) => {
      if (result.kind === "transaction" && result.committed) {
        then({ revision: result.revision }, then_);
        return;
      }
      const failure: StoreFailure =
        result.kind === "error"
          ? { code: result.code, detail: result.detail }
          : { code: "STORE_CONFLICT", detail: "another process wrote the record" };
      this.counters.storeFailures++;
      this.report({ type: "failed", fatal: false, ...failure });
      this.#reload(
        writes.map(({ key }) => key),
        then_,
        (later) => then(failure, later),
      );
    });
  }

  #reload(keys: readonly string[], now: Now, then: (now: Now) => void): void {
    const [key, ...others] = keys;
    if (key === undefined) {
      then(now);
      return;
    }
    this.#store({ kind: "read", key }, (result, later) => {
      // A store that can not even read leaves memory as it was: what is served was durable once.
      if (result.kind === "read") this.take(key, result.record, later);
      this.#reload(others, later, then);
    });
  }

  #store(operation: StoreOperation, then: (result: StoreResult, now: Now) => void): void {
    const opId = this.#nextId++;
    this.#stores.set(opId, then);
    this.emit({ kind: "store", opId, operation });
  }

  #settle<R>(
    table: Map<number, (result: R, now: Now) => void>,
    id: number,
    result: R,
    now: Now,
  ): void {
    const then = table.get(id);
    assert(then !== undefined, "a result of something asked for, once");
    table.delete(id);
    then(result, now);
  }

  // --------------------------------------------------------------------------------- lifecycle

  #command(command: ServerCommand | C, now: Now): void {
    switch (command.type) {
      case "start":
        assert(this.#life === "new", "start() once");
        this.#life = "loading";
        if (this.#prefix === "") this.onLoaded(now);
        else this.#load(this.#prefix, now);
        return;
      case "drain":
        this.#life = "draining";
        this.router.shut("draining");
        return;
      case "snapshot":
        this.report({
          type: "snapshot",
          token: (command as { readonly token: number }).token,
          snapshot: this.snapshot(now),
        });
        return;
      default:
        this.onCommand(command as C, now);
    }
  }

  #load(from: string, _now: Now): void {
    const to = `${this.#prefix}\uffff`;
    this.#store({ kind: "range", from, to, limit: LOAD_PAGE }, (result, now) => {
      if (result.kind !== "range") {
        const failure =
          result.kind === "error" ? result : { code: "INTERNAL" as const, detail: "" };
        this.giveUp({ code: failure.code, detail: failure.detail });
        return;
      }
      for (const record of result.records) {
        this.take(record.key, record, now);
        if (this.#life === "failed") return;
      }
      const last = result.records.at(-1);
      if (last !== undefined && result.records.length === LOAD_PAGE)
        this.#load(`${last.key}\0`, now);
      else this.onLoaded(now);
    });
  }
}
