/**
 * Large simulated overlays, seed after seed, against the goals of the algorithm.
 *
 * Each run is a process of its own, two at a time where there are cores for it. HELP says the rest.
 */

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const HELP = `Usage: npm run sim -- [options] [-- options of mp2p sim]

  --seeds <n>       seeds of each case (default 20)
  --from <n>        first seed (default 1)
  --peers <n>       peers at first (default 1000)
  --fragments <n>   length of the stream (default 300, about 9 s at 512 KiB/s)
  --only <case>     complete (without churn), or churn (complete) or live (both: a tenth of the peers
                    goes a minute)
  --parallel <n>    runs at a time (default 2), each of about 1 GiB and 3 minutes
  --quick           one seed of 100 peers and 200 fragments
  --out <file>      all reports as JSON

Exit codes: 0 all goals met, 1 a goal missed or a run failed, 2 wrong usage.
`;
const main = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));
const { values, positionals } = readOptions();

const CASES = {
  complete: ["--delivery", "complete"],
  churn: ["--delivery", "complete", "--churn", "0.1"],
  live: ["--delivery", "live", "--churn", "0.1"],
};
const quick = values.quick;
const peers = quick ? "100" : values.peers;
const fragments = quick ? "200" : values.fragments;
const seeds = quick ? 1 : Number(values.seeds);
const cases = Object.entries(CASES).filter(([name]) => !values.only || name === values.only);
for (const name of ["seeds", "peers", "fragments", "parallel"]) {
  if (!/^[1-9]\d{0,6}$/.test(values[name])) usage(`--${name} is a whole number of at least 1`);
}
if (!/^\d{1,9}$/.test(values.from)) usage("--from is a whole number");
if (cases.length === 0) usage("--only is complete, churn or live");

const queue = cases.flatMap(([name, flags]) =>
  Array.from({ length: seeds }, (_, i) => ({ name, flags, seed: Number(values.from) + i })),
);
const rows = [];

function run({ name, flags, seed }) {
  const args = ["sim", "--seed", String(seed), "--peers", peers, "--fragments", fragments];
  args.push(...flags, "--json", ...positionals);
  return new Promise((resolve) => {
    // Less garbage is copied twice: a few per cent of the time of a run.
    const child = spawn(process.execPath, ["--max-semi-space-size=64", main, ...args], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let out = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      out += text;
    });
    child.on("close", (code, signal) => {
      const report = reportOf(out);
      rows.push({ case: name, seed, command: `mp2p ${args.join(" ")}`, report });
      const ended = signal ?? `exit ${code}`;
      process.stdout.write(`${line(name, seed, report, ended)}\n`);
      resolve();
    });
  });
}

/** Violations are told in it, too; a run that was ended by something else has none. */
function reportOf(out) {
  try {
    return JSON.parse(out);
  } catch {
    return undefined;
  }
}

const percent = (share) => `${(100 * share).toFixed(3)} %`;

function line(name, seed, report, ended) {
  if (report === undefined) return `${name} seed ${seed}: FAILED, ${ended}, no report`;
  const missed = report.goals.filter(({ met }) => !met).map((goal) => goal.name);
  const share = name === "live" ? report.delivery.live : report.delivery.complete;
  return [
    `${name} seed ${seed} ${report.ok ? "ok" : "MISSED"}:`,
    `delivery ${percent(share)}, duplicates ${percent(report.duplicates)},`,
    `control ${percent(report.control)}, hops ${report.hops.median}/${report.hops.p99},`,
    `delay ${report.delayMs.p50}/${report.delayMs.p99} ms, source ${report.source.frames.toFixed(2)} x;`,
    `${(report.wallMs / 1000).toFixed(0)} s, ${report.rssMiB} MiB, trace ${report.traceHash}`,
    ...missed.map((goal) => `\n    missed: ${goal}`),
    ...report.violations.map(({ checker, message }) => `\n    ${checker}: ${message}`),
  ].join(" ");
}

async function work() {
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) await run(next);
}
await Promise.all(Array.from({ length: Number(values.parallel) }, work));

const failed = rows.filter(({ report }) => report?.ok !== true).length;
for (const [name] of cases) {
  const reports = rows.filter((row) => row.case === name && row.report).map((row) => row.report);
  for (const goal of reports[0]?.goals ?? []) {
    const all = reports.flatMap((report) => report.goals.filter((g) => g.name === goal.name));
    const measured = all.map((g) => g.measured);
    const worst = goal.atMost ? Math.max(...measured) : Math.min(...measured);
    const met = all.filter((g) => g.met).length;
    process.stdout.write(`${name}: ${goal.name}: met by ${met} of ${all.length}, worst ${worst}\n`);
  }
}
process.stdout.write(`${rows.length - failed} of ${rows.length} runs meet all goals\n`);
if (values.out !== undefined) {
  const machine = {
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    load: loadavg(),
    node: process.version,
  };
  writeFileSync(values.out, `${JSON.stringify({ machine, rows }, undefined, 1)}\n`);
}
process.exitCode = failed === 0 ? 0 : 1;

function readOptions() {
  try {
    const read = parseArgs({
      allowPositionals: true,
      options: {
        seeds: { type: "string", default: "20" },
        from: { type: "string", default: "1" },
        peers: { type: "string", default: "1000" },
        fragments: { type: "string", default: "300" },
        parallel: { type: "string", default: String(Math.min(2, availableParallelism())) },
        only: { type: "string" },
        quick: { type: "boolean", default: false },
        out: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (!read.values.help) return read;
  } catch (error) {
    usage(error.message);
  }
  process.stdout.write(HELP);
  process.exit(0);
}

function usage(what) {
  process.stderr.write(`${what}\n\n${HELP}`);
  process.exit(2);
}
