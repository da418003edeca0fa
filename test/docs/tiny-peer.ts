/**
 * A peer of one link, written from docs/protocol.md alone: HELLO as the side that opens, credit,
 * PARTNER, DATA in, HAVE out. It keeps all it gets in memory, so its credit is without limit.
 */

import { once } from "node:events";
import net from "node:net";
import { type DecodedFragment, decodeFragment } from "../support/fragment-decoder.ts";
import {
  buffermapFrame,
  crc32c,
  creditFrame,
  frame,
  helloFrame,
  helloProof,
  isSigned,
  type Key,
  message,
  overlayTag,
  type RawFrame,
  rangesFrame,
  readHello,
  sha256,
  splitFrames,
  TYPES,
} from "./wire.ts";

export interface TinyPeerOptions {
  readonly host: string;
  readonly port: number;
  readonly key: Key;
  readonly nonce: Uint8Array;
  readonly overlayId: Uint8Array;
  readonly epoch: number;
  /** Whom the link must lead to, when that is known. */
  readonly expectedKey?: Uint8Array | undefined;
  /** Relays nothing: says how far it is, and never that it holds anything. */
  readonly leaf?: boolean;
}

export class TinyPeer {
  readonly tag: Buffer;
  readonly fragments = new Map<number, DecodedFragment>();
  /** All frames but DATA, as they came. */
  readonly control: RawFrame[] = [];
  readonly #options: TinyPeerOptions;
  readonly #socket: net.Socket;
  readonly #waiting = new Set<() => void>();
  #bytes: Buffer = Buffer.alloc(0);
  #failure: unknown;
  /** The lowest index that is missing. */
  #next = 0;
  closed = false;

  static async connect(options: TinyPeerOptions): Promise<TinyPeer> {
    const socket = net.connect(options.port, options.host);
    socket.setNoDelay(true);
    await once(socket, "connect");
    return new TinyPeer(options, socket);
  }

  private constructor(options: TinyPeerOptions, socket: net.Socket) {
    this.#options = options;
    this.#socket = socket;
    this.tag = overlayTag(options.overlayId, options.epoch);
    socket.on("error", () => undefined);
    socket.on("close", () => {
      this.closed = true;
      this.#wake();
    });
    socket.on("data", (bytes: Buffer) => {
      try {
        this.#bytes = splitFrames(Buffer.concat([this.#bytes, bytes]), (raw) => this.#frame(raw));
      } catch (error) {
        this.#failure = error;
        socket.destroy();
      }
      this.#wake();
    });
  }

  get remote(): { readonly host: string; readonly port: number } {
    const { host, port } = this.#options;
    return { host, port };
  }

  send(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** HELLO steps 0 to 2. Throws unless the other side proves its key. */
  async hello(): Promise<void> {
    const { key, nonce, overlayId, epoch, expectedKey } = this.#options;
    const mine = { overlayId, epoch, role: 1, publicKey: key.publicKey, nonce };
    this.send(helloFrame({ ...mine, step: 0, signature: Buffer.alloc(0) }));
    const theirs = readHello(await this.next("HELLO"));
    const answerer = { nonce: theirs.nonce, peerId: sha256(theirs.publicKey) };
    const opener = { nonce, peerId: key.peerId };
    const proof = helloProof(1, overlayId, epoch, opener, answerer);
    if (!isSigned(theirs.publicKey, proof, theirs.signature)) throw new Error("peer unproven");
    if (expectedKey !== undefined && !Buffer.from(expectedKey).equals(theirs.publicKey)) {
      throw new Error("not the source peer");
    }
    const signature = key.sign(helloProof(2, overlayId, epoch, opener, answerer));
    this.send(helloFrame({ ...mine, step: 2, signature }));
  }

  /** Says that it has nothing yet, takes what credit allows, and asks for all substreams. */
  subscribe(substreams: number, creditLimit = 2 ** 32): void {
    this.send(buffermapFrame(this.tag, 0, 0, Buffer.alloc(0)));
    this.credit(creditLimit);
    this.send(message("PARTNER", [this.tag, 2 ** substreams - 1, 0]));
  }

  credit(limit: number): void {
    this.send(creditFrame(this.tag, limit));
  }

  ping(token: Uint8Array): void {
    this.send(frame("PING", token));
  }

  get(first: number, count: number): void {
    this.send(rangesFrame("GET", this.tag, 0, [[first, count]]));
  }

  /** The first control frame of this type; it is taken away. */
  async next(type: keyof typeof TYPES): Promise<RawFrame> {
    const at = (): number => this.control.findIndex((raw) => raw.type === TYPES[type]);
    await this.until(() => at() >= 0, `a frame ${type}`);
    return this.control.splice(at(), 1)[0] as RawFrame;
  }

  /** Waits for a condition, looked at whenever something came. */
  async until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.closed) throw new Error(`closed while waiting for ${what}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** The index of END, once everything up to it is there. */
  get endIndex(): number | undefined {
    for (const fragment of this.fragments.values()) {
      if (fragment.isEnd && this.fragments.size > fragment.index) return fragment.index;
    }
    return undefined;
  }

  bye(): void {
    this.send(message("BYE", [this.tag, "", ""]));
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #frame(raw: RawFrame): void {
    if (raw.type === TYPES.PING) this.send(frame("PONG", raw.bytes.subarray(8)));
    if (raw.type === TYPES.PARTNER) {
      this.send(message("ACCEPT", [this.tag, 0, Buffer.alloc(0)]));
    }
    if (raw.type !== TYPES.DATA) {
      this.control.push(raw);
      return;
    }
    const fragment = decodeFragment(raw.bytes);
    if (fragment.checksum !== crc32c(raw.bytes.subarray(12))) throw new Error("checksum");
    if (fragment.tag !== this.tag.toString("hex")) throw new Error("tag");
    this.fragments.set(fragment.index, fragment);
    if (this.#options.leaf !== true) {
      this.send(rangesFrame("HAVE", this.tag, 0, [[fragment.index, 1]]));
      return;
    }
    while (this.fragments.has(this.#next)) this.#next++;
    this.send(rangesFrame("HAVE", this.tag, this.#next, []));
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}
