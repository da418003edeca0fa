// A peer process of a flow: node peer.mjs CASE-AS-JSON. Takes and checks everything up to END.
import { createEngine } from "../../dist/index.js";
import { finish, Meter } from "./child.mjs";
import { Content, clockUs, sinceUs } from "./content.mjs";

const { flow, server, title, warmSeconds, seconds } = JSON.parse(process.argv[2]);
const LATENCIES_MAX = 1_000_000;

const engine = await createEngine();
const peer = await engine.join({ server, title, from: "start" });
const content = new Content(flow.datumBytes, flow.batchData);
const meter = new Meter({ warmSeconds, seconds });
const latencies = new Float64Array(LATENCIES_MAX);
let latencyCount = 0;
let received = 0;
let endMs = 0;
let gaps = 0;
let wrong = "";
peer.on("gap", () => {
  gaps++;
});

const readers = { batches, data };
const reading = readers[flow.read]();
process.send({ kind: "ready" });
await reading;
const figures = meter.report(received, endMs);
await engine.close();
finish({ received, ...figures, gaps, wrong, ...quantiles() });

async function batches() {
  let view = new DataView(new ArrayBuffer(0));
  for await (const batch of peer.batches()) {
    const { memory, count } = batch;
    if (memory.buffer !== view.buffer) view = new DataView(memory.buffer);
    const base = memory.byteOffset;
    for (let i = 0; i < count; i++) {
      const at = base + batch.offsetOf(i);
      const isNext = batch.sequenceOf(i) === received + 1;
      if (!isNext || !content.matches(received, memory, view, at, batch.lengthOf(i))) {
        fault(batch.sequenceOf(i));
      }
      received++;
    }
    const last = base + batch.offsetOf(count - 1);
    if (flow.unit === "us") {
      const nowUs = clockUs();
      for (let i = 0; i < count; i++)
        took(view.getUint32(base + batch.offsetOf(i) + 4, true), nowUs);
    } else {
      took(view.getUint32(last + 4, true), clockUs());
    }
    endMs = performance.now();
    meter.passed(received, endMs);
  }
}

async function data() {
  let view = new DataView(new ArrayBuffer(0));
  for await (const datum of peer.data()) {
    const { payload } = datum;
    if (payload.buffer !== view.buffer) {
      // Another fragment begins.
      view = new DataView(payload.buffer);
      endMs = performance.now();
      meter.passed(received, endMs);
      took(view.getUint32(payload.byteOffset + 4, true), clockUs());
    }
    const isNext = datum.sequence === received + 1;
    if (!isNext || !content.matches(received, payload, view, payload.byteOffset, payload.length)) {
      fault(datum.sequence);
    }
    received++;
  }
  endMs = performance.now();
}

function took(stampUs, nowUs) {
  if (!meter.isWarm || latencyCount === LATENCIES_MAX) return;
  latencies[latencyCount++] = sinceUs(stampUs, nowUs);
}

function fault(sequence) {
  if (wrong === "") wrong = `datum ${sequence} where ${received + 1} was due, or other content`;
}

function quantiles() {
  const sorted = latencies.subarray(0, latencyCount).sort();
  const at = (q) => sorted[Math.min(latencyCount - 1, Math.floor(latencyCount * q))];
  return { p50: at(0.5), p99: at(0.99) };
}
