/** `mp2p cache`: its options and help. */

import { type Command, Option } from "commander";
import {
  OVERLAYS_PER_VIRTUAL_PEER_DEFAULT,
  OVERLAYS_PER_VIRTUAL_PEER_MAX,
  VIRTUAL_PEERS_DEFAULT,
  VIRTUAL_PEERS_MAX,
} from "../base/limits.ts";
import {
  addPeerOptions,
  addServerOptions,
  finish,
  newCommand,
  type PeerOptions,
  type Run,
} from "./command-kit.ts";
import { integer, label, word } from "./values.ts";

export interface CacheOptions extends PeerOptions {
  readonly serviceKeyFile: string;
  readonly label: string;
  readonly virtualPeers: number;
  readonly overlaysPerPeer: number;
}

const HELP = `
Virtual peers are peers that read nothing: they hold and pass on what a session's peers want. The
overlay server sends them into a session when its source asks (mp2p source --virtual-peers 2), or when
nobody in it can be dialled, and takes them back when it ends or another one needs them more.

A cache server belongs to who runs the servers: it shows their service key (service.key in the data
directory of mp2p serve; copy it, mode 0600, to another machine).

Examples:
  mp2p cache --server ws://127.0.0.1:7900
  mp2p cache --server ws://10.0.0.1:7900 --service-key-file service.key --listen '*:7920' \\
             --virtual-peers 2 --upload-limit 50M --identity cache.key --allow-plaintext

The virtual peers listen on the port of --listen and on those that follow. --upload-limit and
--download-limit are for all of them together; --memory-mib is for each. With --identity cache server
and virtual peers keep their ids over restarts.

One line says when the overlay server has the offer. Without the overlay server sessions go on.
SIGTERM withdraws the offer, leaves all sessions in order and ends; a second signal ends at once.`;

export function cacheCommand(run: Run<CacheOptions>): Command {
  const command = newCommand(
    "cache",
    "lend virtual peers to sessions",
    "Runs a cache server: virtual peers that the overlay server sends into sessions to help out.",
  );
  addServerOptions(command)
    .addOption(
      new Option("--service-key-file <file>", "service key of the servers")
        .argParser(word)
        .default("mp2p-data/service.key"),
    )
    .addOption(
      new Option("--label <text>", "name of this cache server, for people")
        .argParser(label)
        .default("cache server"),
    )
    .addOption(
      new Option("--virtual-peers <n>", "how many peers it plays, each on a port of its own")
        .argParser(integer(1, VIRTUAL_PEERS_MAX))
        .default(VIRTUAL_PEERS_DEFAULT),
    )
    .addOption(
      new Option("--overlays-per-peer <n>", "sessions that each of them may be in at a time")
        .argParser(integer(1, OVERLAYS_PER_VIRTUAL_PEER_MAX))
        .default(OVERLAYS_PER_VIRTUAL_PEER_DEFAULT),
    );
  return finish(addPeerOptions(command), run, HELP);
}
