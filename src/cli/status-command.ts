/** `mp2p status`: its options and help. */

import { type Command, Option } from "commander";
import {
  addPlaintextOption,
  type CommonOptions,
  finish,
  MS_MAX,
  newCommand,
  type Run,
} from "./command-kit.ts";
import { integer, peerId, serverUrl, word } from "./values.ts";

export const STATUS_ORDERS = ["lag", "spare", "contribution", "held", "random"] as const;
const PEERS_MAX = 128;
const WATCH_MS_MIN = 100;

export interface StatusCommandOptions extends CommonOptions {
  readonly server?: string;
  readonly oms?: string;
  readonly pams?: string;
  readonly serviceKeyFile: string;
  readonly watch: boolean;
  readonly intervalMs: number;
  readonly peers: number;
  readonly order: (typeof STATUS_ORDERS)[number];
  readonly peer?: string;
  readonly allowPlaintext: boolean;
}

const HELP = `
For each session: how many members it has and how many of them others can dial, then its peers as
they reported last: what they do, how far they lag, what they hold (from..to, and how many fragments
are missing), what they take and give a second, and how much they gave for what they took. Then the
cache servers: how many virtual peers each has, and how many of its places in sessions are taken.
A peer reports when it joins, then every 10 s (mp2p serve may be told otherwise): until its second
report it shows -, with --json null. There null is also spareBytesPerSecond without a limit.

The servers tell it to who shows their service key: service.key in the data directory of mp2p serve,
which is read from ./mp2p-data unless --service-key-file names it. Copy it (mode 0600) to look from
another machine; nothing is encrypted, so that needs --allow-plaintext and a network that you trust.

Examples:
  mp2p status --server ws://127.0.0.1:7900
  mp2p status --server ws://127.0.0.1:7900 --watch --order contribution --peers 10
  mp2p status --server ws://127.0.0.1:7900 --json | grep '"event":"peer"'
  mp2p status --oms ws://10.0.0.1:7900 --pams ws://10.0.0.2:7900 --service-key-file service.key \\
              --allow-plaintext
  mp2p status --server ws://127.0.0.1:7900 --peer 1f0c...  one peer, asked for its status now

With --json each session is a line {"event":"overlay",...}, each peer one {"event":"peer",...} and
each cache server one {"event":"cacheServer",...}.
Servers that can not be reached, or refuse the key, are exit 1; with --watch they are asked again.`;

export function statusCommand(run: Run<StatusCommandOptions>): Command {
  const command = newCommand(
    "status",
    "show sessions and how their peers fare",
    "Shows the overlays of the servers and how their peers fare: lag, contribution, links.",
  )
    .option("--server <url>", "server that plays OMS and PAMS, e.g. ws://host:7900", serverUrl)
    .option("--oms <url>", "overlay management server, instead of --server", serverUrl)
    .option(
      "--pams <url>",
      "activity server, where the OMS names one that is not reached",
      serverUrl,
    )
    .addOption(
      new Option("--service-key-file <file>", "service key of the servers")
        .argParser(word)
        .default("mp2p-data/service.key"),
    )
    .option("--watch", "show it again and again until interrupted", false)
    .addOption(
      new Option("--interval-ms <n>", "how often, with --watch")
        .argParser(integer(WATCH_MS_MIN, MS_MAX))
        .default(2_000),
    )
    .addOption(
      new Option("--peers <n>", "peers of each session")
        .argParser(integer(1, PEERS_MAX))
        .default(20),
    )
    .addOption(
      new Option("--order <by>", "which peers come first").choices(STATUS_ORDERS).default("lag"),
    )
    .option("--peer <id>", "only this peer: 64 hex digits", peerId);
  return finish(addPlaintextOption(command), run, HELP);
}
