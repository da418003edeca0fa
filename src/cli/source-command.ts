/** `mp2p source`: its options and help. */

import { type Command, Option } from "commander";
import {
  FRAGMENT_BYTES_DEFAULT,
  FRAGMENT_BYTES_MAX,
  FRAGMENT_BYTES_MIN,
  MAX_DELAY_MS_DEFAULT,
  OVERLAY_VIRTUAL_PEERS_MAX,
  PRIORITY_MAX,
  SOURCES_MAX,
} from "../base/limits.ts";
import {
  addPeerOptions,
  addServerOptions,
  finish,
  MS_MAX,
  newCommand,
  type PeerOptions,
  type Run,
} from "./command-kit.ts";
import { type AcceptAt, acceptAts, integer, positive, word } from "./values.ts";

const INPUT_FORMATS = ["lines", "ndjson", "csv", "raw", "framed"] as const;
const PEERS_MAX = 10_000;

export interface SourceOptions extends PeerOptions {
  readonly title?: string;
  readonly sourceId: string;
  readonly dataId?: string;
  readonly file?: string;
  readonly format: (typeof INPUT_FORMATS)[number];
  readonly fragmentBytes: number;
  readonly maxDelayMs: number;
  readonly delivery: "complete" | "live";
  readonly integrity: "signed" | "checksum" | "none";
  readonly waitPeers?: number;
  readonly holdMs?: number;
  readonly maxLagMs?: number;
  readonly gatherMs?: number;
  readonly lateJoinMs?: number;
  readonly virtualPeers?: number;
  readonly priority: number;
  readonly rate?: number;
  readonly waitMs: number;
  readonly accept?: readonly AcceptAt[];
  readonly end: "last" | "owner";
  readonly waitSources: number;
}

const HELP = `
Formats: lines: a datum is a line with its end; ndjson: a line that is JSON; csv: a record as JSON;
raw: bytes, cut so that each piece fills a fragment; framed: u32 length (little-endian) + bytes.

Examples:
  mp2p source --server ws://127.0.0.1:7900 --title demo --file readings.ndjson --format ndjson
  tail -f /var/log/syslog | mp2p source --server ws://127.0.0.1:7900 --title log --delivery live
  mp2p source --server ws://127.0.0.1:7900 --title copy --format raw --wait-peers 3 < image.iso
  mp2p source --server ws://127.0.0.1:7900 --title plant --allow-plaintext \\
              --accept '*:7950,ws://*:7951'

With --accept, data sources on other machines send to this source peer (mp2p feed, or a program of
yours: docs/protocol.md, R11). The session is found by its title once the first one has registered.
Standard input is then read only with --file -. --end says when the session ends: last: when every
data source has ended, --wait-sources of them at least, or one orders it (mp2p feed --end-session);
owner: at SIGTERM only. Whoever reaches the address may feed the session: off this machine it needs
--allow-plaintext, and a network that you trust.

Source id and data id name the session at the index server and belong to one key at a time. The data
id is the title unless given, so sessions of different titles never meet. After a kill without
--identity the command waits (--wait-ms) until what the lost key registered has expired.

The session ends with the input: the command waits until every peer in good standing has all.
SIGTERM stops reading and ends the session in order; SIGINT breaks it off, and peers say so.`;

export function sourceCommand(run: Run<SourceOptions>): Command {
  const command = newCommand(
    "source",
    "send a file or standard input as a data source",
    "Registers a session, cuts the input into data and sends them to every peer that joins.",
  );
  addServerOptions(command)
    .option("--title <text>", "name of the session, by which peers find it", word)
    .addOption(
      new Option("--source-id <id>", "id of the data source").argParser(word).default("source"),
    )
    .option("--data-id <id>", "id of the data (default: the title)", word)
    .option("--file <file>", "input; - or not given: standard input", word)
    .option(
      "--accept <[host:]port,..>",
      "accept data sources on other machines; ws://host:port for WebSocket",
      acceptAts,
    )
    .addOption(
      new Option(
        "--end <when>",
        "with --accept, who ends the session: its last data source, or you",
      )
        .choices(["last", "owner"] as const)
        .default("last"),
    )
    .addOption(
      new Option("--wait-sources <n>", "with --end last: data sources that must have come before")
        .argParser(integer(1, SOURCES_MAX))
        .default(1),
    )
    .addOption(
      new Option("--format <name>", "how the input is cut").choices(INPUT_FORMATS).default("lines"),
    )
    .addOption(
      new Option("--fragment-bytes <n>", "largest fragment")
        .argParser(integer(FRAGMENT_BYTES_MIN, FRAGMENT_BYTES_MAX))
        .default(FRAGMENT_BYTES_DEFAULT),
    )
    .addOption(
      new Option(
        "--max-delay-ms <n>",
        "how long a datum may wait for others to fill its fragment while the way out is busy",
      )
        .argParser(integer(0, MS_MAX))
        .default(MAX_DELAY_MS_DEFAULT),
    )
    .addOption(
      new Option("--delivery <mode>", "complete: nothing is lost, the slowest sets the pace")
        .choices(["complete", "live"] as const)
        .default("complete"),
    )
    .addOption(
      new Option("--integrity <mode>", "checksum or none; signed is not in this version")
        .choices(["checksum", "none", "signed"] as const)
        .default("checksum"),
    )
    .option(
      "--wait-peers <n>",
      "peers linked to this source before anything is let go (default 1, live 0); who is behind others does not count",
      integer(0, PEERS_MAX),
    )
    .option(
      "--max-lag-ms <n>",
      "live: what a peer lacks so long after it heard of it is dropped (default 10000)",
      integer(1, MS_MAX),
    )
    .option(
      "--hold-ms <n>",
      "complete: how long to hold the data while no peer is there (default 60000)",
      integer(0, MS_MAX),
    )
    .option(
      "--gather-ms <n>",
      "let nothing go until no new peer came for so long (default 3000, 0 with --wait-peers)",
      integer(0, MS_MAX),
    )
    .option(
      "--late-join-ms <n>",
      "after the end, stay until no peer came for so long (default 3000, live 0)",
      integer(0, MS_MAX),
    )
    .option(
      "--virtual-peers <n>",
      "virtual peers of cache servers to ask for (mp2p cache)",
      integer(0, OVERLAY_VIRTUAL_PEERS_MAX),
    )
    .addOption(
      new Option("--priority <n>", "with --virtual-peers, whose need goes first where they are few")
        .argParser(integer(0, PRIORITY_MAX))
        .default(0),
    )
    .option("--rate <n>", "data per second at most", positive)
    .addOption(
      new Option(
        "--wait-ms <n>",
        "how long to wait for servers, and for ids that another key holds",
      )
        .argParser(integer(0, MS_MAX))
        .default(60_000),
    );
  return finish(addPeerOptions(command), run, HELP);
}
