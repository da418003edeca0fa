/** `mp2p serve`: its options and help. */

import { type Command, Option } from "commander";
import {
  OVERLAY_VIRTUAL_PEERS_DEFAULT,
  OVERLAY_VIRTUAL_PEERS_MAX,
  PRIORITY_MAX,
} from "../base/limits.ts";
import {
  addPlaintextOption,
  type CommonOptions,
  finish,
  MS_MAX,
  newCommand,
  type Run,
} from "./command-kit.ts";
import { hostAlone, integer, serverUrl, word, wordsOf } from "./values.ts";

export const ROLES = ["oms", "pams", "ixs"] as const;
export type ServerRole = (typeof ROLES)[number];
export const SERVE_PORT = 7900;
const REPORT_MS_MIN = 100;
const REPORT_MS_DEFAULT = 10_000;
const REFRESH_MS_MIN = 1_000;
const REFRESH_MS_DEFAULT = 60_000;

export interface ServeOptions extends CommonOptions {
  readonly roles: readonly ServerRole[];
  readonly host: string;
  readonly port: number;
  readonly adminPort?: number;
  readonly dataDir: string;
  readonly memory: boolean;
  readonly reportIntervalMs: number;
  readonly refreshMs: number;
  readonly virtualPeersMax: number;
  readonly priorityMax: number;
  readonly pams?: string;
  readonly ixs?: string;
  readonly allowPlaintext: boolean;
  readonly serviceKeyFile?: string;
}

const HELP = `
Roles: oms manages overlays, ixs the index files by which peers find them, pams their status.

Examples:
  mp2p serve
  mp2p serve --host '*' --allow-plaintext --data-dir /var/lib/mp2p --admin-port 7901
  mp2p serve --host '[2001:db8::5]' --allow-plaintext
  mp2p serve --roles pams,ixs --host 10.0.0.2 --allow-plaintext
  mp2p serve --roles oms --host 10.0.0.1 --pams ws://10.0.0.2:7900 --ixs ws://10.0.0.2:7900 \\
             --service-key-file service.key --allow-plaintext

Nothing is encrypted in this version: any --host but loopback needs --allow-plaintext, and a network
that you trust. An OMS whose PAMS and IXS run apart shows them the service key that their first
start made (service.key in their data directory): copy it.

One line says the URLs when all is ready. SIGTERM stops in order. Sessions under way go on without
their servers, and are listed again when the servers are back.`;

export function serveCommand(run: Run<ServeOptions>): Command {
  const command = newCommand(
    "serve",
    "run the managing servers",
    "Runs the managing servers OMS, PAMS and IXS, all in one process or some of them.",
  )
    .addOption(
      new Option("--roles <role,..>", "which servers")
        .argParser(wordsOf(ROLES))
        .default([...ROLES], ROLES.join(",")),
    )
    .addOption(
      new Option("--host <host>", "address to listen on; * is all, IPv4 and IPv6")
        .argParser(hostAlone)
        .default("127.0.0.1"),
    )
    .addOption(
      new Option("--port <n>", "port to listen on; 0 takes a free one")
        .argParser(integer(0, 65_535))
        .default(SERVE_PORT),
    )
    .option(
      "--admin-port <n>",
      "port of /healthz, /readyz and /metrics on 127.0.0.1",
      integer(0, 65_535),
    )
    .addOption(
      new Option("--data-dir <dir>", "where overlays and index files are kept")
        .argParser(word)
        .default("mp2p-data"),
    )
    .addOption(
      new Option("--memory", "keep everything in memory: a restart forgets all sessions")
        .default(false)
        .conflicts("dataDir"),
    );
  command.addOption(
    new Option("--report-interval-ms <n>", "how often peers report their status (R1.b)")
      .argParser(integer(REPORT_MS_MIN, MS_MAX))
      .default(REPORT_MS_DEFAULT),
  );
  command.addOption(
    new Option("--refresh-ms <n>", "how long a session stands without its source (R5.c)")
      .argParser(integer(REFRESH_MS_MIN, MS_MAX))
      .default(REFRESH_MS_DEFAULT),
  );
  command.addOption(
    new Option("--virtual-peers-max <n>", "virtual peers of cache servers that one session gets")
      .argParser(integer(0, OVERLAY_VIRTUAL_PEERS_MAX))
      .default(OVERLAY_VIRTUAL_PEERS_DEFAULT),
  );
  command.addOption(
    new Option("--priority-max <n>", "highest priority that a source can give its need of them")
      .argParser(integer(0, PRIORITY_MAX))
      .default(PRIORITY_MAX),
  );
  command.option("--pams <url>", "PAMS of another process, for the role oms", serverUrl);
  command.option("--ixs <url>", "IXS of another process, told which overlays end", serverUrl);
  command.option(
    "--service-key-file <file>",
    "key that servers which run apart share (default service.key in the data directory)",
    word,
  );
  addPlaintextOption(command);
  return finish(command, run, HELP);
}
