/** `mp2p key`: makes the key of a node. */

import type { Command } from "commander";
import { type CommonOptions, finish, newCommand, type Run } from "./command-kit.ts";

export interface KeyOptions extends CommonOptions {
  readonly file: string;
}

const HELP = `
Examples:
  mp2p key relay.key
  mp2p join --identity relay.key --server ws://127.0.0.1:7900 --title demo --out copy

The file holds the secret and is readable by its owner only. An existing file is never replaced.`;

export function keyCommand(run: Run<KeyOptions>): Command {
  const command = newCommand(
    "key",
    "make the key of a node",
    "Makes a key for --identity, so that a node keeps its peer id over restarts.",
  ).argument("<file>", "file to create");
  return finish<CommonOptions>(
    command,
    (options) => run({ ...options, file: command.args[0] ?? "" }),
    HELP,
  );
}
