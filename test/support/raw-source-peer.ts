/**
 * The accepting side of one data source link for tests, written from docs/protocol.md (R11) and
 * independent of src/. It says what the test has it say, and nothing of itself.
 */

import { once } from "node:events";
import net from "node:net";
import { type MsgpackInput, writeMsgpack } from "./msgpack-writer.ts";
import { frameOf } from "./raw-data-source.ts";

export class RawSourcePeer {
  readonly port: number;
  readonly #server: net.Server;
  readonly #frames: Buffer[] = [];
  #socket: net.Socket | undefined;
  #pending = Buffer.alloc(0);
  #waiting: (() => void)[] = [];
  #isClosed = false;

  static async listen(): Promise<RawSourcePeer> {
    const server = net.createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new RawSourcePeer(server);
  }

  private constructor(server: net.Server) {
    this.#server = server;
    this.port = (server.address() as net.AddressInfo).port;
    server.once("connection", (socket) => {
      this.#socket = socket;
      socket.on("error", () => undefined);
      socket.on("data", (bytes: Buffer) => this.#received(bytes));
      socket.on("close", () => {
        this.#isClosed = true;
        this.#wake();
      });
    });
  }

  send(type: number, body: Uint8Array): void {
    this.#socket?.write(frameOf(type, body));
  }

  message(type: number, fields: readonly MsgpackInput[]): void {
    this.send(type, writeMsgpack(fields));
  }

  /** The body of the next frame, which must be of this type. */
  async next(type: number): Promise<Buffer> {
    while (this.#frames.length === 0) {
      if (this.#isClosed) throw new Error(`closed without a frame of type ${type}`);
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    const frame = this.#frames.shift() as Buffer;
    if (frame[6] !== type) throw new Error(`type ${frame[6]} came, not ${type}`);
    return frame.subarray(8);
  }

  close(): void {
    this.#socket?.destroy();
    this.#server.close();
  }

  #received(bytes: Buffer): void {
    this.#pending = Buffer.concat([this.#pending, bytes]);
    while (this.#pending.length >= 8 && this.#pending.length >= this.#pending.readUInt32LE(0)) {
      const length = this.#pending.readUInt32LE(0);
      this.#frames.push(Buffer.from(this.#pending.subarray(0, length)));
      this.#pending = this.#pending.subarray(length);
    }
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
