/**
 * A transport that opens no link off this machine: nothing is encrypted, and whoever did not say
 * that the network is trusted shall not find out from a packet trace. Such a link goes down with
 * PLAINTEXT_REFUSED without a packet sent.
 */

import { isLoopback } from "../base/hosts.ts";
import type { Address, LinkId } from "../base/machine.ts";
import type { Listening, Transport, TransportHandler, TransportStats } from "./transport.ts";

export class LoopbackOnly implements Transport {
  readonly #transport: Transport;
  #handler: TransportHandler | undefined;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  get name(): Transport["name"] {
    return this.#transport.name;
  }

  attach(handler: TransportHandler): void {
    this.#handler = handler;
    this.#transport.attach(handler);
  }

  listen(address: Address): Promise<Listening> {
    return this.#transport.listen(address);
  }

  open(linkId: LinkId, address: Address): void {
    if (isLoopback(address.host)) {
      this.#transport.open(linkId, address);
      return;
    }
    // Not from within open(): the machine is still being drained.
    queueMicrotask(() => this.#handler?.linkDown(linkId, "PLAINTEXT_REFUSED", address.host));
  }

  send(linkId: LinkId, bytes: Uint8Array): void {
    this.#transport.send(linkId, bytes);
  }

  close(linkId: LinkId, abort: boolean): void {
    this.#transport.close(linkId, abort);
  }

  resume(): void {
    this.#transport.resume();
  }

  stats(): TransportStats {
    return this.#transport.stats();
  }

  shutdown(): Promise<void> {
    this.#handler = undefined;
    return this.#transport.shutdown();
  }
}
