/**
 * Where servers are reached: WebSocket signalling, and the same operations over HTTP, on one port.
 * Two back ends behind one interface: uWebSockets.js where its binary fits the Node at hand, else
 * `ws` with node:http. One WebSocket message is one signalling message; nothing here reads it.
 *
 * Limits on what a client can make this process hold: connections (whatever they speak, before
 * they said anything), bytes of a message or body, bytes queued for a client that does not read,
 * the time a request may take to arrive, the silence of a client that went away.
 */

import { OperationError } from "../../base/errors.ts";
import { SIGNALLING_MESSAGE_BYTES_MAX } from "../../base/limits.ts";
import { MIB } from "../../base/units.ts";
import { startNodeBackend } from "./node-backend.ts";
import { loadUws, startUwsBackend } from "./uws-backend.ts";
import type { BackendOptions, WsServer, WsServerOptions } from "./ws-server-types.ts";

export type * from "./ws-server-types.ts";

/**
 * Rejects with OperationError ADDRESS_IN_USE, ADDRESS_UNAVAILABLE or (forced back end)
 * MODULE_MISSING.
 */
export async function startWsServer(options: WsServerOptions): Promise<WsServer> {
  const backend: BackendOptions = {
    maxConnections: 20_480,
    requestTimeoutMs: 10_000,
    maxQueuedBytes: 1 * MIB,
    maxMessageBytes: SIGNALLING_MESSAGE_BYTES_MAX,
    ...options,
  };
  if (options.backend === "ws") return startNodeBackend(backend);
  const uws = await loadUws();
  if (!(uws instanceof Error)) return startUwsBackend(uws, backend);
  if (options.backend === "uws") {
    throw new OperationError("MODULE_MISSING", { detail: "uWebSockets.js", cause: uws });
  }
  return startNodeBackend(backend);
}
