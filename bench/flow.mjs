// Benchmark of the flow of data: from one source process to peer processes, through the public
// library, with servers in this process. Every datum is checked by who takes it; a run in which
// anything is lost, changed or out of order voids its row.
//
// --help tells the options. A floor whose cases were not run counts as missed.
//
// Rows: a rate (median, min, max of runs) after a warm-up; p50 and p99 in microseconds from before
// the write until after delivery, by the monotonic clock (open loop in the latency case, with full
// windows in the others); CPU seconds of all processes per GiB of the stream; the largest peak of
// memory of any process. The yardstick, raw TCP, checks nothing.
import { writeFileSync } from "node:fs";
import os from "node:os";
import { startServers } from "../dist/server.js";
import { CASES, FLOORS } from "./flow/cases.mjs";
import { runFlow } from "./flow/run.mjs";
import { describeMachine, spreadOf } from "./micro/rows.mjs";
import { readOptions, usage } from "./options.mjs";

/** Other work on more cores than this makes the figures noisy. */
const OTHER_CORES_MAX = 0.1;

const COMMAND = "npm run bench:flow --";
const given = readOptions(COMMAND);
const lengths = given.quick ? { warmSeconds: 0.1, seconds: 0.3 } : { warmSeconds: 0.7, seconds: 2 };
const options = { ...given, ...lengths };
const cases = CASES.filter((one) => one.name.includes(options.only));
if (cases.length === 0) usage(COMMAND, `no case holds "${options.only}"`);

const machine = describeMachine();
const failures = [];
const samples = new Map(cases.map((one) => [one, []]));
const busyBefore = busyCoreSeconds();
const startMs = performance.now();
let ownSeconds = 0;

const servers = await startServers({ port: 0 });
try {
  // Round by round, so that what is compared ran side by side.
  for (let run = 0; run < options.runs; run++) {
    for (const one of cases) await measure(one, run);
  }
} finally {
  await servers.close();
}

const { user, system } = process.cpuUsage();
const elapsedSeconds = (performance.now() - startMs) / 1000;
const otherSeconds = busyCoreSeconds() - busyBefore - ownSeconds - (user + system) / 1e6;
const otherCores = Math.max(0, otherSeconds / elapsedSeconds);
const noisy = otherCores > OTHER_CORES_MAX;
const rows = cases.map(rowOf);
const floors = FLOORS.flatMap(floorOf);

for (const row of rows) printRow(row);
for (const { name, value, floor, met } of floors) {
  console.log(`${name.padEnd(38)} ${value.toFixed(2)}, floor ${floor}: ${met ? "met" : "MISSED"}`);
}
if (noisy)
  console.log(`noisy: other work took ${otherCores.toFixed(1)} cores; figures are too low`);
console.log(`${machine.machine}, Node ${machine.node}, commit ${machine.commit}`);
if (options.out !== undefined) {
  const report = { ...machine, noisy, otherCores, failures, rows, floors };
  writeFileSync(options.out, `${JSON.stringify(report, null, 2)}\n`);
}
for (const failure of failures) console.error(`content check failed: ${failure}`);
const missed = floors.length < FLOORS.length || floors.some((one) => !one.met);
process.exitCode = failures.length > 0 || (options.floors && missed) ? 1 : 0;

async function measure(one, run) {
  const { seconds } = options;
  const warmSeconds = options.quick
    ? options.warmSeconds
    : (one.warmSeconds ?? options.warmSeconds);
  const title = `flow ${process.pid} ${one.name} ${run}`;
  const server = servers.urls.oms;
  try {
    const sample = await runFlow(one, { server, title, warmSeconds, seconds });
    ownSeconds += sample.ownCpuSeconds;
    samples.get(one).push(sample);
  } catch (error) {
    failures.push(`${one.name}, run ${run + 1}: ${error.message}`);
    samples.get(one).push(undefined);
  }
}

function rowOf(one) {
  const runs = samples.get(one);
  const row = { suite: "flow", case: one.name, unit: one.unit, runs: runs.length };
  if (runs.includes(undefined)) return { ...row, void: true };
  const middle = (field) => spreadOf(runs.map((run) => run[field])).median;
  const latencies =
    one.write === "raw" ? {} : { p50: middle("p50"), p99: middle("p99"), latencyUnit: "us" };
  return {
    ...row,
    ...spreadOf(runs.map((run) => run.rate)),
    ...latencies,
    cpuSecondsPerGiB: middle("cpuSecondsPerGiB"),
    rssMiB: Math.round(Math.max(...runs.map((run) => run.rssMiB))),
  };
}

/** The floor with its value; nothing when its cases were not run, or are void. */
function floorOf({ name, of, over, floor }) {
  const runsOf = (title) => samples.get(cases.find((one) => one.name === title)) ?? [];
  const upper = runsOf(of);
  const lower = over === undefined ? undefined : runsOf(over);
  const values = upper.map((run, i) =>
    lower === undefined ? run?.rate : (run?.rate ?? Number.NaN) / (lower[i]?.rate ?? Number.NaN),
  );
  if (values.length === 0 || !values.every(Number.isFinite)) return [];
  const value = spreadOf(values).median;
  return [{ name, value, floor, met: value >= floor }];
}

function printRow(row) {
  const title = row.case.padEnd(38);
  if (row.void) {
    console.log(`${title} void`);
    return;
  }
  const figure = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
  const spread = `${figure(row.median)} (${figure(row.min)}-${figure(row.max)}) ${row.unit}`;
  const latency =
    row.p50 === undefined ? "" : `p50 ${figure(row.p50)} us, p99 ${figure(row.p99)} us`;
  const cost = `${figure(row.cpuSecondsPerGiB)} CPU s/GiB, ${row.rssMiB} MiB`;
  console.log(`${title} ${spread.padEnd(28)} ${cost.padEnd(28)} ${latency}`);
}

/** Seconds that the cores of this machine were busy, with whatever, since it started. */
function busyCoreSeconds() {
  let ms = 0;
  for (const { times } of os.cpus()) ms += times.user + times.nice + times.sys + times.irq;
  return ms / 1000;
}
