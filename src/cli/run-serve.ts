/** Runs `mp2p serve`: servers until a signal. */

import path from "node:path";
import { startServers } from "../host/node-servers.ts";
import { readServiceKey } from "../host/node-service-key.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import { runContext } from "./run-kit.ts";
import type { ServeOptions } from "./serve-command.ts";

export async function runServe(options: ServeOptions): Promise<ExitCode> {
  const { reporter, signals, logger } = await runContext("serve", options);
  const { roles, host, port, adminPort, memory, pams, ixs, serviceKeyFile } = options;
  const dataDir = memory ? undefined : path.resolve(options.dataDir);
  const stopped = new Promise<undefined>((resolve) => signals.onFirst(() => resolve(undefined)));
  const starting = startServers({
    roles,
    host,
    port,
    allowPlaintext: options.allowPlaintext,
    reportIntervalMs: options.reportIntervalMs,
    refreshMs: options.refreshMs,
    virtualPeersMax: options.virtualPeersMax,
    priorityMax: options.priorityMax,
    ...(adminPort === undefined ? {} : { adminPort }),
    ...(dataDir === undefined ? {} : { dataDir }),
    ...(pams === undefined ? {} : { pamsUrl: pams }),
    ...(ixs === undefined ? {} : { ixsUrl: ixs }),
    ...(serviceKeyFile === undefined ? {} : { serviceKey: readServiceKey(serviceKeyFile) }),
    ...(logger === undefined ? {} : { logger }),
  });
  const servers = await Promise.race([starting, stopped]);
  // Nothing was promised to anybody yet: there is nothing to drain.
  if (servers === undefined) return signals.exitCode(EXIT.ok);
  const { urls, adminUrl, backend } = servers;
  const url = Object.values(urls)[0] ?? "";
  const where = dataDir ?? "memory";
  reporter.result(
    "ready",
    { urls, adminUrl, backend, dataDir: dataDir ?? null, pid: process.pid },
    `ready: ${url} (${roles.join(", ")}), admin ${adminUrl}, data in ${where}`,
  );
  if (roles.includes("oms")) {
    const absent = [
      ...(roles.includes("pams") || pams !== undefined ? [] : ["--pams, no status is collected"]),
      ...(roles.includes("ixs") || ixs !== undefined ? [] : ["--ixs, no index hears of an end"]),
    ];
    if (absent.length > 0) {
      reporter.note("absent", { absent }, `without ${absent.join("; without ")}`);
    }
  }
  await stopped;
  reporter.note("stopping", {}, "stopping; a second signal ends at once");
  await servers.close();
  return signals.exitCode(EXIT.ok);
}
