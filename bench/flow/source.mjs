// The source process of a flow: node source.mjs CASE-AS-JSON. Writes for the time it is told.
import { createEngine } from "../../dist/index.js";
import { finish, Meter, told } from "./child.mjs";
import { Content, clockUs } from "./content.mjs";

const { flow, server, title, warmSeconds, seconds } = JSON.parse(process.argv[2]);
/** A data source belongs to the key that registered it: each run has its own. */
const sourceId = `flow ${process.pid}`;
const TICK_MS = 1;
/** A pacer this late is no timer's doing any more: its data count from when they were due. */
const LATE_US = 2_000;

const engine = await createEngine();
const source = await engine.createSource({
  server,
  title,
  dataSources: [{ sourceId }],
  delivery: "complete",
  integrity: "checksum",
  waitPeers: flow.peers,
});
const out = source.dataSource(sourceId);
const content = new Content(flow.datumBytes, flow.batchData);
const payloads = new Uint8Array(flow.datumBytes * flow.batchData);
const view = new DataView(payloads.buffer);
const meter = new Meter({ warmSeconds, seconds });

process.send({ kind: "ready" });
await told("go");
const writers = { writeBatch, write, paced };
const written = await writers[flow.write]();
const figures = meter.report(written, performance.now());
await source.end();
const { traffic } = source.status();
await engine.close();
finish({ written, ...figures, fragments: traffic.fragmentsToPeers });

async function writeBatch() {
  const lengths = new Uint32Array(flow.batchData).fill(flow.datumBytes);
  let batch = 0;
  while (!meter.isOver(performance.now())) {
    content.fill(batch, payloads, view, clockUs());
    let { accepted } = out.writeBatch({ payloads, lengths });
    while (accepted < flow.batchData) {
      await out.writable();
      const rest = out.writeBatch({
        payloads: payloads.subarray(accepted * flow.datumBytes),
        lengths: lengths.subarray(accepted),
      });
      accepted += rest.accepted;
    }
    batch++;
    meter.passed(batch * flow.batchData, performance.now());
  }
  return batch * flow.batchData;
}

async function write() {
  const data = dataOf(payloads);
  let batch = 0;
  while (!meter.isOver(performance.now())) {
    content.fill(batch, payloads, view, clockUs());
    for (const datum of data) {
      while (out.write(datum).accepted === 0) await out.writable();
    }
    batch++;
    meter.passed(batch * flow.batchData, performance.now());
  }
  return batch * flow.batchData;
}

/** Open loop: what is due is written, whatever became of what went before. */
async function paced() {
  const data = dataOf(payloads);
  const startUs = clockUs();
  let n = 0;
  while (!meter.isOver(performance.now())) {
    const dueUs = startUs + (n * 1e6) / flow.ratePerSecond;
    const nowUs = clockUs();
    if (dueUs > nowUs) {
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
      continue;
    }
    const at = n % flow.batchData;
    if (at === 0) content.fill(n / flow.batchData, payloads, view, 0);
    const stampUs = nowUs - dueUs > LATE_US ? dueUs : nowUs;
    view.setUint32(at * flow.datumBytes + 4, Math.floor(stampUs) >>> 0, true);
    while (out.write(data[at]).accepted === 0) await out.writable();
    n++;
    meter.passed(n, performance.now());
  }
  return n;
}

function dataOf(bytes) {
  return Array.from({ length: flow.batchData }, (_, i) =>
    bytes.subarray(i * flow.datumBytes, (i + 1) * flow.datumBytes),
  );
}
