/** A large run's report for a person. */

import type { Goal, LargeReport, Spread } from "./report.ts";

export function tableOf(report: LargeReport): string {
  const { options, peers, delivery, hops, source } = report;
  const rows: [string, string][] = [
    ["seed, trace", `${report.seed}  ${report.traceHash}`],
    [
      "stream",
      `${options.delivery}, ${report.fragments} fragments of ${options.fragmentBytes} bytes in ${seconds(report.streamMs)}, run of ${seconds(report.virtualMs)}`,
    ],
    [
      "peers",
      `${options.peers} at first, ${peers.ever} in all, ${peers.atEnd} at the end, ${peers.inGoodStanding} in good standing, ${report.links.perPeer.toFixed(1)} links each`,
    ],
    ["happened", listed(report.churn)],
    ["excused", listed(peers.excuses)],
    [
      "delivery",
      options.delivery === "complete"
        ? `${percent(delivery.complete)}, ${delivery.incompletePeers} peers not complete, ${delivery.gaps} gaps`
        : `${percent(delivery.live)} of deliverable, ${percent(delivery.liveOfAll)} of all, ${delivery.gaps} gaps`,
    ],
    ["duplicates, control", `${percent(report.duplicates)}, ${percent(report.control)}`],
    ["hops", `median ${hops.median}, p99 ${hops.p99}, max ${hops.max}`],
    ["delay", spreadOf(report.delayMs)],
    ["join to start", spreadOf(report.startMs)],
    ["join to first fragment", spreadOf(report.joinToFirstFragmentMs)],
    [
      "source upload",
      `${source.frames.toFixed(2)} x in frames, ${source.bytes.toFixed(2)} x in bytes, ${source.neighbours} links`,
    ],
    [
      "requests",
      `${report.counters.requestsSent} sent, ${report.counters.requestsServed} served, ${report.counters.requestTimeouts} timed out`,
    ],
    [
      "frames",
      Object.entries(report.frames)
        .map(([name, { frames }]) => `${name} ${frames}`)
        .join(", "),
    ],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.map(([name, text]) => `${name.padEnd(width)}  ${text}`);
  const goals = report.goals.map(goalLine);
  const violations = report.violations.map(
    ({ atMs, checker, message }) => `VIOLATION  ${atMs.toFixed(1)} ms  ${checker}: ${message}`,
  );
  return [...lines, "", ...goals, ...violations].join("\n");
}

function goalLine(goal: Goal): string {
  const relation = goal.atMost ? "<=" : ">=";
  const word = goal.met ? "met   " : "MISSED";
  return `${word}  ${goal.name}: ${figure(goal.measured, goal.unit)} (${relation} ${figure(goal.bound, goal.unit)})`;
}

function figure(value: number, unit: Goal["unit"]): string {
  if (unit === "share") return percent(value);
  return unit === "times" ? `${value.toFixed(2)} x` : String(value);
}

function percent(share: number): string {
  const text = (100 * share).toFixed(3);
  // Nothing but all of it is 100 %.
  return share < 1 && text === "100.000" ? "99.999 %" : `${text} %`;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function spreadOf({ samples, p50, p90, p99, max }: Spread): string {
  if (samples === 0) return "none";
  return `p50 ${p50} ms, p90 ${p90} ms, p99 ${p99} ms, max ${max} ms (${samples})`;
}

function listed(counts: Readonly<Record<string, number>>): string {
  const text = Object.entries(counts)
    .map(([name, count]) => `${name} ${count}`)
    .join(", ");
  return text === "" ? "nothing" : text;
}
