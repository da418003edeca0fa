/**
 * Drives one server machine by hand: a virtual clock, links with scripted clients, real Ed25519
 * for jobs, and a store whose operations finish late and in seeded order. `crash` throws the
 * machine away together with every write that was not flushed and builds it again from the store.
 */

import { createHash, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { expect } from "vitest";
import type {
  Input,
  Machine,
  Now,
  Output,
  StoreOperation,
  StoreRecord,
  StoreResult,
} from "../../src/base/machine.ts";
import { type Rng, seededEntropy, seededRng } from "../../src/base/rng.ts";
import type { Fields, InputOf, MessageOf } from "../../src/protocol/codec.ts";
import {
  encodeRequest,
  FAILURE,
  type Failure,
  type Operation,
  readEnvelope,
} from "../../src/protocol/signalling.ts";
import type { ServerOptions } from "../../src/servers/server-types.ts";
import { type MsgpackValue, readMsgpack } from "../support/msgpack-reader.ts";

export const sha256 = (bytes: Uint8Array): Uint8Array =>
  Uint8Array.from(createHash("sha256").update(bytes).digest());

/** An Ed25519 key pair with its peer id. */
export class Identity {
  readonly publicKey: Uint8Array;
  readonly peerId: string;
  readonly #privateKey: KeyObject;
  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync("ed25519");
    const spki = publicKey.export({ type: "spki", format: "der" });
    this.publicKey = Uint8Array.from(spki.subarray(-32));
    this.peerId = Buffer.from(sha256(this.publicKey)).toString("hex");
    this.#privateKey = privateKey;
  }
  sign(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(null, bytes, this.#privateKey));
  }
}

const SPKI = Buffer.from("302a300506032b6570032100", "hex");
function verifies(publicKey: Uint8Array, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = { key: Buffer.concat([SPKI, publicKey]), format: "der", type: "spki" } as const;
  return verify(null, bytes, key, signature);
}

/** The disk: what is in `records` survives a crash. */
export class Disk {
  readonly records = new Map<string, StoreRecord>();
  revision = 0;
  /** Makes every operation fail with this code while set. */
  broken: "STORE_FULL" | undefined;

  apply(operation: StoreOperation): StoreResult {
    if (this.broken !== undefined && operation.kind === "transaction") {
      return { kind: "error", code: this.broken, detail: "no space" };
    }
    switch (operation.kind) {
      case "read":
        return { kind: "read", record: this.records.get(operation.key) };
      case "range": {
        const keys = [...this.records.keys()].filter(
          (key) => key >= operation.from && key < operation.to,
        );
        keys.sort((a, b) => (a < b ? -1 : 1));
        const records = keys.slice(0, operation.limit).flatMap((key) => {
          const record = this.records.get(key);
          return record === undefined ? [] : [record];
        });
        return { kind: "range", records };
      }
      case "transaction": {
        for (const { key, revision } of operation.conditions) {
          if ((this.records.get(key)?.revision ?? 0) !== revision) {
            return { kind: "transaction", committed: false, revision: this.revision };
          }
        }
        this.revision++;
        for (const { key, value } of operation.writes) {
          if (value === undefined) this.records.delete(key);
          else {
            const copy = Uint8Array.from(value);
            this.records.set(key, { key, value: copy, revision: this.revision });
          }
        }
        return { kind: "transaction", committed: true, revision: this.revision };
      }
    }
  }
}

export type Reply<A extends Fields> =
  | { readonly ok: true; readonly answer: MessageOf<A> }
  | { readonly ok: false; readonly failure: Failure };

interface Work {
  readonly kind: "job" | "store";
  readonly run: () => Input<never>;
}

export interface AnyMachine extends Machine<never, { readonly type: string }> {}

/** Builds a fresh machine; called at the start and after each crash. */
export type Build = (options: ServerOptions) => unknown;

export class ServerDriver {
  readonly disk: Disk;
  readonly events: { readonly type: string; readonly [name: string]: unknown }[] = [];
  readonly sent: { readonly linkId: number; readonly bytes: Uint8Array }[] = [];
  readonly opened: { readonly linkId: number; readonly port: number }[] = [];
  /** Links opened to ports of peers (dial-back). */
  readonly dialled: { readonly linkId: number; readonly host: string; readonly port: number }[] =
    [];
  readonly closed: number[] = [];
  monoMs = 1_000;
  /** Jobs and store operations wait until the test lets them finish. */
  hold = false;
  readonly #rng: Rng;
  readonly #build: Build;
  readonly #work: Work[] = [];
  #machine: AnyMachine;
  #nextLink = 2;
  #nextRequest = 1;

  constructor(build: Build, seed = 1, disk = new Disk()) {
    this.#rng = seededRng(seed);
    this.disk = disk;
    this.#build = build;
    this.#machine = this.#fresh();
  }

  #fresh(): AnyMachine {
    const rng = seededRng(this.#rng.below(1_000_000));
    const entropy = seededEntropy(seededRng(this.#rng.below(1_000_000)));
    return this.#build({ rng, entropy, sha256 }) as AnyMachine;
  }

  get machine(): unknown {
    return this.#machine;
  }

  get now(): Now {
    return { monoMs: this.monoMs, wallUs: 1_700_000_000_000_000 + this.monoMs * 1_000 };
  }

  start(): this {
    this.command({ type: "start" });
    this.settle();
    return this;
  }

  command(command: { readonly type: string; readonly [name: string]: unknown }): void {
    this.input({ kind: "command", command: command as never });
    this.settle();
  }

  input(input: Input<never>): void {
    this.#machine.handle(input, this.now);
    for (let output = this.#machine.poll(); output !== undefined; output = this.#machine.poll()) {
      this.#take(output);
    }
    expect(this.#machine.deadlineMs).toBeGreaterThan(Number.NEGATIVE_INFINITY);
  }

  #take(output: Output<{ readonly type: string }>): void {
    switch (output.kind) {
      case "transmit":
        this.sent.push(output);
        break;
      case "event":
        this.events.push(output.event as never);
        break;
      case "open": {
        const { linkId, address } = output;
        const { transport, host, port } = address;
        if (transport === "tcp") this.dialled.push({ linkId, host, port });
        else this.opened.push({ linkId, port });
        break;
      }
      case "close":
        this.closed.push(output.linkId);
        break;
      case "job": {
        const { jobId, job } = output;
        if (job.kind !== "verifySignature") throw new Error(`unexpected job ${job.kind}`);
        const { publicKey, bytes, signature } = job;
        this.#work.push({
          kind: "job",
          run: () => ({
            kind: "jobDone",
            jobId,
            result: { kind: "verifySignature", valid: verifies(publicKey, bytes, signature) },
          }),
        });
        break;
      }
      case "store": {
        const { opId, operation } = output;
        this.#work.push({
          kind: "store",
          run: () => ({ kind: "storeDone", opId, result: this.disk.apply(operation) }),
        });
        break;
      }
    }
  }

  /** Finishes one pending job or store operation, drawn at random; false when there is none. */
  finishOne(kind?: "job" | "store"): boolean {
    const ready = this.#work.filter((work) => kind === undefined || work.kind === kind);
    const work = ready[this.#rng.below(Math.max(1, ready.length))];
    if (work === undefined) return false;
    this.#work.splice(this.#work.indexOf(work), 1);
    this.input(work.run());
    return true;
  }

  /** Finishes everything pending, unless held. */
  settle(): void {
    while (!this.hold && this.finishOne()) this.monoMs += this.#rng.next();
  }

  /** Time passes; the machine is called at each of its deadlines. */
  advance(ms: number): void {
    const endMs = this.monoMs + ms;
    for (let steps = 0; this.#machine.deadlineMs <= endMs; steps++) {
      expect(steps).toBeLessThan(10_000);
      this.monoMs = Math.max(this.monoMs, this.#machine.deadlineMs);
      this.input({ kind: "timeout" });
      this.settle();
    }
    this.monoMs = Math.max(this.monoMs, endMs);
    this.input({ kind: "timeout" });
    this.settle();
  }

  /** Kill and restart. Of the pending store operations a random part reached the disk unheard. */
  crash(): void {
    for (const work of this.#work) {
      if (work.kind === "store" && this.#rng.below(2) === 0) work.run();
    }
    this.#work.length = 0;
    this.hold = false;
    this.monoMs = this.#rng.below(1_000_000);
    this.#machine = this.#fresh();
    this.start();
  }

  link(host = "198.51.100.9"): number {
    const linkId = this.#nextLink;
    this.#nextLink += 2;
    const remote = { transport: "ws", host, port: 5_000 } as const;
    this.input({ kind: "linkUp", linkId, direction: "inbound", remote });
    return linkId;
  }

  linkUp(linkId: number): void {
    const remote = { transport: "ws", host: "198.51.100.1", port: 7_900 } as const;
    this.input({ kind: "linkUp", linkId, direction: "outbound", remote });
  }

  linkDown(linkId: number): void {
    this.input({ kind: "linkDown", linkId, code: "LINK_RESET", detail: "" });
  }

  /** Hands in one message, somewhere within a larger memory that is scribbled over afterwards. */
  frame(linkId: number, bytes: Uint8Array): void {
    const memory = new Uint8Array(bytes.length + 40).fill(0xee);
    memory.set(bytes, 20);
    const ranges = Uint32Array.of(20, bytes.length);
    this.input({ kind: "frames", linkId, memory, ranges, count: 1 });
    memory.fill(0xdd);
  }

  /** Sends a request and gives its id; the reply is found by `replyTo`. */
  send<Q extends Fields, A extends Fields>(
    linkId: number,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
  ): number {
    const requestId = this.#nextRequest++;
    this.frame(linkId, encodeRequest(operation, requestId, request));
    return requestId;
  }

  /** The raw reply to a request, read by independent code: [type, request id, ...fields]. */
  rawReply(linkId: number, requestId: number): MsgpackValue[] | undefined {
    for (const { linkId: at, bytes } of this.sent) {
      if (at !== linkId) continue;
      const message = readMsgpack(bytes) as MsgpackValue[];
      if (message[1] === requestId && (message[0] as number) >= 0x80) {
        return message;
      }
    }
    return undefined;
  }

  replyTo<Q extends Fields, A extends Fields>(
    linkId: number,
    requestId: number,
    operation: Operation<Q, A>,
  ): Reply<A> | undefined {
    for (const { linkId: at, bytes } of this.sent) {
      if (at !== linkId) continue;
      const envelope = readEnvelope(bytes, 0, bytes.length);
      if (envelope.requestId !== requestId || envelope.kind === "request") continue;
      return envelope.kind === "failure"
        ? { ok: false, failure: FAILURE.fromPositions(envelope.positions) }
        : { ok: true, answer: operation.answer.fromPositions(envelope.positions) };
    }
    return undefined;
  }

  /** Sends a request, lets everything finish, and gives the reply. */
  request<Q extends Fields, A extends Fields>(
    linkId: number,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
  ): Reply<A> {
    const requestId = this.send(linkId, operation, request);
    this.settle();
    const reply = this.replyTo(linkId, requestId, operation);
    if (reply === undefined) throw new Error(`no reply to ${operation.name}`);
    return reply;
  }

  /** As request, and it must succeed. */
  ask<Q extends Fields, A extends Fields>(
    linkId: number,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
  ): MessageOf<A> {
    const reply = this.request(linkId, operation, request);
    if (!reply.ok) throw new Error(`${operation.name}: ${reply.failure.code}`);
    return reply.answer;
  }

  /** As request, and it must fail; gives the code. */
  refusal<Q extends Fields, A extends Fields>(
    linkId: number,
    operation: Operation<Q, A>,
    request: InputOf<Q>,
  ): Failure {
    const reply = this.request(linkId, operation, request);
    if (reply.ok) throw new Error(`${operation.name} succeeded`);
    return reply.failure;
  }

  /** The snapshot event. */
  snapshot<S>(): S {
    this.command({ type: "snapshot", token: 7 });
    const event = this.events.findLast((entry) => entry.type === "snapshot");
    expect(event).toMatchObject({ token: 7 });
    return event?.snapshot as S;
  }

  /** Requests that this server made on a link: raw messages. */
  asked(linkId: number, type: number): MsgpackValue[][] {
    return this.sent
      .filter((entry) => entry.linkId === linkId)
      .map((entry) => readMsgpack(entry.bytes) as MsgpackValue[])
      .filter((message) => message[0] === type);
  }
}
