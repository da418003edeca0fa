/** Options of startServers, what they may be, and the service key that they lead to. */

import { LocalUsageError } from "../base/errors.ts";
import { OVERLAY_VIRTUAL_PEERS_MAX, PRIORITY_MAX } from "../base/limits.ts";
import { parseAddress } from "../base/machine.ts";
import type { ServerName } from "../servers/multiplexer.ts";
import { serviceKeyFault } from "../servers/service-key.ts";
import type { WsBackend } from "../transport/ws-server/ws-server.ts";
import type { Logger } from "./engine-types.ts";
import { newServiceKey, serviceKeyOf } from "./node-service-key.ts";
import {
  bytes,
  checkOptions,
  flag,
  type Kinds,
  list,
  logger,
  oneOf,
  text,
  whole,
} from "./options.ts";
import { checkPlaintext } from "./plaintext.ts";

export const SERVER_HOST = "127.0.0.1";
const ALL_ROLES: readonly ServerName[] = ["oms", "ixs", "pams"];

export interface ServersOptions {
  /** Default: all three. */
  readonly roles?: readonly ServerName[];
  /** Default 127.0.0.1. `::` is every address of this machine, IPv4 and IPv6. */
  readonly host?: string;
  /**
   * Allows links off this machine. Nothing is encrypted in this version; without it a host other
   * than loopback is PLAINTEXT_REFUSED. Default false.
   */
  readonly allowPlaintext?: boolean;
  /** Default 7900; 0 = any. */
  readonly port?: number;
  /** Where /metrics and /stats.json are, on 127.0.0.1. Default 0 = any. */
  readonly adminPort?: number;
  /** Where state is kept on disk; undefined: in memory, gone with the process. */
  readonly dataDir?: string;
  /** The PAMS of another process, for an OMS without one here. */
  readonly pamsUrl?: string;
  /** The IXS of another process, to be told by an OMS without one here which overlays ended. */
  readonly ixsUrl?: string;
  /**
   * What the OMS shows to PAMS and IXS, these ask of it, and an operator shows to all; 16 to 64
   * bytes, the same in all processes when they run apart. Default: that of the data directory, made
   * at the first start; in memory a fresh one, so that only the OMS of this process can use its
   * PAMS.
   */
  readonly serviceKey?: Uint8Array;
  readonly backend?: WsBackend;
  readonly logger?: Logger;
  /** R5.c: without a refresh within this time an overlay is removed. */
  readonly refreshMs?: number;
  readonly memberLeaseMs?: number;
  /** Virtual peers of cache servers that one overlay gets at most. Default 16. */
  readonly virtualPeersMax?: number;
  /** R8.c: the highest priority that a source peer's word is taken for; 0 to 7. Default 7. */
  readonly priorityMax?: number;
  /** R1.b, R2.b. */
  readonly reportIntervalMs?: number;
}

/** As the protocol carries them. */
const durationMs = whole(1, 0xffff_ffff);
const port = whole(0, 65_535);

const SERVERS_OPTIONS: Kinds<ServersOptions> = {
  roles: list(oneOf(...ALL_ROLES)),
  host: text,
  allowPlaintext: flag,
  port,
  adminPort: port,
  dataDir: text,
  pamsUrl: text,
  ixsUrl: text,
  serviceKey: bytes,
  backend: oneOf("uws", "ws"),
  logger,
  refreshMs: durationMs,
  memberLeaseMs: durationMs,
  virtualPeersMax: whole(0, OVERLAY_VIRTUAL_PEERS_MAX),
  priorityMax: whole(0, PRIORITY_MAX),
  reportIntervalMs: durationMs,
};

/** Throws LocalUsageError USAGE or PLAINTEXT_REFUSED. */
export function checkedOptions(options: ServersOptions): { readonly roles: readonly ServerName[] } {
  checkOptions("startServers", options, SERVERS_OPTIONS);
  const roles = options.roles ?? ALL_ROLES;
  if (roles.length === 0) throw new LocalUsageError("USAGE", { detail: "name at least one role" });
  const elsewhere = (role: "pams" | "ixs", url: string | undefined): [string, string][] => {
    if (url === undefined) return [];
    const address = parseAddress(url);
    const name = role.toUpperCase();
    if (address?.transport !== "ws") {
      throw new LocalUsageError("USAGE", { detail: `${name} URL ${url}` });
    }
    if (roles.includes(role)) {
      throw new LocalUsageError("USAGE", {
        detail: `a ${name} URL and the role ${role}: name one`,
      });
    }
    return [[`the ${name} at`, address.host]];
  };
  checkPlaintext(options.allowPlaintext, [
    ["listen on", options.host ?? SERVER_HOST],
    ...elsewhere("pams", options.pamsUrl),
    ...elsewhere("ixs", options.ixsUrl),
  ]);
  const keyFault = options.serviceKey && serviceKeyFault(options.serviceKey);
  if (keyFault !== undefined) throw new LocalUsageError("USAGE", { detail: keyFault });
  return { roles };
}

/** The service key: the one given, that of the data directory, or a fresh one. */
export function serviceKeyFor({ serviceKey, dataDir }: ServersOptions): {
  readonly serviceKey: Uint8Array;
} {
  if (serviceKey !== undefined) return { serviceKey };
  return { serviceKey: dataDir === undefined ? newServiceKey() : serviceKeyOf(dataDir) };
}
