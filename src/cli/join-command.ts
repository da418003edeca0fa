/** `mp2p join`: its options and help. */

import { type Command, Option } from "commander";
import {
  addPeerOptions,
  addServerOptions,
  finish,
  MS_MAX,
  newCommand,
  type PeerOptions,
  type Run,
} from "./command-kit.ts";
import { integer, peerIds, word, words } from "./values.ts";

const OUTPUT_FORMATS = ["payload", "ndjson", "framed"] as const;
const STARTS = ["oldest", "live", "start"] as const;

export interface JoinOptions extends PeerOptions {
  readonly title?: string;
  readonly sourceId?: readonly string[];
  readonly dataId?: string;
  readonly out?: string;
  readonly format: (typeof OUTPUT_FORMATS)[number];
  readonly from?: (typeof STARTS)[number];
  readonly waitMs: number;
  readonly relay: boolean;
  readonly dial?: readonly string[];
  readonly onRestart: "follow" | "end";
}

const HELP = `
Formats: payload: the bytes as they are, back to back; ndjson: a line a datum, with source id,
sequence number, time and payload (base64 when it is not UTF-8); framed: u32 length + bytes.

Examples:
  mp2p join --server ws://127.0.0.1:7900 --title demo --out copy.ndjson
  mp2p join --server ws://127.0.0.1:7900 --title log --from live | grep -i error
  mp2p join --server ws://127.0.0.1:7900 --title weather --source-id wind,rain --format ndjson
  mp2p join --server ws://127.0.0.1:7900 --title demo --relay --upload-limit 20M

Exit 0 means: everything from where it started to the end was written. What was sent before that
start is told, not counted as lost. A gap after it, or a session that broke off, is exit 3. So is a
source that was killed and started over, though its new data are written, too (--on-restart).`;

export function joinCommand(run: Run<JoinOptions>): Command {
  const command = newCommand(
    "join",
    "receive a session and relay it to others",
    "Joins the session of a title, writes its data, and passes fragments on to other peers.",
  );
  addServerOptions(command)
    .option("--title <text>", "name of the session", word)
    .option("--source-id <id,..>", "write only data of these data sources", words)
    .option("--data-id <id>", "data id, where a title names several sessions", word)
    .option("--out <file>", "output; standard output when not given", word)
    .addOption(
      new Option("--format <name>", "how data are written")
        .choices(OUTPUT_FORMATS)
        .default("payload"),
    )
    .addOption(
      new Option(
        "--from <where>",
        "oldest: what is still held; live: what comes; start: all or fail " +
          "(default oldest, in a live session live)",
      ).choices(STARTS),
    )
    .option("--relay", "write nothing: only pass fragments on to other peers", false)
    .addOption(
      new Option("--wait-ms <n>", "how long to wait for the session to appear")
        .argParser(integer(0, MS_MAX))
        .default(60_000),
    )
    .option("--dial <peer id,..>", "link up with these members only (who dials is let in)", peerIds)
    .addOption(
      new Option(
        "--on-restart <what>",
        "when the source was killed and starts over: follow it, or end with what came",
      )
        .choices(["follow", "end"] as const)
        .default("follow"),
    );
  return finish(addPeerOptions(command), run, HELP);
}
