// Benchmarks of the kernels, WebAssembly against its JavaScript twin.
//
// Needs dist/ and build/; --help tells the options. --only looks in "suite: name"; --floors: how the cost
// of a fragment grows with neighbours and window, which is bounded where it is a floor. Exit 1 also when
// the kernels do not agree on what they did.
import { readFileSync, writeFileSync } from "node:fs";
import { Bench } from "tinybench";
import { createJsKernel } from "../dist/kernel/js-kernel.js";
import { compileKernel, createKernelMemory, createWasmKernel } from "../dist/kernel/wasm-kernel.js";
import { MEMORY_MIB } from "./micro/bench-memory.mjs";
import { bits } from "./micro/bits.mjs";
import { checksum } from "./micro/checksum.mjs";
import { fragments } from "./micro/fragments.mjs";
import { exitCodeOf, growths } from "./micro/growth.mjs";
import { picker } from "./micro/picker.mjs";
import { pull } from "./micro/pull.mjs";
import { describeMachine, isNoisy, spreadOf } from "./micro/rows.mjs";
import { readOptions, usage } from "./options.mjs";

const COMMAND = "npm run bench --";
const given = readOptions(COMMAND);
const [sampleMs, rounds] = given.quick ? [2, 10] : [100, 300];
const options = { ...given, sampleMs, rounds };
const wasm = compileKernel(
  new Uint8Array(readFileSync(new URL("../build/kernel.wasm", import.meta.url))),
);
const createKernel = () => createWasmKernel({ wasm, memory: createKernelMemory(MEMORY_MIB) });
const kernels = [createKernel(), createJsKernel({ memoryBytes: MEMORY_MIB * 1024 * 1024 })];
const machine = describeMachine();
const rows = [];
const failures = [];

const suites = [checksum, fragments, bits, picker, pull];
for (const suite of suites) {
  for (const one of suite.cases) {
    if (!`${suite.name}: ${one.name}`.includes(options.only)) continue;
    measure(suite.name, one);
  }
}
if (rows.length === 0) usage(COMMAND, `no case holds "${options.only}"`);

const grown = options.floors ? growths(createKernel, options.rounds) : [];
for (const { name, small, large, ratio, most } of grown) {
  const figures = `${small.toFixed(1)} -> ${large.toFixed(1)} ns, ${ratio.toFixed(2)}x`;
  const judged = most === undefined ? "no floor" : ratio <= most ? "holds" : "FALLEN";
  console.log(`${name.padEnd(48)} ${figures}: ${judged}`);
}
const noisy = isNoisy(machine, 1);
if (noisy) console.log("noisy: other work ran beside this; the figures are too low");
console.log(`${machine.machine}, Node ${machine.node}, commit ${machine.commit}`);
if (options.out !== undefined) {
  writeFileSync(
    options.out,
    `${JSON.stringify({ ...machine, noisy, failures, growths: grown, rows }, null, 2)}\n`,
  );
}
for (const failure of failures) console.error(`content check failed: ${failure}`);
process.exitCode = exitCodeOf(failures, grown);

function measure(suite, one) {
  agree(suite, one);
  const samples = kernels.map(() => ({
    rates: [],
    p50: [],
    p99: [],
    cpuSeconds: 0,
    iterations: 0,
  }));
  for (let run = 0; run < options.runs; run++) {
    for (const [k, kernel] of kernels.entries()) measureOnce(one, kernel, samples[k]);
  }
  agree(suite, one);
  const scale = scaleOf(one);
  const found = kernels.map((kernel, k) => {
    const { rates, p50, p99, cpuSeconds, iterations } = samples[k];
    const row = {
      suite,
      case: `${one.name}, ${kernel.name}`,
      unit: scale.unit,
      ...spreadOf(rates),
      runs: rates.length,
      p50: spreadOf(p50).median,
      p99: spreadOf(p99).median,
      latencyUnit: "ns",
      rssMiB: Math.round(process.memoryUsage.rss() / 1024 ** 2),
    };
    if (one.bytes !== undefined) {
      row.cpuSecondsPerGiB = (cpuSeconds / (iterations * one.calls * one.bytes)) * 1024 ** 3;
    }
    rows.push(row);
    return row;
  });
  const ratio = found[0].median / found[1].median;
  const [wasm, js] = found.map((row) => row.median.toPrecision(3).padStart(7));
  const title = `${suite}: ${one.name}`.padEnd(58);
  console.log(`${title} wasm ${wasm}  js ${js} ${scale.unit.padEnd(12)} ${ratio.toFixed(2)}x`);
}

/** One timed sample is `calls` calls: a single one is shorter than the clock can tell. */
function measureOnce(one, kernel, samples) {
  one.prepare(kernel);
  const bench = new Bench({
    time: options.sampleMs,
    warmupTime: options.sampleMs / 5,
    iterations: 8,
    throws: true,
  });
  const hooks = one.restore === undefined ? {} : { beforeEach: one.restore };
  let kept = 0;
  let iterations = 0;
  bench.add(
    one.name,
    () => {
      for (let i = 0; i < one.calls; i++) kept ^= one.call(kernel);
      iterations++;
    },
    hooks,
  );
  const cpu = process.cpuUsage();
  bench.runSync();
  const { user, system } = process.cpuUsage(cpu);
  // Uses the results, so that no call can be left out.
  if (!Number.isInteger(kept)) throw new Error("a kernel call gave no integer");
  const { latency } = bench.tasks[0].result;
  const nsPerCall = 1e6 / one.calls;
  samples.rates.push((scaleOf(one).perCall * one.calls) / (latency.mean / 1000));
  samples.p50.push(latency.p50 * nsPerCall);
  samples.p99.push(latency.p99 * nsPerCall);
  samples.cpuSeconds += (user + system) / 1e6;
  samples.iterations += iterations;
}

/** Both kernels do the same on the same memory: results and written bytes. */
function agree(suite, one) {
  const [wasm, js] = kernels.map((kernel) => {
    one.prepare(kernel);
    return JSON.stringify(one.check(kernel));
  });
  if (wasm !== js) failures.push(`${suite}: ${one.name}: wasm ${wasm}, js ${js}`);
}

function scaleOf(one) {
  if (one.bytes !== undefined) return { unit: "GB/s", perCall: one.bytes / 1e9 };
  if (one.fragments !== undefined) {
    return { unit: "Mfragments/s", perCall: one.fragments / 1e6 };
  }
  if (one.data !== undefined) return { unit: "Mdata/s", perCall: one.data / 1e6 };
  return { unit: "Mcalls/s", perCall: (one.steps ?? 1) / 1e6 };
}
