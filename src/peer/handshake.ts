/**
 * The handshake of one overlay on one link: three HELLO frames.
 *
 *     opener                                  answerer
 *     HELLO step 0: key, nonce        ->
 *                                     <-      HELLO step 1: key, nonce, signature over both
 *     HELLO step 2: signature         ->
 *     accepted                                accepted once the signature is verified
 *
 * Signing and verifying are jobs, so frames of the overlay may arrive while one is under way: they
 * are kept, bounded, until the other side is accepted. Nothing but HELLO is believed before.
 * Where both sides open the same overlay at once, the one with the lower peer id stays the opener.
 * Admission by ticket and channel binding have their places in HELLO and are empty here.
 */

import { RemoteProtocolError } from "../base/errors.ts";
import { FRAME_VERSION, FRAME_VERSION_MIN } from "../base/layout.ts";
import type { Address, JobResult } from "../base/machine.ts";
import { type MonoMs, type OverlayId, type PeerId, toHex } from "../base/units.ts";
import { NONCE_BYTES, type Role } from "../protocol/common.ts";
import { encodeFrame, HELLO, HELLO_STEPS, type Hello, helloProof } from "../protocol/r10.ts";
import type { PeerContext } from "./context.ts";
import type { PeerLink } from "./link.ts";

/** Frames kept while a signature is being verified. */
const KEPT_FRAMES_MAX = 64;
const KEPT_BYTES_MAX = 64 * 1024;
const NO_BYTES = new Uint8Array(0);

export interface HandshakeOverlay {
  readonly overlayId: OverlayId;
  readonly sessionEpoch: number;
  readonly tag: Uint8Array;
  readonly role: Role;
}

export interface HandshakeOutcome {
  accepted(handshake: Handshake): void;
  refused(handshake: Handshake, error: RemoteProtocolError): void;
}

type Stage = "awaitAnswer" | "awaitConfirm" | "working" | "accepted" | "over";

export class Handshake {
  readonly overlay: HandshakeOverlay;
  readonly link: PeerLink;
  readonly opener: boolean;
  readonly sinceMs: MonoMs;
  readonly #context: PeerContext;
  readonly #outcome: HandshakeOutcome;
  readonly #listen: readonly Address[];
  readonly #nonce: Uint8Array;
  #theirs: Hello | undefined;
  #peerIdBytes: Uint8Array = NO_BYTES;
  #stage: Stage = "awaitAnswer";
  /** Answerer: step 2 came, so the opener counts itself accepted. */
  #confirmed = false;
  #outbid = false;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;

  constructor(
    context: PeerContext,
    link: PeerLink,
    overlay: HandshakeOverlay,
    listen: readonly Address[],
    opener: boolean,
    outcome: HandshakeOutcome,
  ) {
    this.#context = context;
    this.link = link;
    this.overlay = overlay;
    this.#listen = listen;
    this.opener = opener;
    this.sinceMs = context.now.monoMs;
    this.#outcome = outcome;
    this.#nonce = context.entropy.bytes(NONCE_BYTES);
    if (opener) this.#send(HELLO_STEPS.open, NO_BYTES);
  }

  get peerId(): PeerId {
    return toHex(this.#peerIdBytes);
  }
  get role(): Role {
    return (this.#theirs as Hello).role;
  }
  /** Where the other side says it accepts links. */
  get listen(): readonly Address[] {
    return this.#theirs?.listen ?? [];
  }

  /** Whether the other side counts itself accepted: what it says of the overlay from now on holds. */
  get isConfirmed(): boolean {
    return this.#confirmed;
  }

  /**
   * Both sides opened at once: whether this one stays, its peer id being lower, and the other's HELLO
   * is let go. Once: who opens again has lost count.
   */
  outbids(hello: Hello): boolean {
    if (!this.opener || this.#stage !== "awaitAnswer" || this.#outbid) return false;
    this.#outbid = this.#context.identity.peerId < toHex(this.#context.sha256(hello.publicKey));
    return this.#outbid;
  }
  /** Whether it may still give way to one that the other side opened. */
  get mayYield(): boolean {
    return this.opener && this.#stage === "awaitAnswer" && !this.#outbid;
  }

  /** Keeps a frame of this overlay that came before the other side was accepted. */
  keep(frame: Uint8Array): void {
    if (this.#kept.length >= KEPT_FRAMES_MAX || this.#keptBytes + frame.length > KEPT_BYTES_MAX) {
      this.#refuse(new RemoteProtocolError("FRAME_UNEXPECTED", { detail: "before HELLO is done" }));
      return;
    }
    this.#kept.push(frame);
    this.#keptBytes += frame.length;
  }

  takeKept(): Uint8Array[] {
    const kept = this.#kept;
    this.#kept = [];
    return kept;
  }

  /** The link is gone or the overlay was left: results still under way are ignored. */
  abandon(): void {
    this.#stage = "over";
  }

  /** A HELLO of this overlay arrived. */
  hello(hello: Hello): void {
    if (this.#stage === "over") return;
    if (hello.versionMin > FRAME_VERSION || hello.version < FRAME_VERSION_MIN) {
      this.#refuse(
        new RemoteProtocolError("VERSION_UNSUPPORTED", {
          detail: `theirs ${hello.versionMin} to ${hello.version}, ours ${FRAME_VERSION_MIN} to ${FRAME_VERSION}`,
        }),
      );
      return;
    }
    if (hello.sessionEpoch !== this.overlay.sessionEpoch) {
      this.#refuse(
        new RemoteProtocolError("WRONG_OVERLAY", { detail: `epoch ${hello.sessionEpoch}` }),
      );
      return;
    }
    if (!this.opener && this.#theirs === undefined && hello.step === HELLO_STEPS.open) {
      if (this.#meet(hello)) this.#answer(hello);
    } else if (this.opener && this.#stage === "awaitAnswer" && hello.step === HELLO_STEPS.answer) {
      if (this.#meet(hello)) this.#verify(hello);
    } else if (
      !this.opener &&
      this.#theirs !== undefined &&
      (this.#stage === "awaitConfirm" || this.#stage === "working") &&
      hello.step === HELLO_STEPS.confirm
    ) {
      this.#confirmed = true;
      this.#verify(hello);
    } else {
      this.#refuse(
        new RemoteProtocolError("FRAME_UNEXPECTED", { detail: `HELLO step ${hello.step}` }),
      );
    }
  }

  #meet(hello: Hello): boolean {
    this.#theirs = hello;
    this.#peerIdBytes = this.#context.sha256(hello.publicKey);
    if (this.peerId === this.#context.identity.peerId) {
      this.#refuse(new RemoteProtocolError("SELF_LINK"));
      return false;
    }
    return true;
  }

  #answer(hello: Hello): void {
    this.#stage = "working";
    const proof = this.#proof(1, hello);
    this.#context.job({ kind: "sign", bytes: proof }, (result) => {
      if (this.#stage !== "working") return;
      if (result.kind !== "sign") return this.#jobFailed(result);
      this.#stage = "awaitConfirm";
      this.#send(HELLO_STEPS.answer, result.signature);
    });
  }

  #verify(hello: Hello): void {
    this.#stage = "working";
    const first = this.#theirs as Hello;
    const job = {
      kind: "verifySignature",
      publicKey: first.publicKey,
      bytes: this.#proof(this.opener ? 1 : 2, first),
      signature: hello.signature,
    } as const;
    this.#context.job(job, (result) => {
      if (this.#stage !== "working") return;
      if (result.kind !== "verifySignature") return this.#jobFailed(result);
      if (!result.valid) {
        this.#refuse(new RemoteProtocolError("IDENTITY_UNPROVEN"));
      } else if (this.opener) {
        this.#confirm(first);
      } else {
        this.#accept();
      }
    });
  }

  #confirm(hello: Hello): void {
    this.#context.job({ kind: "sign", bytes: this.#proof(2, hello) }, (result) => {
      if (this.#stage !== "working") return;
      if (result.kind !== "sign") return this.#jobFailed(result);
      this.#send(HELLO_STEPS.confirm, result.signature);
      this.#accept();
    });
  }

  #accept(): void {
    this.#stage = "accepted";
    this.#context.counters.handshakes++;
    this.#outcome.accepted(this);
  }

  #jobFailed(result: JobResult): void {
    const detail = result.kind === "error" ? result.detail : result.kind;
    this.#refuse(new RemoteProtocolError("IDENTITY_UNPROVEN", { detail }));
  }

  #refuse(error: RemoteProtocolError): void {
    if (this.#stage === "over") return;
    this.#stage = "over";
    this.#outcome.refused(this, error);
  }

  #proof(step: 1 | 2, theirs: Hello): Uint8Array {
    const identity = this.#context.identity;
    const mine = {
      overlayId: this.overlay.overlayId,
      sessionEpoch: this.overlay.sessionEpoch,
      nonce: this.#nonce,
      binding: NO_BYTES,
      peerId: identity.peerIdBytes,
    };
    const other = {
      overlayId: this.overlay.overlayId,
      sessionEpoch: theirs.sessionEpoch,
      nonce: theirs.nonce,
      binding: theirs.binding,
      peerId: this.#peerIdBytes,
    };
    return this.opener ? helloProof(step, mine, other) : helloProof(step, other, mine);
  }

  #send(step: (typeof HELLO_STEPS)[keyof typeof HELLO_STEPS], signature: Uint8Array): void {
    this.link.transmit(
      encodeFrame(HELLO, {
        step,
        versionMin: FRAME_VERSION_MIN,
        version: FRAME_VERSION,
        overlayId: this.overlay.overlayId,
        sessionEpoch: this.overlay.sessionEpoch,
        role: this.overlay.role,
        publicKey: this.#context.identity.publicKey,
        nonce: this.#nonce,
        ticket: NO_BYTES,
        binding: NO_BYTES,
        listen: [...this.#listen],
        agent: "mp2p-engine/0.1.0",
        signature,
      }),
    );
  }
}
