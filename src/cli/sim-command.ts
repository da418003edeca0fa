/** `mp2p sim`: a whole overlay on a virtual clock, replayable, with its report. */

import { type Command, InvalidArgumentError, Option } from "commander";
import { type CommonOptions, finish, newCommand, type Run } from "./command-kit.ts";
import { atLeastZero, integer, positive, share, shareAMinute } from "./values.ts";

const PEERS_MAX = 4_000;
const FRAGMENTS_MAX = 1_000_000;
const KIB_MAX = 1_048_576;
const SEED_MAX = 0xffff_ffff;

export interface SimOptions extends CommonOptions {
  readonly peers: number;
  readonly seed: number;
  readonly delivery: "complete" | "live";
  readonly fragments?: number;
  readonly minutes?: number;
  readonly streamKib: number;
  readonly fragmentKib: number;
  readonly windowKib: number;
  readonly fanOut: readonly [number, number];
  readonly upload: readonly [number, number];
  readonly outboundOnly: number;
  readonly churn: number;
  readonly loss: number;
  readonly silence: number;
  readonly stalls: number;
  readonly partitions: number;
  readonly massLeave: number;
  readonly massJoin: number;
  readonly joinSeconds: number;
  readonly goals: boolean;
  readonly log: boolean;
}

const HELP = `
Examples:
  mp2p sim --peers 100 --seed 7
  mp2p sim --peers 1000 --seed 7 --delivery live --churn 0.1 --goals
  mp2p sim --peers 200 --seed 7 --mass-leave 0.5 --json

Runs the same peers as join does, all in this process, on a virtual clock. The same seed and options
give the same run, event for event: the trace hash that is printed says so. Rates are shares a
minute: --churn 0.1 lets a tenth of the peers go a minute, half of them by a crash, each replaced at
once. The report stands against the goals of the algorithm; with --goals a goal missed is exit 1.
A VIOLATION, which the simulation finds wrong by itself, is exit 1 always. The stream has a fragment
a second at least.
A list of who is a member stands in for the managing servers.`;

export function simCommand(run: Run<SimOptions>): Command {
  const command = newCommand(
    "sim",
    "simulate a whole overlay, replayable from a seed",
    "Simulates an overlay of up to thousands of peers on a virtual clock and reports on it.",
  );
  const number = (flags: string, text: string, parser: (text: string) => number, value?: number) =>
    command.addOption(
      value === undefined
        ? new Option(flags, text).argParser(parser)
        : new Option(flags, text).argParser(parser).default(value),
    );
  number("--peers <n>", "peers at first", integer(1, PEERS_MAX), 100);
  number("--seed <n>", "what all chance comes from", integer(0, SEED_MAX), 1);
  command.addOption(
    new Option("--delivery <mode>", "what the overlay promises")
      .choices(["complete", "live"])
      .default("complete"),
  );
  number("--fragments <n>", "length of the stream (default 1000)", integer(1, FRAGMENTS_MAX));
  command.addOption(
    new Option("--minutes <n>", "length of the stream in time, instead of --fragments")
      .argParser(positive)
      .conflicts("fragments"),
  );
  number("--stream-kib <n>", "rate of the stream, KiB a second", integer(1, KIB_MAX), 512);
  number("--fragment-kib <n>", "size of a fragment, KiB", integer(1, 256), 16);
  number("--window-kib <n>", "window of each peer, KiB", integer(64, KIB_MAX), 8192);
  const range = (flags: string, text: string, parse: typeof share, low: number, high: number) =>
    command.addOption(
      new Option(flags, text)
        .argParser((given) => pair(given, parse))
        .default([low, high], `${low}-${high}`),
    );
  range("--fan-out <a-b>", "links each peer makes of its own choice", integer(1, 64), 4, 6);
  range("--upload <a-b>", "upload of a peer in multiples of the stream", positive, 1.2, 3);
  number("--outbound-only <share>", "share of peers that can not be dialled", share, 0.6);
  number(
    "--churn <share>",
    "share of peers that go and are replaced; 0.1 = 10 % a minute",
    shareAMinute,
    0,
  );
  number("--loss <share>", "share of links that break, a minute", atLeastZero, 0);
  number("--silence <share>", "share of links that fall silent, a minute", atLeastZero, 0);
  number("--stalls <share>", "share of links that stall for up to 5 s, a minute", atLeastZero, 0);
  number("--partitions <n>", "partitions of up to 5 s, a minute", atLeastZero, 0);
  number("--mass-leave <share>", "share of peers that leaves within a second", share, 0);
  number("--mass-join <n>", "peers that join within a second", integer(0, PEERS_MAX), 0);
  number("--join-seconds <n>", "time over which the first peers join", positive, 5);
  command
    .option("--goals", "exit 1 when a goal of the algorithm is missed", false)
    .option("--log", "what happens to links, on standard error", false);
  return finish(command, run, HELP);
}

/** `4-6` or `4`. */
function pair(text: string, parse: (text: string) => number): [number, number] {
  const [low = "", high] = text.split("-");
  const from = parse(low);
  const to = parse(high ?? low);
  if (from > to)
    throw new InvalidArgumentError(`the first number is the lower one: ${high}-${low}`);
  return [from, to];
}
