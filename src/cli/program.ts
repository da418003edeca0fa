/**
 * The command line as a whole: commands, what happens with a wrong one, exit codes. It runs nothing
 * itself: what commands do is handed in.
 */

import { Command, CommanderError } from "commander";
import { type CacheOptions, cacheCommand } from "./cache-command.ts";
import type { Run } from "./command-kit.ts";
import {
  type DemoOptions,
  type DemoPeerOptions,
  demoCommand,
  demoPeerCommand,
} from "./demo-command.ts";
import { EXIT, type ExitCode, exitCodeOf } from "./exit.ts";
import { type FeedOptions, feedCommand } from "./feed-command.ts";
import { type JoinOptions, joinCommand } from "./join-command.ts";
import { type KeyOptions, keyCommand } from "./key-command.ts";
import { jsonLine, Reporter, type TextStream } from "./reporter.ts";
import { type ServeOptions, serveCommand } from "./serve-command.ts";
import { type SimOptions, simCommand } from "./sim-command.ts";
import { type SourceOptions, sourceCommand } from "./source-command.ts";
import { type StatusCommandOptions, statusCommand } from "./status-command.ts";

export interface Actions {
  readonly serve: Run<ServeOptions>;
  readonly source: Run<SourceOptions>;
  readonly feed: Run<FeedOptions>;
  readonly join: Run<JoinOptions>;
  readonly cache: Run<CacheOptions>;
  readonly demo: Run<DemoOptions>;
  readonly demoPeer: Run<DemoPeerOptions>;
  readonly key: Run<KeyOptions>;
  readonly sim: Run<SimOptions>;
  readonly status: Run<StatusCommandOptions>;
}

const HELP = `
First steps, each in a terminal of its own:
  mp2p serve
  mp2p join --server ws://127.0.0.1:7900 --title hello
  echo "hello, peers" | mp2p source --server ws://127.0.0.1:7900 --title hello

Or all at once, on real measurements: mp2p demo
Every command has --help with examples.`;

/** Who names a file like an argument of cat gets the flag for it. */
function inputHint(error: string): string {
  const takesInput = /too many arguments for '(source|feed)'/.test(error);
  return takesInput ? "(The input is standard input, or a file: --file NAME)\n" : "";
}

/** Runs one command line; `args` without node and script. Never throws. */
export async function runProgram(
  args: readonly string[],
  actions: Actions,
  { version, out, error }: { version: string; out: TextStream; error: TextStream },
): Promise<ExitCode> {
  const json = args.includes("--json");
  const program = new Command("mp2p")
    .description("Managed peer-to-peer data streaming after ITU-T X.609.10.")
    .version(version, "--version", "version of this program")
    .helpOption("-h, --help", "help, also of each command")
    .addHelpText("after", HELP)
    .showSuggestionAfterError()
    .addCommand(serveCommand(actions.serve))
    .addCommand(sourceCommand(actions.source))
    .addCommand(feedCommand(actions.feed))
    .addCommand(joinCommand(actions.join))
    .addCommand(cacheCommand(actions.cache))
    .addCommand(demoCommand(actions.demo))
    .addCommand(simCommand(actions.sim))
    .addCommand(statusCommand(actions.status))
    .addCommand(keyCommand(actions.key))
    .addCommand(demoPeerCommand(actions.demoPeer), { hidden: true });
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => {
        out.write(text);
      },
      writeErr: (text) => {
        if (!json) error.write(text);
      },
      outputError: (text, write) => write(`mp2p: ${text}${inputHint(text)}`),
    });
  }
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (fault) {
    if (fault instanceof CommanderError) {
      if (fault.exitCode === 0) return EXIT.ok;
      if (json) {
        const message = fault.message.replace(/^error: /, "");
        error.write(jsonLine("error", { code: "USAGE", message }));
      }
      return EXIT.usage;
    }
    const command = program.args[0] ?? "";
    new Reporter({ command, json, quiet: false }, out, error).error(fault);
    return exitCodeOf(fault);
  }
  return program.getOptionValue("exitCode") as ExitCode;
}
