/** `mp2p feed`: its options and help. */

import { type Command, Option } from "commander";
import {
  addPlaintextOption,
  type CommonOptions,
  finish,
  MS_MAX,
  newCommand,
  type Run,
} from "./command-kit.ts";
import { feedTarget, integer, positive, word } from "./values.ts";

const INPUT_FORMATS = ["lines", "ndjson", "csv", "raw", "framed"] as const;
const KEEP_MIB_MAX = 4_096;

export interface FeedOptions extends CommonOptions {
  readonly to?: string;
  readonly sourceId?: string;
  readonly dataId?: string;
  readonly file?: string;
  readonly format: (typeof INPUT_FORMATS)[number];
  readonly append: boolean;
  readonly endSession: boolean;
  readonly keepOpen: boolean;
  readonly rate?: number;
  readonly keepMib: number;
  readonly waitMs: number;
  readonly allowPlaintext: boolean;
}

const HELP = `
Sends an input to a source peer on another machine (mp2p source --accept), as one of its data sources.
It neither joins the session nor needs a server. Formats: as of mp2p source.

Examples:
  mp2p feed --to 127.0.0.1:7950 --source-id pump-3 --file readings.ndjson --format ndjson
  tail -F pump.log | mp2p feed --to ws://10.0.0.5:7951 --source-id pump-3 --allow-plaintext
  date | mp2p feed --to 10.0.0.5:7950 --source-id clock --keep-open --allow-plaintext

Nothing is encrypted in this version: a source peer on another machine needs --allow-plaintext, and a
network that you trust.

Every datum has a number. With --file the n-th datum of the file has number n: a feed that was killed
is started again with the same command and goes on behind what the source peer has. --append numbers
another file's data on instead; standard input is always numbered on.

The command ends when peers hold everything (in a live session: hold it, or it was let go for its
age, whoever was there), and ends the data source, so that nothing more can come of it;
--keep-open leaves it open for the next run. A lost link, or a source peer that is started
anew, is waited for (--wait-ms): what no peer is known to hold is kept here and sent again.
SIGTERM stops reading, brings what was read to the peers and leaves the data source open.`;

export function feedCommand(run: Run<FeedOptions>): Command {
  const command = newCommand(
    "feed",
    "send a file or standard input to a source peer on another machine",
    "Registers as a data source at a source peer, and sends until peers hold everything.",
  );
  command
    .option("--to <host:port>", "where the source peer accepts; ws://host:port too", feedTarget)
    .option("--source-id <id>", "id of this data source", word)
    .option("--data-id <id>", "id of the data (default: the source peer's)", word)
    .option("--file <file>", "input; - or not given: standard input", word)
    .addOption(
      new Option("--format <name>", "how the input is cut").choices(INPUT_FORMATS).default("lines"),
    )
    .option("--append", "number the file's data on, instead of skipping what was sent", false)
    .option("--end-session", "order the end of the session after the input", false)
    .option("--keep-open", "do not end the data source after the input", false)
    .option("--rate <n>", "data per second at most", positive)
    .addOption(
      new Option("--keep-mib <n>", "MiB kept until peers hold them; more waits")
        .argParser(integer(1, KEEP_MIB_MAX))
        .default(32),
    )
    .addOption(
      new Option("--wait-ms <n>", "how long to try for a link, and again when one is lost")
        .argParser(integer(0, MS_MAX))
        .default(60_000),
    );
  return finish(addPlaintextOption(command), run, HELP);
}
