/**
 * Links that a server opens to the ports of peers to see who answers (dial-back): outbound only, a
 * few frames of control size each, in memory of its own. Whatever else comes ends the link.
 */

import net from "node:net";
import { FRAME_HEADER_BYTES, FRAME_LENGTH } from "../base/layout.ts";
import { CONTROL_FRAME_BYTES_MAX } from "../base/limits.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";

/** A probe is over long before: this is for a machine that forgot one. */
const LINK_MS_MAX = 10_000;

interface Probe {
  readonly socket: net.Socket;
  received: Uint8Array;
  up: boolean;
}

export class TcpProbeTransport implements Transport {
  readonly name = "tcp";
  readonly #probes = new Map<LinkId, Probe>();
  readonly #range = new Uint32Array(2);
  #handler: TransportHandler | undefined;
  #receivedBytes = 0;
  #sentBytes = 0;

  attach(handler: TransportHandler): void {
    this.#handler = handler;
  }

  listen(): Promise<Listening> {
    return Promise.reject(new Error("a probe does not listen"));
  }

  open(linkId: LinkId, address: Address): void {
    const { host, port } = address;
    const socket = net.connect({ host, port, noDelay: true });
    const probe: Probe = { socket, received: new Uint8Array(0), up: false };
    this.#probes.set(linkId, probe);
    const timer = setTimeout(() => socket.destroy(), LINK_MS_MAX);
    timer.unref();
    let detail = "";
    socket.on("error", (error) => {
      detail = error.message;
    });
    socket.once("connect", () => {
      probe.up = true;
      this.#handler?.linkUp(linkId, "outbound", address);
    });
    socket.on("data", (chunk) => this.#data(linkId, probe, chunk));
    socket.once("close", () => {
      clearTimeout(timer);
      this.#probes.delete(linkId);
      this.#handler?.linkDown(linkId, probe.up ? "LINK_CLOSED" : "UNREACHABLE", detail);
    });
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    const probe = this.#probes.get(linkId);
    if (probe === undefined || !probe.up) return;
    probe.socket.write(bytes);
    this.#sentBytes += bytes.length;
  }

  /** Nothing that was sent is worth waiting for. */
  close(linkId: LinkId): void {
    this.#probes.get(linkId)?.socket.destroy();
  }

  resume(): void {}

  stats(): TransportStats {
    return {
      links: this.#probes.size,
      accepted: 0,
      refused: 0,
      receivedBytes: this.#receivedBytes,
      sentBytes: this.#sentBytes,
      pauses: 0,
    };
  }

  async shutdown(): Promise<void> {
    this.#handler = undefined;
    const closed = [...this.#probes.values()].map(
      ({ socket }) =>
        new Promise<void>((resolve) => {
          socket.once("close", () => resolve());
          socket.destroy();
        }),
    );
    await Promise.all(closed);
  }

  #data(linkId: LinkId, probe: Probe, chunk: Uint8Array): void {
    this.#receivedBytes += chunk.length;
    if (probe.received.length + chunk.length > 2 * CONTROL_FRAME_BYTES_MAX) {
      probe.socket.destroy();
      return;
    }
    probe.received = Buffer.concat([probe.received, chunk]);
    while (probe.received.length >= FRAME_HEADER_BYTES) {
      const { received } = probe;
      const view = new DataView(received.buffer, received.byteOffset, received.length);
      const bytes = view.getUint32(FRAME_LENGTH, true);
      if (bytes < FRAME_HEADER_BYTES || bytes > CONTROL_FRAME_BYTES_MAX) {
        probe.socket.destroy();
        return;
      }
      if (received.length < bytes) return;
      probe.received = received.subarray(bytes);
      this.#range[1] = bytes;
      this.#handler?.frames(linkId, received, this.#range, 1);
    }
  }
}
