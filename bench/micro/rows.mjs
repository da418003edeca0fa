// What every benchmark says about where and when it ran.
import { execFileSync } from "node:child_process";
import os from "node:os";

/** Load of other work above this many cores makes a run noisy. */
const LOAD_MAX = 0.5;

export function describeMachine() {
  const cpus = os.cpus();
  return {
    machine: `${cpus.length} x ${cpus[0]?.model ?? "unknown"}, ${os.platform()} ${os.arch()}`,
    memoryMiB: Math.round(os.totalmem() / 1024 ** 2),
    node: process.version,
    commit: commitOf(),
    startedAt: new Date().toISOString(),
    loadBefore: os.loadavg()[0],
  };
}

/** Whether other work ran: `busyCores` is what the benchmark itself needs. */
export function isNoisy(machine, busyCores) {
  return machine.loadBefore > LOAD_MAX || os.loadavg()[0] > busyCores + LOAD_MAX;
}

export function spreadOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1] };
}

function commitOf() {
  const git = (...args) =>
    execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    const dirty = git("status", "--porcelain", "--untracked-files=no") !== "";
    return `${git("rev-parse", "--short", "HEAD")}${dirty ? " with changes" : ""}`;
  } catch {
    return "unknown: no git checkout";
  }
}
