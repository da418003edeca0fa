/**
 * All sessions of one peer machine, and the signalling links they share: one per server address.
 */

import type { ErrorCode } from "../../base/errors.ts";
import { LocalUsageError } from "../../base/errors.ts";
import { type Address, type Frames, formatAddress, type LinkId } from "../../base/machine.ts";
import type { MonoMs, OverlayId } from "../../base/units.ts";
import { STATUS } from "../../protocol/r2.ts";
import type { PeerCommand, PeerEvent } from "../commands.ts";
import type { PeerContext } from "../context.ts";
import type { Overlay } from "../overlay.ts";
import { JoiningSession } from "./join-session.ts";
import { type Answer, answerWith, ServerClient } from "./server-client.ts";
import type { SessionBase } from "./session-base.ts";
import type { SessionCommand } from "./session-types.ts";
import { SourceSession } from "./source-session.ts";

export interface SessionsOutlet {
  openLink(address: Address): LinkId;
  transmit(linkId: LinkId, bytes: Uint8Array): void;
  closeLink(linkId: LinkId): void;
  command(command: PeerCommand): void;
  overlay(overlayId: OverlayId): Overlay | undefined;
  event(event: PeerEvent): void;
  listen(): readonly Address[];
}

export class Sessions {
  readonly #context: PeerContext;
  readonly #outlet: SessionsOutlet;
  readonly #clients = new Map<string, ServerClient>();
  readonly #byLink = new Map<LinkId, ServerClient>();
  readonly #sessions = new Map<number, SessionBase>();
  /** Overlay events wait for the end of the input: sessions answer them with commands. */
  readonly #events: PeerEvent[] = [];

  constructor(context: PeerContext, outlet: SessionsOutlet) {
    this.#context = context;
    this.#outlet = outlet;
  }

  get deadlineMs(): MonoMs {
    let earliest = Number.POSITIVE_INFINITY;
    for (const session of this.#sessions.values()) {
      earliest = Math.min(earliest, session.deadlineMs);
    }
    for (const client of this.#clients.values()) earliest = Math.min(earliest, client.deadlineMs);
    return earliest;
  }

  command(command: SessionCommand): void {
    this.#setTime();
    if (command.kind === "leaveSession") {
      this.#sessions.get(command.sessionId)?.leave();
      return;
    }
    if (command.kind === "addDataSource") {
      const session = this.#sessions.get(command.sessionId);
      if (session instanceof SourceSession) session.add(command.dataSource);
      return;
    }
    if (command.kind === "removeDataSource") {
      const session = this.#sessions.get(command.sessionId);
      if (session instanceof SourceSession) session.remove(command.sourceId);
      return;
    }
    if (this.#sessions.has(command.sessionId)) {
      throw new LocalUsageError("USAGE", { detail: `session ${command.sessionId} exists` });
    }
    const outlet = {
      client: (address: Address) => this.#client(address),
      command: (next: PeerCommand) => this.#outlet.command(next),
      overlay: (overlayId: OverlayId) => this.#outlet.overlay(overlayId),
      event: (event: PeerEvent) => this.#outlet.event(event),
      listen: () => this.#outlet.listen(),
      closed: (session: SessionBase) => this.#closed(session),
      sessions: () => this.#sessions.values(),
    };
    const session =
      command.kind === "createSession"
        ? new SourceSession(this.#context, outlet, command)
        : new JoiningSession(this.#context, outlet, command);
    this.#sessions.set(command.sessionId, session);
    session.start();
  }

  /** An event of the peer machine: overlays' are told to their sessions once the input is done. */
  observe(event: PeerEvent): void {
    if ("overlayId" in event && event.overlayId !== undefined) this.#events.push(event);
  }

  /** At the end of each input. */
  settle(): void {
    this.#setTime();
    if (this.#events.length === 0 && this.deadlineMs > this.#context.now.monoMs) return;
    for (const client of this.#clients.values()) client.expire();
    for (const session of [...this.#sessions.values()]) session.runTimers();
    while (this.#events.length > 0) {
      const event = this.#events.shift() as PeerEvent;
      if (!("overlayId" in event)) continue;
      for (const session of [...this.#sessions.values()]) {
        if (session.overlayId === event.overlayId) session.observe(event);
      }
    }
  }

  /** Whether the link is one of ours. */
  linkUp(linkId: LinkId): boolean {
    const client = this.#byLink.get(linkId);
    if (client === undefined) return false;
    this.#setTime();
    client.linkUp();
    return true;
  }

  linkDown(linkId: LinkId, code: ErrorCode, detail: string): boolean {
    const client = this.#byLink.get(linkId);
    if (client === undefined) return false;
    this.#byLink.delete(linkId);
    this.#setTime();
    if (client.linkId !== linkId) return true;
    client.linkDown(code, detail);
    for (const session of [...this.#sessions.values()]) session.serverLost(client.address);
    return true;
  }

  frames(input: Frames): boolean {
    const client = this.#byLink.get(input.linkId);
    if (client === undefined) return false;
    this.#setTime();
    if (client.linkId === input.linkId) client.frames(input);
    return true;
  }

  #setTime(): void {
    for (const client of this.#clients.values()) client.setTime(this.#context.now.monoMs);
  }

  #client(address: Address): ServerClient {
    const key = formatAddress(address);
    let client = this.#clients.get(key);
    if (client === undefined) {
      client = new ServerClient(
        address,
        {
          openLink: (to) => {
            const linkId = this.#outlet.openLink(to);
            this.#byLink.set(linkId, this.#clients.get(key) as ServerClient);
            return linkId;
          },
          transmit: (linkId, bytes) => this.#outlet.transmit(linkId, bytes),
          closeLink: (linkId) => this.#outlet.closeLink(linkId),
        },
        (type, positions) => this.#asked(type, positions),
      );
      this.#clients.set(key, client);
      client.setTime(this.#context.now.monoMs);
    }
    return client;
  }

  /** R2.e: the PAMS asks for a status at any time. */
  #asked(type: number, positions: readonly unknown[]): Answer | undefined {
    if (type !== STATUS.type) return undefined;
    const { overlayId, peerId } = STATUS.request.fromPositions(positions);
    if (peerId !== this.#context.identity.peerId) return undefined;
    for (const session of this.#sessions.values()) {
      const status = session.overlayId === overlayId ? session.status() : undefined;
      if (status !== undefined) return answerWith(STATUS, status);
    }
    return undefined;
  }

  #closed(session: SessionBase): void {
    this.#sessions.delete(session.sessionId);
    if (this.#sessions.size > 0) return;
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}
