// One run of one case: starts its processes, waits for their results, judges them.
import { fork } from "node:child_process";

/** Beyond what the flow itself takes. */
const GRACE_SECONDS = 30;

/**
 * Resolves with {rate, p50, p99, cpuSecondsPerGiB, rssMiB, ownCpuSeconds}; rejects when anything
 * was lost, changed or out of order, or did not end in time. `rate` is that of the slowest peer.
 */
export async function runFlow(flow, options) {
  const raw = flow.write === "raw";
  const children = [];
  const start = (script) => {
    const child = startChild(script, JSON.stringify({ flow, ...options }));
    children.push(child);
    return child;
  };
  let timer;
  const late = new Promise((_, reject) => {
    const seconds = options.warmSeconds + options.seconds + GRACE_SECONDS;
    timer = setTimeout(() => reject(new Error(`no end after ${seconds} s`)), seconds * 1000);
  });
  const within = (promise) => Promise.race([promise, late]);
  try {
    const source = start(raw ? "raw-source.mjs" : "source.mjs");
    await within(source.ready);
    const peers = [];
    for (let i = 0; i < flow.peers; i++) peers.push(start(raw ? "raw-peer.mjs" : "peer.mjs"));
    const readies = await within(Promise.all(peers.map((peer) => peer.ready)));
    source.process.send({ kind: "go", port: readies[0].port });
    const sent = await within(source.result);
    const taken = await within(Promise.all(peers.map((peer) => peer.result)));
    await within(Promise.all(children.map((child) => child.gone)));
    return judge(flow, sent, taken);
  } finally {
    clearTimeout(timer);
    for (const child of children) child.process.kill("SIGKILL");
    await Promise.all(children.map((child) => child.gone));
  }
}

function startChild(script, argument) {
  const child = fork(new URL(script, import.meta.url), [argument]);
  const gone = new Promise((resolve) => child.once("exit", resolve));
  const message = (kind) => {
    const promise = new Promise((resolve, reject) => {
      child.on("message", (got) => got.kind === kind && resolve(got));
      child.once("error", reject);
      child.once("exit", (code, signal) => {
        reject(new Error(`${script} ended with ${signal ?? code} before its ${kind}`));
      });
    });
    // Who waits for it hears of it; nobody may wait yet.
    promise.catch(() => undefined);
    return promise;
  };
  return { process: child, gone, ready: message("ready"), result: message("result") };
}

/** The figures of a run; throws when the data that were taken are not those that were sent. */
export function judge(flow, sent, taken) {
  for (const peer of taken) {
    if (peer.wrong !== "") throw new Error(peer.wrong);
    if (peer.gaps > 0) throw new Error(`${peer.gaps} gaps`);
    if (peer.received !== sent.written) {
      throw new Error(`${peer.received} of ${sent.written} data arrived`);
    }
  }
  for (const { measured, seconds } of [sent, ...taken]) {
    if (!(measured > 0 && seconds > 0)) throw new Error("nothing after the warm-up");
  }
  const scale = { "GB/s": flow.datumBytes / 1e9, "Mdata/s": 1e-6, us: 1 }[flow.unit];
  const rates = taken.map((peer) => (peer.measured * scale) / peer.seconds);
  const perGiB = ({ measured, measuredCpuSeconds }) =>
    (measuredCpuSeconds / (measured * flow.datumBytes)) * 1024 ** 3;
  const all = [sent, ...taken];
  const worst = (field) => Math.max(...taken.map((peer) => peer[field] ?? Number.NaN));
  return {
    rate: flow.unit === "us" ? worst("p50") : Math.min(...rates),
    p50: worst("p50"),
    p99: worst("p99"),
    cpuSecondsPerGiB: all.reduce((sum, one) => sum + perGiB(one), 0),
    rssMiB: Math.max(...all.map((one) => one.rssMiB)),
    ownCpuSeconds: all.reduce((sum, one) => sum + one.cpuSeconds, 0),
  };
}
