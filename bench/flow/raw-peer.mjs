// The yardstick's receiver: node raw-peer.mjs CASE-AS-JSON. Plain node:net into one static buffer;
// it counts bytes and looks at none: what is measured against it checks every byte.
import net from "node:net";
import { finish, Meter } from "./child.mjs";

const { flow, warmSeconds, seconds } = JSON.parse(process.argv[2]);
const READ_BYTES = 256 * 1024;

const meter = new Meter({ warmSeconds, seconds });
let receivedBytes = 0;
let endMs = 0;
let adopted;
// net.Server has no onread: the accepted handle moves to a socket that has one.
const server = net.createServer({ pauseOnConnect: true }, (accepted) => {
  const handle = accepted._handle;
  accepted._handle = null;
  adopted = new net.Socket({
    handle,
    onread: { buffer: Buffer.alloc(READ_BYTES), callback: onRead },
    manualStart: true,
    noDelay: true,
  });
  adopted.on("end", onEnd);
  adopted.resume();
});
server.listen(0, "127.0.0.1", () => {
  process.send({ kind: "ready", port: server.address().port });
});

function onRead(bytes) {
  receivedBytes += bytes;
  endMs = performance.now();
  meter.passed(receivedBytes / flow.datumBytes, endMs);
  return true;
}

function onEnd() {
  const received = receivedBytes / flow.datumBytes;
  const figures = meter.report(received, endMs);
  adopted.destroy();
  server.close();
  finish({ received, ...figures, gaps: 0, wrong: "" });
}
