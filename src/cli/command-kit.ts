/** What all commands share: common options, environment names, configuration, help with examples. */

import { Command, Option } from "commander";
import {
  LINGER_MS_DEFAULT,
  LINKS_MAX_MOST,
  MEMORY_MIB_MAX,
  MEMORY_MIB_MIN,
} from "../base/limits.ts";
import { applyConfiguration } from "./configuration.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import {
  byteRate,
  type HostPort,
  hostPort,
  hostPorts,
  integer,
  serverUrl,
  word,
} from "./values.ts";

export const LOG_LEVELS = ["silent", "error", "warn", "info", "debug"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface CommonOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly logLevel: LogLevel;
  readonly config?: string;
}

/** Options of commands that run an engine. */
export interface PeerOptions extends CommonOptions {
  readonly server?: string;
  readonly oms?: string;
  readonly ixs?: string;
  readonly listen: HostPort;
  readonly advertise?: readonly HostPort[];
  readonly maxLinks?: number;
  readonly uploadLimit?: number;
  readonly downloadLimit?: number;
  readonly memoryMib?: number;
  readonly workers: number;
  readonly identity?: string;
  readonly lingerMs?: number;
  readonly stallMs?: number;
  readonly allowPlaintext: boolean;
}

export const WORKERS_MAX = 64;
export const MS_MAX = 0x7fff_ffff;

const EXIT_HELP = `
Exit codes: ${EXIT.ok} done (or drained after SIGTERM), ${EXIT.failure} failure, ${EXIT.usage} wrong usage, \
${EXIT.dataLost} data missing, ${EXIT.interrupted} interrupted.
Every option can also stand in the environment as MP2P_NAME or in the file of --config;
a flag goes before the environment, the environment before the file.`;

/** What a command does with its options; the result is the exit code. */
export type Run<T> = (options: T) => Promise<ExitCode>;

/** Commander asks for an option's variable when the option is added, so it is named before. */
class EnvCommand extends Command {
  override addOption(option: Option): this {
    const flag = (option.long ?? "").replace(/^--/, "");
    option.env(`MP2P_${flag.toUpperCase().replaceAll("-", "_")}`);
    return super.addOption(option);
  }
}

/** A command with the common options, MP2P_* for each option, and its examples. */
export function newCommand(name: string, summary: string, description: string): Command {
  return new EnvCommand(name)
    .summary(summary)
    .description(description)
    .allowExcessArguments(false)
    .showHelpAfterError(`(mp2p ${name} --help shows all options, with examples)`);
}

/** Adds the common options and the help's end, and wires `run`. */
export function finish<T>(command: Command, run: Run<T>, help: string): Command {
  command
    .option("--json", "events as JSON, one object a line", false)
    .option("-q, --quiet", "no progress, only warnings and errors", false)
    .addOption(
      new Option("--log-level <level>", "JSON log on standard error")
        .choices(LOG_LEVELS)
        .default("silent"),
    )
    .option("--config <file>", "JSON file with options")
    .addHelpText("after", `\n${help.trim()}\n${EXIT_HELP}`);
  // The variable of each option follows one rule, told once: not a note at every line.
  command.configureHelp({ optionDescription: describe });
  return command.action(async () => {
    const { config } = command.opts<{ config?: string }>();
    if (config !== undefined) applyConfiguration(command, config);
    const code = await run(command.opts<T & object>());
    command.parent?.setOptionValue("exitCode", code);
  });
}

function describe(option: Option): string {
  const extra: string[] = [];
  if (option.argChoices !== undefined) extra.push(`one of ${option.argChoices.join(", ")}`);
  const value = option.defaultValueDescription ?? option.defaultValue;
  if (value !== undefined && !option.isBoolean()) extra.push(`default ${String(value)}`);
  return extra.length === 0 ? option.description : `${option.description} (${extra.join("; ")})`;
}

/** For commands that open or accept links. */
export function addPlaintextOption(command: Command): Command {
  return command.option(
    "--allow-plaintext",
    "allow links off this machine although nothing is encrypted",
    false,
  );
}

/** Which servers, for commands that run an engine. */
export function addServerOptions(command: Command): Command {
  return command
    .option("--server <url>", "server that plays OMS, IXS and PAMS, e.g. ws://host:7900", serverUrl)
    .option("--oms <url>", "overlay management server, instead of --server", serverUrl)
    .option("--ixs <url>", "index server, instead of --server", serverUrl);
}

/** Links, memory and key, for commands that run an engine. */
export function addPeerOptions(command: Command): Command {
  return addPlaintextOption(command)
    .addOption(
      new Option("--listen <host:port>", "where other peers link up; *:PORT is all addresses")
        .argParser(hostPort)
        .default({ host: "127.0.0.1", port: 0 }, "127.0.0.1:0, any free port"),
    )
    .option("--advertise <host:port,..>", "what other peers are told to dial", hostPorts)
    .option("--max-links <n>", "linked peers at most (default 64)", integer(1, LINKS_MAX_MOST))
    .option("--upload-limit <rate>", "data sent, bytes a second: 500k, 2M, 1Mi, 2MB/s", byteRate)
    .option("--download-limit <rate>", "data received, bytes a second", byteRate)
    .option(
      "--memory-mib <n>",
      "memory for fragments, MiB (default 64)",
      integer(MEMORY_MIB_MIN, MEMORY_MIB_MAX),
    )
    .addOption(
      new Option("--workers <n>", "worker threads for large jobs")
        .argParser(integer(0, WORKERS_MAX))
        .default(0),
    )
    .option("--identity <file>", "key of this node (mp2p key makes one); else a new one", word)
    .option(
      "--linger-ms <n>",
      `how long to stay for others after the end, at most (default ${LINGER_MS_DEFAULT})`,
      integer(0, MS_MAX),
    )
    .option(
      "--stall-ms <n>",
      "complete: who holds a full window so long without getting on is left behind (default 10000)",
      integer(1, MS_MAX),
    );
}
