/**
 * Reads the status of overlays and peers from the servers, as an operator who shows the service key:
 * overlays of the OMS (`admin/overlays`), their peers of the PAMS (R1.d, R1.f). Plain HTTP, one
 * request after the other; keeps nothing.
 */

import { isErrorCode, OperationError } from "../base/errors.ts";
import { hostKind } from "../base/hosts.ts";
import { type Address, parseAddress } from "../base/machine.ts";
import { toHex } from "../base/units.ts";
import {
  CACHE_SERVER_ROWS_MAX,
  LIST_CACHE_SERVERS,
  LIST_OVERLAYS,
  OVERLAY_ROWS_MAX,
} from "../protocol/admin.ts";
import type { Fields, InputOf, MessageOf } from "../protocol/codec.ts";
import {
  ACTIVITIES,
  type ActivePeer,
  PEER_LIST,
  PEER_ORDERS,
  PEER_STATUS,
} from "../protocol/r1.ts";
import { REPORT_EVENTS } from "../protocol/r2.ts";
import type { AnswerOf, Operation } from "../protocol/signalling.ts";
import { checkPlaintext } from "./plaintext.ts";

const REQUEST_MS = 10_000;
/** Pages of overlays read at most: an OMS holds 1,000 overlays by default. */
const PAGES_MAX = 64;

export interface StatusOptions {
  /** `ws://host:port` of the OMS. */
  readonly oms: string;
  /** Default: the one that the OMS names. */
  readonly pams?: string;
  readonly serviceKey: Uint8Array;
  /** Peers told of each overlay; 1 to 128. */
  readonly peersMax: number;
  readonly order: keyof typeof PEER_ORDERS;
  readonly allowPlaintext: boolean;
  readonly signal?: AbortSignal;
}

export interface PeerActivity extends ActivePeer {
  /** It has said no more than that it began, if that: its figures are none. */
  readonly isNew: boolean;
}

export interface OverlayStatus {
  readonly overlay: AnswerOf<typeof LIST_OVERLAYS>["rows"][number];
  /** By what the PAMS heard last; undefined: no PAMS looks after it, or `trouble`. */
  readonly activity:
    | { readonly registered: number; readonly peers: readonly PeerActivity[] }
    | undefined;
  /** Why the PAMS told nothing. */
  readonly trouble: string | undefined;
}

export interface PeerStatusFound {
  readonly overlay: OverlayStatus["overlay"];
  readonly status: AnswerOf<typeof PEER_STATUS>;
}

export type CacheServerStatus = AnswerOf<typeof LIST_CACHE_SERVERS>["rows"][number];

export class StatusClient {
  readonly #options: StatusOptions;
  readonly #oms: Address;
  readonly #key: string;

  /** Throws LocalUsageError PLAINTEXT_REFUSED: the service key would cross the network in the clear. */
  constructor(options: StatusOptions) {
    this.#options = options;
    this.#oms = addressOf(options.oms);
    this.#key = toHex(options.serviceKey);
    this.#check(this.#oms, "the OMS at");
    if (options.pams !== undefined) this.#check(addressOf(options.pams), "the PAMS at");
  }

  /**
   * All overlays that stand, in order of their ids, each with peers in the order asked for. Throws
   * OperationError UNREACHABLE, TIMEOUT, KEY_REQUIRED and what else the OMS answers.
   */
  async overlays(): Promise<OverlayStatus[]> {
    const { rows, pams } = await this.#list();
    const found: OverlayStatus[] = [];
    for (const overlay of rows) found.push(await this.#overlay(overlay, pams));
    return found;
  }

  /** Cache servers by id; none of an OMS that does not know the operation. Throws as overlays(). */
  async cacheServers(): Promise<CacheServerStatus[]> {
    const found: CacheServerStatus[] = [];
    for (let page = 0; page < PAGES_MAX; page++) {
      const after = found.at(-1)?.cacheServerId;
      const request = { limit: CACHE_SERVER_ROWS_MAX, after };
      try {
        const { rows, more } = await this.#ask(this.#oms, LIST_CACHE_SERVERS, request);
        found.push(...rows);
        if (!more || rows.length === 0) break;
      } catch (error) {
        if (error instanceof OperationError && error.code === "MESSAGE_UNKNOWN") break;
        throw error;
      }
    }
    return found;
  }

  /** The status of one peer, which is asked for it now (R2.e), in each overlay it is in. */
  async peer(peerId: string): Promise<PeerStatusFound[]> {
    const { rows, pams } = await this.#list();
    const found: PeerStatusFound[] = [];
    for (const overlay of rows) {
      if (pams === undefined || !overlay.pams) continue;
      const request = { overlayId: overlay.overlayId, peerId, ask: true };
      try {
        found.push({ overlay, status: await this.#ask(pams, PEER_STATUS, request) });
      } catch (error) {
        const code = error instanceof OperationError ? error.code : undefined;
        if (code !== "UNKNOWN_PEER" && code !== "UNKNOWN_OVERLAY") throw error;
      }
    }
    return found;
  }

  async #list(): Promise<{ rows: OverlayStatus["overlay"][]; pams: Address | undefined }> {
    const rows: OverlayStatus["overlay"][] = [];
    let pamsUrl = "";
    for (let page = 0; page < PAGES_MAX; page++) {
      const after = rows.at(-1)?.overlayId;
      const answer = await this.#ask(this.#oms, LIST_OVERLAYS, { limit: OVERLAY_ROWS_MAX, after });
      rows.push(...answer.rows);
      pamsUrl = answer.pamsUrl;
      if (!answer.more || answer.rows.length === 0) break;
    }
    const told = this.#options.pams ?? pamsUrl;
    const pams = told === "" ? undefined : addressOf(told);
    if (pams === undefined || hostKind(pams.host) !== "wildcard") {
      if (pams !== undefined) this.#check(pams, "the PAMS at");
      return { rows, pams };
    }
    // A server that listens on every address does not know by which one it is found.
    return { rows, pams: { ...pams, host: this.#oms.host } };
  }

  async #overlay(
    overlay: OverlayStatus["overlay"],
    pams: Address | undefined,
  ): Promise<OverlayStatus> {
    if (pams === undefined || !overlay.pams) {
      return { overlay, activity: undefined, trouble: undefined };
    }
    const { peersMax: maxPeers, order } = this.#options;
    const request = {
      overlayId: overlay.overlayId,
      activity: ACTIVITIES.any,
      maxPeers,
      order: PEER_ORDERS[order],
    };
    try {
      const { peers, registered } = await this.#ask(pams, PEER_LIST, request);
      const told: PeerActivity[] = [];
      for (const peer of peers) {
        told.push({ ...peer, isNew: await this.#isNew(pams, request.overlayId, peer) });
      }
      return { overlay, activity: { peers: told, registered }, trouble: undefined };
    } catch (error) {
      // One that just began or ended is not known at the PAMS (yet); the others are.
      if (!(error instanceof OperationError)) throw error;
      return { overlay, activity: undefined, trouble: error.message };
    }
  }

  /** A list does not say which report was the latest: asked of those that it shows with nothing. */
  async #isNew(
    pams: Address,
    overlayId: string,
    { peerId, activity, links, heldEnd }: ActivePeer,
  ): Promise<boolean> {
    if (activity === ACTIVITIES.any) return true;
    if (links > 0 || heldEnd > 0) return false;
    try {
      const { reports } = await this.#ask(pams, PEER_STATUS, { overlayId, peerId, ask: false });
      return reports[0]?.event === REPORT_EVENTS.started;
    } catch (error) {
      // It left meanwhile.
      if (error instanceof OperationError && error.code.startsWith("UNKNOWN_")) return false;
      throw error;
    }
  }

  #check({ host }: Address, what: string): void {
    checkPlaintext(this.#options.allowPlaintext, [[what, host]]);
  }

  async #ask<Q extends Fields, A extends Fields>(
    server: Address,
    operation: Operation<Q, A>,
    request: Omit<InputOf<Q>, "serviceKey">,
  ): Promise<MessageOf<A>> {
    const host = server.host.includes(":") ? `[${server.host}]` : server.host;
    const url = `http://${host}:${server.port}/${operation.name}`;
    const late = AbortSignal.timeout(REQUEST_MS);
    const { signal } = this.#options;
    let response: Response;
    let body: unknown;
    try {
      response = await fetch(url, {
        method: "POST",
        body: JSON.stringify({ ...request, serviceKey: this.#key }),
        signal: signal === undefined ? late : AbortSignal.any([signal, late]),
      });
      body = await response.json();
    } catch (cause) {
      if (signal?.aborted === true) throw new OperationError("ABORTED", { cause });
      const code = late.aborted ? "TIMEOUT" : "UNREACHABLE";
      throw new OperationError(code, { detail: `ws://${host}:${server.port}`, cause });
    }
    if (response.ok) return operation.answer.fromJson(body);
    const { code, detail } = body as { code?: unknown; detail?: unknown };
    const about = `${operation.name} at ws://${host}:${server.port}: ${String(detail ?? "")}`;
    throw new OperationError(isErrorCode(code) ? code : "INTERNAL", { detail: about });
  }
}

function addressOf(url: string): Address {
  const address = parseAddress(url);
  if (address?.transport === "ws") return address;
  throw new OperationError("UNREACHABLE", { detail: `${url} is no server URL` });
}
