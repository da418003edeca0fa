/**
 * A data source for tests, written from docs/protocol.md (R11) and independent of src/: sockets, a
 * msgpack writer and reader of the tests' own, frames by hand.
 */

import { once } from "node:events";
import net from "node:net";
import { WebSocket } from "ws";
import { type MsgpackValue, readMsgpack } from "./msgpack-reader.ts";
import { type MsgpackInput, writeMsgpack } from "./msgpack-writer.ts";

export const R11 = {
  ERROR: 0x10,
  PING: 0x11,
  PONG: 0x12,
  REGISTER: 0x20,
  REGISTERED: 0x21,
  DATUM: 0x22,
  ACCEPTED: 0x23,
  HELD: 0x24,
  TERMINATE: 0x25,
} as const;

export function frameOf(type: number, body: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(8 + body.length, 0);
  head.set([0xb6, 1, type, 0], 4);
  return Buffer.concat([head, body]);
}

export interface RawDatum {
  readonly payload: Uint8Array;
  readonly deltaUs?: number;
}

export function datumFrame(
  first: number,
  data: readonly RawDatum[],
  { baseUs = 0, total = 0, offset = 0, reserved = 0, count = data.length } = {},
): Buffer {
  const head = Buffer.alloc(32);
  head.writeBigUInt64LE(BigInt(first), 0);
  head.writeBigUInt64LE(BigInt(baseUs), 8);
  head.writeUInt32LE(count, 16);
  head.writeUInt32LE(total, 20);
  head.writeUInt32LE(offset, 24);
  head.writeUInt32LE(reserved, 28);
  const table = Buffer.alloc(8 * data.length);
  data.forEach(({ payload, deltaUs = 0 }, i) => {
    table.writeUInt32LE(payload.length, 8 * i);
    table.writeInt32LE(deltaUs, 8 * i + 4);
  });
  return frameOf(R11.DATUM, Buffer.concat([head, table, ...data.map(({ payload }) => payload)]));
}

export interface RawFrame {
  readonly type: number;
  readonly fields: MsgpackValue[];
  readonly bytes: Buffer;
}

/** A link to a source peer, over TCP or WebSocket. */
export class RawDataSource {
  readonly frames: RawFrame[] = [];
  isClosed = false;
  readonly #write: (bytes: Uint8Array) => void;
  readonly #end: () => void;
  #pending = Buffer.alloc(0);
  #waiting: (() => void)[] = [];

  static async connect(address: {
    readonly transport: string;
    readonly host: string;
    readonly port: number;
  }): Promise<RawDataSource> {
    if (address.transport === "ws") {
      const socket = new WebSocket(`ws://${address.host}:${address.port}/`);
      await once(socket, "open");
      const link = new RawDataSource(
        (bytes) => socket.send(bytes),
        () => socket.terminate(),
      );
      socket.on("error", () => undefined);
      socket.on("message", (message: Buffer) => link.#received(message));
      socket.on("close", () => link.#closed());
      return link;
    }
    const socket = net.connect(address.port, address.host);
    await once(socket, "connect");
    const link = new RawDataSource(
      (bytes) => socket.write(bytes),
      () => socket.destroy(),
    );
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => link.#received(bytes));
    socket.on("close", () => link.#closed());
    return link;
  }

  private constructor(write: (bytes: Uint8Array) => void, end: () => void) {
    this.#write = write;
    this.#end = end;
  }

  send(bytes: Uint8Array): void {
    this.#write(bytes);
  }

  message(type: number, fields: readonly MsgpackInput[]): void {
    this.send(frameOf(type, writeMsgpack(fields)));
  }

  register(
    sourceId: string,
    {
      dataId = "",
      contentType = "text/plain",
      instance = Buffer.alloc(16, 7),
      held = 0,
      versions = [1, 1] as readonly [number, number],
    } = {},
  ): void {
    this.message(R11.REGISTER, [...versions, sourceId, dataId, contentType, instance, held]);
  }

  /** The next frame of this type that was not asked for before. */
  async next(type: number): Promise<RawFrame> {
    for (;;) {
      const at = this.frames.findIndex((frame) => frame.type === type);
      if (at >= 0) return this.frames.splice(at, 1)[0] as RawFrame;
      if (this.isClosed) throw new Error(`closed without a frame of type ${type}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Reads frames of `type` until one's first field is `value` at least. */
  async until(type: number, value: number): Promise<void> {
    for (;;) if (Number((await this.next(type)).fields[0]) >= value) return;
  }

  /** The code of the ERROR that ends the link. */
  async refusal(): Promise<string> {
    const { fields } = await this.next(R11.ERROR);
    await this.closed();
    return String(fields[0]);
  }

  async closed(): Promise<void> {
    while (!this.isClosed) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  close(): void {
    this.#end();
  }

  #received(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 8) {
      const length = this.#pending.readUInt32LE(0);
      if (this.#pending.length < length) break;
      const frame = Buffer.from(this.#pending.subarray(0, length));
      this.#pending = this.#pending.subarray(length);
      const type = frame[6] as number;
      if (type === R11.PING) {
        const pong = Buffer.from(frame);
        pong[6] = R11.PONG;
        this.send(pong);
        continue;
      }
      const fields = type === R11.PONG ? [] : (readMsgpack(frame.subarray(8)) as MsgpackValue[]);
      this.frames.push({ type, fields, bytes: frame });
    }
    this.#wake();
  }

  #closed(): void {
    this.isClosed = true;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
