/** Sockets of strangers against an engine that listens: none of them keeps a peer from joining. */

import net from "node:net";
import { afterEach, expect, it } from "vitest";
import { LINKS_PENDING_MAX } from "../../src/base/limits.ts";
import { createEngine, type Engine } from "../../src/index.ts";
import { type RunningServers, startServers } from "../../src/server.ts";

const open: { close(): Promise<void> }[] = [];
const sockets: net.Socket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const each of open.splice(0).reverse()) await each.close();
});

function kept<T extends { close(): Promise<void> }>(each: T): T {
  open.push(each);
  return each;
}

/** A stranger that says `bytes`, reads nothing and never closes its side. */
async function stranger(port: number, bytes: Uint8Array): Promise<void> {
  const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  socket.on("error", () => undefined);
  sockets.push(socket);
  await new Promise((resolve) => socket.once("connect", resolve));
  if (bytes.length > 0) socket.write(bytes);
}

it.each([
  ["silent", new Uint8Array(0)],
  ["refused", new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
  ["inside their first frame", Uint8Array.of(200, 0, 0, 0, 0xb6, 1)],
])("any number of strangers who are %s keep nobody out, and cost no segment", async (_, bytes) => {
  const servers: RunningServers = kept(await startServers({ port: 0 }));
  const server = servers.urls.oms ?? "";
  const sender: Engine = kept(await createEngine({ memoryMiB: 16 }));
  const [at] = sender.listening;
  const source = await sender.createSource({
    server,
    title: "crowd",
    dataSources: [{ sourceId: "s" }],
  });
  const before = sender.status().memory.freeSegments;
  for (let i = 0; i < 3 * LINKS_PENDING_MAX; i++) await stranger(at?.port ?? 0, bytes);
  expect(sender.status().memory.freeSegments).toBe(before);
  const receiver: Engine = kept(await createEngine({ memoryMiB: 16 }));
  const peer = await receiver.join({ server, title: "crowd", waitMs: 10_000 });
  await source.dataSource("s").push(new TextEncoder().encode("hello"));
  const [first] = await Promise.all([peer.data().next(), source.end()]);
  expect(new TextDecoder().decode(first.value?.payload)).toBe("hello");
});
