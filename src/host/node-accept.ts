/** Looks whether data sources can be accepted where they shall be, before a session begins for it. */

import { HeapArena } from "../transport/heap-arena.ts";
import { TcpTransport } from "../transport/tcp.ts";
import { LISTEN_HOST } from "./plaintext.ts";

/**
 * Listens at each port for a moment. A source peer that is started twice by mistake would take its
 * own session over first, and end it when it finds the port in use. Errors: ADDRESS_IN_USE,
 * ADDRESS_UNAVAILABLE.
 */
export async function assertFree(
  listen: readonly { readonly host?: string; readonly port?: number }[],
): Promise<void> {
  const transport = new TcpTransport(new HeapArena(1));
  try {
    for (const { host = LISTEN_HOST, port = 0 } of listen) {
      // WebSocket goes over TCP.
      if (port !== 0) await (await transport.listen({ transport: "tcp", host, port })).close();
    }
  } finally {
    await transport.shutdown();
  }
}
