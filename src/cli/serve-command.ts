/** `mp2p serve`: its options and help. */

import { type Command, Option } from "commander";
import { type CommonOptions, finish, MS_MAX, newCommand, type Run } from "./command-kit.ts";
import { integer, serverUrl, word, wordsOf } from "./values.ts";

export const ROLES = ["oms", "pams", "ixs"] as const;
export type ServerRole = (typeof ROLES)[number];
export const SERVE_PORT = 7900;
const REPORT_MS_MIN = 100;
const REPORT_MS_DEFAULT = 10_000;

export interface ServeOptions extends CommonOptions {
  readonly roles: readonly ServerRole[];
  readonly host: string;
  readonly port: number;
  readonly adminPort?: number;
  readonly dataDir: string;
  readonly memory: boolean;
  readonly reportIntervalMs: number;
  readonly pams?: string;
  readonly serviceKeyFile?: string;
}

const HELP = `
Roles: oms manages overlays, ixs the index files by which peers find them, pams their status.

Examples:
  mp2p serve
  mp2p serve --host 0.0.0.0 --port 7900 --data-dir /var/lib/mp2p --admin-port 7901
  mp2p serve --roles ixs --port 7902 --memory
  mp2p serve --roles oms --pams ws://10.0.0.2:7900 --service-key-file pams-service.key

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
      new Option("--host <host>", "address to listen on").argParser(word).default("127.0.0.1"),
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
    .option("--memory", "keep everything in memory: a restart forgets all sessions", false);
  command.addOption(
    new Option("--report-interval-ms <n>", "how often peers report their status (R1.b)")
      .argParser(integer(REPORT_MS_MIN, MS_MAX))
      .default(REPORT_MS_DEFAULT),
  );
  command.option("--pams <url>", "PAMS of another process, for the role oms", serverUrl);
  command.option(
    "--service-key-file <file>",
    "key shared by OMS and PAMS when they run apart (default service.key in the data directory)",
    word,
  );
  return finish(command, run, HELP);
}
