/**
 * The library in one process: servers, a source with two data sources, a peer that reads them.
 * Run it in a clone after `npm run build`; in your own project import "mp2p-engine".
 */

import { createEngine } from "mp2p-engine";
import { startServers } from "mp2p-engine/server";

const servers = await startServers({ port: 0 });
const server = servers.urls.oms;

const sender = await createEngine();
const source = await sender.createSource({
  server,
  title: "harbour",
  dataSources: [
    { sourceId: "wind", contentType: "text/plain" },
    { sourceId: "tide", contentType: "text/plain" },
  ],
});

const receiver = await createEngine({ memoryMiB: 16 });
const peer = await receiver.join({ server, title: "harbour" });
peer.on("gap", (gap) => console.error("lost", gap));
const reading = (async () => {
  for await (const { sourceId, sequence, payload } of peer.data()) {
    console.log(sourceId, sequence, new TextDecoder().decode(payload));
  }
})();

const text = new TextEncoder();
await source.dataSource("wind").push(text.encode("7.2 m/s"));
await source.dataSource("tide").push(text.encode("1.4 m"));
await source.dataSource("wind").push(text.encode("7.9 m/s"));

await source.end(); // resolves when every peer in good standing has all
await reading;
await Promise.all([sender.close(), receiver.close()]);
await servers.close();
