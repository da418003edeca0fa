/** Numbers of a server process for Prometheus. */

import { collectDefaultMetrics, Gauge, type Registry } from "prom-client";
import type { WsServerStats } from "../transport/ws-server/ws-server.ts";

export interface MetricsInput {
  isReady(): boolean;
  signalling(): WsServerStats | undefined;
  httpOverloaded(): number;
  /** Name and snapshot of each role. */
  snapshots(): Promise<readonly (readonly [string, unknown])[]>;
}

export function registerMetrics(registry: Registry, input: MetricsInput): void {
  collectDefaultMetrics({ register: registry, prefix: "mp2p_" });
  const gauge = (name: string, help: string, read: () => number): void => {
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        this.set(read());
      },
    });
  };
  gauge("mp2p_ready", "1 when every role serves", () => Number(input.isReady()));
  gauge("mp2p_signalling_links", "WebSocket links", () => input.signalling()?.links ?? 0);
  gauge(
    "mp2p_signalling_refused",
    "connections turned away",
    () => input.signalling()?.refused ?? 0,
  );
  gauge("mp2p_http_requests", "HTTP requests", () => input.signalling()?.httpRequests ?? 0);
  gauge("mp2p_http_overloaded", "HTTP requests refused because their host asks too often", () =>
    input.httpOverloaded(),
  );
  const counters = new Gauge({
    name: "mp2p_server_count",
    help: "counters of each server role",
    labelNames: ["role", "counter"],
    registers: [registry],
    collect: async () => {
      for (const [role, snapshot] of await input.snapshots()) {
        const { counters: counts = {} } = snapshot as { counters?: Record<string, number> };
        for (const [counter, value] of Object.entries(counts))
          counters.set({ role, counter }, value);
      }
    },
  });
}
