/**
 * Dial-back: the OMS opens a link to a candidate of a member and asks who is there, with the first
 * step of a HELLO (R10). Who answers with the second, signed by the member's key over both nonces,
 * is the member; then the OMS closes. Nothing else is sent, nothing is told to whoever asked but
 * whether the member can be dialled.
 *
 * It can not be turned against others: only members with a proven key are dialled back; a host
 * other than that where the OMS sees the member is dialled seldom, never at a port below 1,024, and
 * gets one frame of about 120 bytes that no service but a peer of this overlay answers. All queues
 * and rates are bounded; what finds no room stays unknown until the member refreshes.
 */

import { Deadlines } from "../base/deadlines.ts";
import { RemoteProtocolError } from "../base/errors.ts";
import { plainHost } from "../base/hosts.ts";
import { FRAME_TYPES, FRAME_VERSION, FRAME_VERSION_MIN } from "../base/layout.ts";
import type { Address, Frames, LinkId, Now } from "../base/machine.ts";
import type { Entropy, Rng } from "../base/rng.ts";
import { toHex } from "../base/units.ts";
import { NONCE_BYTES, PUBLIC_KEY_BYTES, ROLES } from "../protocol/common.ts";
import { decodeHello, encodeFrame, HELLO, HELLO_STEPS, helloProof } from "../protocol/r10.ts";
import { readFrameHeader } from "../protocol/r10-binary.ts";

/** The member opens its overlay with the answer to JOIN: it is given time for that. */
const FIRST_MS = 300;
/** A member may be slow, or its router: tried again after these. */
const AGAIN_MS = [2_000, 8_000] as const;
/** To connect, answer and be checked. */
const ANSWER_MS = 3_000;
const AT_ONCE_MAX = 16;
const QUEUE_MAX = 1_000;
/** Hosts whose rate is remembered; the oldest are forgotten first. */
const HOSTS_MAX = 10_000;
/** Dials of one host: where the member is seen, and anywhere else. */
const OWN_RATE = { burst: 64, perSecond: 2 } as const;
const FOREIGN_RATE = { burst: 8, perSecond: 0.1 } as const;
const PRIVILEGED_PORTS = 1_024;
/** Its links have ids from here on: a range of their own, so that a late input of one is known. */
const LINK_IDS = 0x4000_0001;
const NO_BYTES = new Uint8Array(0);

export interface DialBackTarget {
  readonly overlayId: string;
  readonly sessionEpoch: number;
  readonly peerId: string;
  readonly address: Address;
  /** Where the OMS sees the member. */
  readonly observedHost: string;
  /** Called once: whether the member's key answered there. */
  readonly done: (proven: boolean) => void;
}

export interface DialBackHost {
  readonly entropy: Entropy;
  readonly rng: Rng;
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
  open(linkId: LinkId, address: Address): void;
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  close(linkId: LinkId): void;
  verify(
    claim: {
      readonly publicKey: Uint8Array;
      readonly bytes: Uint8Array;
      readonly signature: Uint8Array;
    },
    then: (valid: boolean) => void,
  ): void;
}

interface Waiting {
  /** The latest that wants to know. */
  target: DialBackTarget;
  attempt: number;
}

interface Dial {
  readonly waiting: Waiting;
  readonly linkId: LinkId;
  readonly nonce: Uint8Array;
  readonly publicKey: Uint8Array;
  /** An answer came and its signature is being checked. */
  checking: boolean;
}

export class DialBack {
  readonly #host: DialBackHost;
  /** By the key of member and candidate. */
  readonly #waiting = new Map<string, Waiting>();
  readonly #due = new Deadlines<string>();
  readonly #dials = new Map<LinkId, Dial>();
  readonly #timeouts = new Deadlines<`${LinkId}`>();
  readonly #rates = new Map<string, { tokens: number; atMs: number }>();
  #nextLinkId = LINK_IDS;
  readonly #counts = { dialled: 0, proven: 0, failed: 0, refused: 0 };

  constructor(host: DialBackHost) {
    this.#host = host;
  }

  /** Has a candidate dialled soon; of those who want it again the latest hears of it. */
  want(target: DialBackTarget, now: Now): void {
    const key = keyOf(target);
    const known = this.#waiting.get(key);
    if (known !== undefined) {
      known.target = target;
      return;
    }
    const isOwn = plainHost(target.address.host) === target.observedHost;
    if (this.#waiting.size >= QUEUE_MAX || (!isOwn && target.address.port < PRIVILEGED_PORTS)) {
      this.#counts.refused++;
      return;
    }
    this.#waiting.set(key, { target, attempt: 0 });
    this.#due.set(key, now.monoMs + FIRST_MS * (1 + this.#host.rng.next()));
  }

  /** The members of an overlay are of no interest any more. */
  forget(overlayId: string): void {
    for (const [key, { target }] of this.#waiting) {
      if (target.overlayId !== overlayId) continue;
      this.#waiting.delete(key);
      this.#due.clear(key);
    }
  }

  /** Since the start. */
  get counts(): Readonly<Record<"dialled" | "proven" | "failed" | "refused", number>> {
    return { ...this.#counts };
  }

  owns(linkId: LinkId): boolean {
    return linkId >= LINK_IDS && linkId % 2 === 1;
  }

  linkUp(linkId: LinkId): void {
    const dial = this.#dials.get(linkId);
    if (dial === undefined) return;
    const { overlayId, sessionEpoch } = dial.waiting.target;
    const hello = encodeFrame(HELLO, {
      step: HELLO_STEPS.open,
      versionMin: FRAME_VERSION_MIN,
      version: FRAME_VERSION,
      overlayId,
      sessionEpoch,
      role: ROLES.peer,
      // Of no key at all: this side never gets to the step in which it would have to prove one.
      publicKey: dial.publicKey,
      nonce: dial.nonce,
      ticket: NO_BYTES,
      binding: NO_BYTES,
      listen: [],
      agent: "dial-back",
      signature: NO_BYTES,
    });
    this.#host.transmit(linkId, hello);
  }

  linkDown(linkId: LinkId, now: Now): void {
    const dial = this.#dials.get(linkId);
    if (dial === undefined || dial.checking) return;
    this.#end(dial, now);
  }

  frames(input: Frames, now: Now): void {
    const dial = this.#dials.get(input.linkId);
    if (dial === undefined || dial.checking || input.count === 0) return;
    const { memory, ranges } = input;
    try {
      const [offset = 0, bytes = 0] = ranges;
      if (readFrameHeader(memory, offset, bytes) !== FRAME_TYPES.HELLO) {
        throw new RemoteProtocolError("FRAME_UNEXPECTED");
      }
      this.#answered(dial, decodeHello(memory, offset, bytes));
    } catch (error) {
      if (!(error instanceof RemoteProtocolError)) throw error;
      this.#host.close(dial.linkId);
      this.#end(dial, now);
    }
  }

  onTime(now: Now): void {
    for (const dial of [...this.#dials.values()]) {
      if (!this.#timeouts.take(`${dial.linkId}`, now.monoMs)) continue;
      this.#host.close(dial.linkId);
      this.#end(dial, now);
    }
    if (this.#due.earliestMs() > now.monoMs) return;
    for (const [key, waiting] of this.#waiting) {
      if (this.#dials.size >= AT_ONCE_MAX) return;
      if (this.#due.take(key, now.monoMs)) this.#dial(key, waiting, now);
    }
  }

  earliestMs(): number {
    // With all places taken it goes on when one of them is free.
    const due = this.#dials.size >= AT_ONCE_MAX ? Number.POSITIVE_INFINITY : this.#due.earliestMs();
    return Math.min(this.#timeouts.earliestMs(), due);
  }

  #dial(key: string, waiting: Waiting, now: Now): void {
    const { address, observedHost } = waiting.target;
    const waitMs = this.#payMs(plainHost(address.host), observedHost, now.monoMs);
    if (waitMs > 0) {
      this.#due.set(key, now.monoMs + waitMs);
      return;
    }
    const linkId = this.#nextLinkId;
    this.#nextLinkId += 2;
    this.#dials.set(linkId, {
      waiting,
      linkId,
      nonce: this.#host.entropy.bytes(NONCE_BYTES),
      publicKey: this.#host.entropy.bytes(PUBLIC_KEY_BYTES),
      checking: false,
    });
    this.#timeouts.set(`${linkId}`, now.monoMs + ANSWER_MS);
    this.#counts.dialled++;
    this.#host.open(linkId, address);
  }

  /** Takes one dial out of the host's bucket: 0, or in how many ms there is one. */
  #payMs(host: string, observedHost: string, nowMs: number): number {
    const rate = host === observedHost ? OWN_RATE : FOREIGN_RATE;
    const key = host === observedHost ? `own ${host}` : host;
    const bucket = this.#rates.get(key) ?? { tokens: rate.burst, atMs: nowMs };
    const refill = ((nowMs - bucket.atMs) / 1_000) * rate.perSecond;
    const tokens = Math.min(rate.burst, bucket.tokens + refill);
    this.#rates.delete(key);
    const [oldest] = this.#rates.size >= HOSTS_MAX ? this.#rates.keys() : [];
    if (oldest !== undefined) this.#rates.delete(oldest);
    const may = tokens >= 1;
    this.#rates.set(key, { tokens: may ? tokens - 1 : tokens, atMs: nowMs });
    return may ? 0 : Math.ceil(((1 - tokens) / rate.perSecond) * 1_000);
  }

  /** Throws RemoteProtocolError when it is no answer of the member. */
  #answered(dial: Dial, hello: ReturnType<typeof decodeHello>): void {
    const { target } = dial.waiting;
    const peerIdBytes = this.#host.sha256(hello.publicKey);
    if (
      hello.step !== HELLO_STEPS.answer ||
      hello.overlayId !== target.overlayId ||
      toHex(peerIdBytes) !== target.peerId
    ) {
      throw new RemoteProtocolError("IDENTITY_UNPROVEN");
    }
    const { overlayId, sessionEpoch } = target;
    const shared = { overlayId, sessionEpoch };
    const opener = {
      ...shared,
      nonce: dial.nonce,
      binding: NO_BYTES,
      peerId: this.#host.sha256(dial.publicKey),
    };
    const answerer = {
      ...shared,
      sessionEpoch: hello.sessionEpoch,
      nonce: hello.nonce,
      binding: hello.binding,
      peerId: peerIdBytes,
    };
    dial.checking = true;
    this.#timeouts.clear(`${dial.linkId}`);
    const { publicKey, signature } = hello;
    const claim = { publicKey, bytes: helloProof(1, opener, answerer), signature };
    this.#host.verify(claim, (valid) => {
      this.#host.close(dial.linkId);
      this.#dials.delete(dial.linkId);
      this.#settle(dial.waiting, valid);
    });
  }

  /** No answer of the member: tried again, a few times. */
  #end(dial: Dial, now: Now): void {
    const { waiting } = dial;
    this.#dials.delete(dial.linkId);
    this.#timeouts.clear(`${dial.linkId}`);
    const againMs = AGAIN_MS[waiting.attempt];
    const key = keyOf(waiting.target);
    // Forgotten meanwhile.
    if (this.#waiting.get(key) !== waiting) return;
    waiting.attempt++;
    if (againMs === undefined) this.#settle(waiting, false);
    else this.#due.set(key, now.monoMs + againMs * (1 + this.#host.rng.next()));
  }

  #settle(waiting: Waiting, proven: boolean): void {
    const key = keyOf(waiting.target);
    if (this.#waiting.get(key) !== waiting) return;
    this.#waiting.delete(key);
    this.#due.clear(key);
    if (proven) this.#counts.proven++;
    else this.#counts.failed++;
    waiting.target.done(proven);
  }
}

function keyOf({ overlayId, peerId, address }: DialBackTarget): string {
  return `${overlayId}/${peerId}/${address.host}/${address.port}`;
}
