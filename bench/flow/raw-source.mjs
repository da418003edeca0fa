// The yardstick's sender: node raw-source.mjs CASE-AS-JSON. Plain node:net, one writev a batch.
import net from "node:net";
import { finish, Meter, told } from "./child.mjs";
import { Content } from "./content.mjs";

const { flow, warmSeconds, seconds } = JSON.parse(process.argv[2]);
/** Batches handed to the socket ahead of the kernel. */
const AHEAD = 4;

const content = new Content(flow.datumBytes, flow.batchData);
const meter = new Meter({ warmSeconds, seconds });
process.send({ kind: "ready" });
const { port } = await told("go");
const socket = net.connect({ host: "127.0.0.1", port, noDelay: true });
await new Promise((resolve, reject) => {
  socket.once("connect", resolve);
  socket.once("error", reject);
});

const slots = Array.from({ length: AHEAD }, () => {
  const payloads = new Uint8Array(flow.datumBytes * flow.batchData);
  const data = Array.from({ length: flow.batchData }, (_, i) =>
    payloads.subarray(i * flow.datumBytes, (i + 1) * flow.datumBytes),
  );
  return { payloads, view: new DataView(payloads.buffer), data };
});
let batch = 0;
await Promise.all(slots.map(writeInTurn));
const written = batch * flow.batchData;
const figures = meter.report(written, performance.now());
await new Promise((resolve) => socket.end(resolve));
finish({ written, ...figures });

async function writeInTurn({ payloads, view, data }) {
  while (!meter.isOver(performance.now())) {
    content.fill(batch, payloads, view, 0);
    batch++;
    meter.passed(batch * flow.batchData, performance.now());
    await new Promise((resolve, reject) => {
      socket.cork();
      const last = data.length - 1;
      for (let i = 0; i < last; i++) socket.write(data[i]);
      socket.write(data[last], (error) => (error ? reject(error) : resolve()));
      socket.uncork();
    });
  }
}
