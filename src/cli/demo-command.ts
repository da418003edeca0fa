/** `mp2p demo`: the main job, watched. Also its inner command, a peer as a process of its own. */

import { type Command, Option } from "commander";
import {
  addServerOptions,
  type CommonOptions,
  finish,
  newCommand,
  type Run,
} from "./command-kit.ts";
import { integer, positive, word } from "./values.ts";

/** Hours of the measurements that pass in a second: a quarter of a year in about twenty. */
const SPEED_DEFAULT = 400_000;
const PEERS_MIN = 3;
const PEERS_MAX = 50;

export interface DemoOptions extends CommonOptions {
  readonly peers: number;
  readonly speed: number;
  readonly keep: boolean;
}

export interface DemoPeerOptions extends CommonOptions {
  readonly server?: string;
  readonly title?: string;
}

const HELP = `
Examples:
  mp2p demo
  mp2p demo --peers 8 --speed 800000
  mp2p demo --keep

Starts OMS, PAMS and IXS, a source peer with thirteen data sources that replay real measurements,
and the peers, each a process of its own. One peer is killed on the way, and one more joins late.
At the end every peer's digests are compared with those of the data sources: exit 0 only if all
agree, the source sent at most twice the stream, and peers got at least 40 % from each other. With
--keep it goes on until a signal, and a failed verdict is still exit 1.`;

export function demoCommand(run: Run<DemoOptions>): Command {
  const command = newCommand(
    "demo",
    "watch real sensor data flow through an overlay, and have it checked",
    "Runs servers, a source peer and peers on this machine, on real measurements, and checks all.",
  )
    .addOption(
      new Option("--peers <n>", "peers from the start; one of them is killed")
        .argParser(integer(PEERS_MIN, PEERS_MAX))
        .default(5),
    )
    .addOption(
      new Option("--speed <x>", "how many times faster than the measurements")
        .argParser(positive)
        .default(SPEED_DEFAULT),
    )
    .option("--keep", "go on replaying afterwards, for you to join", false);
  return finish(command, run, HELP);
}

/** Not for people: a peer of the demo, which reports over the channel to its parent. */
export function demoPeerCommand(run: Run<DemoPeerOptions>): Command {
  const command = newCommand("demo-peer", "", "A peer of mp2p demo.");
  addServerOptions(command).option("--title <text>", "name of the session", word);
  return finish(command, run, "");
}
