/**
 * A client written from docs/protocol.md alone gets every datum of a real session. Of src/ nothing
 * is used but what starts the engine and the servers.
 */

import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { createEngine } from "../../src/index.ts";
import { startServers } from "../../src/server.ts";
import { readMsgpack } from "../support/msgpack-reader.ts";
import { type MsgpackInput, writeMsgpack } from "../support/msgpack-writer.ts";
import { TinyPeer } from "./tiny-peer.ts";
import {
  helloFrame,
  type IndexFile,
  isSigned,
  type Key,
  keyOf,
  message,
  overlayTag,
  rangesFrame,
  readBuffermap,
  readFields,
  readIndexFile,
  readRanges,
  sha256,
} from "./wire.ts";

const NONCE = Buffer.alloc(32, 0x42);
const bytesOf = (value: unknown): Buffer => Buffer.from(String(value), "hex");

/** Compared in place of payloads: a megabyte byte by byte takes seconds. */
const digest = (payload: Uint8Array): string => sha256(payload).toString("hex");

interface Session {
  /** `http://host:port` of the servers. */
  readonly base: string;
  readonly write: (payload: Uint8Array) => Promise<void>;
  readonly end: () => Promise<void>;
}

async function startSession(title: string): Promise<Session> {
  const servers = await startServers({ port: 0 });
  onTestFinished(() => servers.close());
  const url = servers.urls.oms as string;
  const engine = await createEngine({ memoryMiB: 32 });
  onTestFinished(() => engine.close());
  const source = await engine.createSource({
    server: url,
    title,
    dataSources: [{ sourceId: "thermometer", contentType: "text/plain" }],
    fragmentBytes: 1024,
    node: { windowBytes: 256 * 1024 },
  });
  const data = source.dataSource("thermometer");
  return {
    base: url.replace(/^ws:/, "http:"),
    write: (payload) => data.push(payload, { timestampUs: 1_700_000_000_000_000 }),
    end: () => source.end(),
  };
}

async function post(
  base: string,
  operation: string,
  fields: object,
): Promise<Record<string, unknown>> {
  const response = await fetch(`${base}/${operation}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(fields),
  });
  return { status: response.status, ...((await response.json()) as object) };
}

async function findFile(base: string, title: string): Promise<IndexFile> {
  const query = { version: 0, title, dataSourceId: "", dataId: "" };
  const found = await post(base, "r6/query", query);
  expect(found.status).toBe(200);
  return readIndexFile(bytesOf((found.files as string[])[0]));
}

interface JsonMember {
  readonly peerId: string;
  readonly role: number;
  readonly candidates: readonly { transport: string; host: string; port: number }[];
}

/** Joins by JSON over HTTP and opens a link to the source peer. */
async function joinSession(base: string, file: IndexFile, key: Key, leaf = false) {
  const overlayId = Buffer.from(file.overlayId);
  const { nonce } = await post(base, "r5/challenge", {});
  const proof = Buffer.concat([Buffer.from("mp2p-r5-join-1"), bytesOf(nonce), overlayId]);
  const joined = await post(base, "r5/join", {
    overlayId: overlayId.toString("hex"),
    nonce,
    publicKey: key.publicKey.toString("hex"),
    signature: key.sign(proof).toString("hex"),
    candidates: [],
    role: 1,
  });
  expect(joined.status).toBe(200);
  const source = (joined.members as JsonMember[]).find((member) => member.role === 0);
  expect(source?.peerId).toBe(sha256(file.sourcePublicKey).toString("hex"));
  const candidate = source?.candidates.find(({ transport }) => transport === "tcp");
  if (candidate === undefined) throw new Error("the source peer has no address");
  const peer = await TinyPeer.connect({
    ...candidate,
    key,
    nonce: NONCE,
    overlayId,
    epoch: joined.sessionEpoch as number,
    expectedKey: file.sourcePublicKey,
    leaf,
  });
  onTestFinished(() => peer.destroy());
  const token = joined.memberToken as string;
  return { peer, overlayId: overlayId.toString("hex"), memberToken: token };
}

/** Data of all fragments in order; slices put together. */
function assemble(peer: TinyPeer): Buffer[] {
  const payloads: Buffer[] = [];
  let next = 1;
  let slices: Uint8Array[] = [];
  for (let index = 0; index <= (peer.endIndex as number); index++) {
    for (const datum of peer.fragments.get(index)?.data ?? []) {
      expect(datum.sequence).toBe(next);
      expect(datum.sourceId).toBe("thermometer");
      expect(datum.contentType).toBe("text/plain");
      expect(datum.timestampUs).toBe(1_700_000_000_000_000);
      slices.push(datum.payload);
      const { slice } = datum;
      if (slice !== undefined && slice.offset + datum.payload.length < slice.total) continue;
      payloads.push(Buffer.concat(slices));
      slices = [];
      next++;
    }
  }
  return payloads;
}

test("a client of the page joins over HTTP, proves itself and gets every datum to END", async () => {
  const session = await startSession("by the page");
  const file = await findFile(session.base, "by the page");
  expect(file).toMatchObject({ integrity: "checksum", delivery: "complete", fragmentBytes: 1024 });
  const key = keyOf(Buffer.alloc(32, 7));
  const { peer, overlayId, memberToken } = await joinSession(session.base, file, key);
  await peer.hello();
  peer.subscribe(file.substreams as number);
  // Small data that share fragments, an empty one, and one that is sliced over many.
  const sent = Array.from({ length: 500 }, (_, i) => Buffer.from(`${i} degrees`));
  sent.splice(250, 0, Buffer.alloc(0), Buffer.alloc(20_000, "sliced "));
  for (const payload of sent) await session.write(payload);
  const ended = session.end();
  await peer.until(() => peer.endIndex !== undefined, "END");
  expect(assemble(peer).map(digest)).toEqual(sent.map(digest));
  expect(peer.fragments.get(peer.endIndex as number)?.ended).toEqual(
    new Map([["thermometer", sent.length]]),
  );
  const [tag, mask] = readFields(await peer.next("ACCEPT"));
  expect([Buffer.from(tag as Uint8Array), mask]).toEqual([peer.tag, 0xff]);
  // The source peer ends in order only if it takes our HAVE for what it is.
  await ended;
  expect(Buffer.from(readFields(await peer.next("BYE"))[0] as Uint8Array)).toEqual(peer.tag);
  await peer.until(() => peer.closed, "the end of the link");
  const peerId = key.peerId.toString("hex");
  const left = await post(session.base, "r5/leave", { overlayId, peerId, memberToken });
  expect(left).toMatchObject({ status: 410, code: "OVERLAY_GONE", detail: "removed" });
});

test("a client that relays nothing gets more than a window by receipts alone", async () => {
  const session = await startSession("leaf");
  const file = await findFile(session.base, "leaf");
  const { peer } = await joinSession(session.base, file, keyOf(Buffer.alloc(32, 12)), true);
  await peer.hello();
  peer.subscribe(file.substreams as number);
  // Four times the source peer's window: without receipts it would stand still.
  const sent = Array.from({ length: 100 }, (_, i) => Buffer.alloc(10_000, `${i} `));
  for (const payload of sent) await session.write(payload);
  const ended = session.end();
  await peer.until(() => peer.endIndex !== undefined, "END");
  expect(assemble(peer).map(digest)).toEqual(sent.map(digest));
  await ended;
});

test("nothing is pushed without credit, and no more than credit allows", async () => {
  const session = await startSession("credit");
  const file = await findFile(session.base, "credit");
  const { peer } = await joinSession(session.base, file, keyOf(Buffer.alloc(32, 13)));
  await peer.hello();
  peer.subscribe(file.substreams as number, 2);
  await peer.next("BUFFERMAP");
  await session.write(Buffer.alloc(5_000, "x"));
  for (let known = 0; known < 4; ) {
    const last = readRanges(await peer.next("HAVE")).ranges.at(-1) as [number, number];
    known = last[0] + last[1];
  }
  // What was pushed before the PONG has arrived before it.
  peer.ping(Buffer.alloc(8));
  await peer.next("PONG");
  expect([...peer.fragments.keys()]).toEqual([0, 1]);
  peer.credit(4);
  await peer.until(() => peer.fragments.size >= 4, "what the new credit allows");
  expect([...peer.fragments.keys()]).toEqual([0, 1, 2, 3]);
});

test("GET, GONE, REFRESH, PING and ERROR answer as the page says", async () => {
  const session = await startSession("asked for");
  const file = await findFile(session.base, "asked for");
  const { peer } = await joinSession(session.base, file, keyOf(Buffer.alloc(32, 8)));
  await peer.hello();
  expect(readBuffermap(await peer.next("BUFFERMAP"))).toEqual({ start: 0, held: [] });
  await session.write(Buffer.alloc(3_000, "x"));
  const have = readRanges(await peer.next("HAVE"));
  expect(have.start).toBe(0);
  const [first, count] = have.ranges[0] as [number, number];
  expect(first).toBe(0);
  expect(count).toBeGreaterThanOrEqual(3);

  // Asked for before it is granted: let go. What comes after that is answered.
  peer.get(0, 1);
  peer.credit(100);
  peer.get(1, 2);
  await peer.until(() => peer.fragments.size === 2, "two fragments");
  expect([...peer.fragments.keys()]).toEqual([1, 2]);
  peer.get(90, 2);
  expect(readRanges(await peer.next("GONE")).ranges).toEqual([[90, 2]]);

  peer.send(message("REFRESH", [peer.tag]));
  const map = readBuffermap(await peer.next("BUFFERMAP"));
  expect(map.held.slice(0, 3)).toEqual([0, 1, 2]);

  const token = Buffer.from("12345678");
  peer.ping(token);
  expect((await peer.next("PONG")).bytes.subarray(8)).toEqual(token);

  // An overlay that is not shared: BYE with its tag, and the link goes on.
  const other = { overlayId: Buffer.alloc(16, 3), epoch: 1, role: 1, step: 0 as const };
  const { publicKey } = keyOf(Buffer.alloc(32, 8));
  const none = Buffer.alloc(0);
  peer.send(helloFrame({ ...other, publicKey, nonce: NONCE, signature: none }));
  const [tag, code] = readFields(await peer.next("BYE"));
  expect(tag).toEqual(overlayTag(other.overlayId, other.epoch));
  expect(code).toBe("WRONG_OVERLAY");
  peer.get(0, 1);
  await peer.until(() => peer.fragments.size === 3, "one more fragment");

  peer.send(rangesFrame("GET", Buffer.alloc(8, 1), 0, [[0, 1]]));
  expect(readFields(await peer.next("ERROR"))[0]).toBe("WRONG_OVERLAY");
  await expect(peer.next("PONG")).rejects.toThrow("closed");
});

test("a wrong proof, a foreign epoch and DATA to the source peer close the link", async () => {
  const session = await startSession("refused");
  const file = await findFile(session.base, "refused");
  const key = keyOf(Buffer.alloc(32, 9));
  const liar = { ...key, sign: (bytes: Uint8Array) => keyOf(Buffer.alloc(32, 10)).sign(bytes) };
  const { peer } = await joinSession(session.base, file, key);
  const options = { key: liar, nonce: NONCE, overlayId: file.overlayId, epoch: 1 };
  const { host, port } = peer.remote;
  const second = await TinyPeer.connect({ ...options, host, port });
  onTestFinished(() => second.destroy());
  await second.hello();
  expect(readFields(await second.next("ERROR"))[0]).toBe("IDENTITY_UNPROVEN");
  const third = await TinyPeer.connect({ ...options, epoch: 2, host, port });
  onTestFinished(() => third.destroy());
  await expect(third.hello()).rejects.toThrow("closed");
  expect(readFields(await third.next("ERROR"))[0]).toBe("WRONG_OVERLAY");
  await peer.hello();
  await peer.next("BUFFERMAP");
  const data = Buffer.alloc(40);
  Buffer.from("28000000b6010100", "hex").copy(data);
  peer.tag.copy(data, 16);
  peer.send(data);
  expect(readFields(await peer.next("ERROR"))[0]).toBe("FRAGMENT_TO_SOURCE");
});

test("the same operations over WebSocket, and the report interval of a PAMS", async () => {
  const session = await startSession("signalled");
  const file = await findFile(session.base, "signalled");
  const socket = new WebSocket(session.base.replace(/^http:/, "ws:"));
  onTestFinished(() => socket.terminate());
  await once(socket, "open");
  let requestId = 0;
  const ask = async (type: number, fields: readonly MsgpackInput[]): Promise<unknown[]> => {
    socket.send(writeMsgpack([type, ++requestId, ...fields]));
    const [bytes] = (await once(socket, "message")) as [Buffer];
    const [kind, id, ...rest] = readMsgpack(bytes) as unknown[];
    expect(id).toBe(requestId);
    if (kind === 0xff) return ["failure", ...rest];
    expect(kind).toBe(type + 0x80);
    return rest;
  };
  const key = keyOf(Buffer.alloc(32, 11));
  const [nonce] = (await ask(0x40, [])) as [Uint8Array];
  const proof = Buffer.concat([Buffer.from("mp2p-r5-join-1"), nonce, file.overlayId]);
  const signature = key.sign(proof);
  const fields = [file.overlayId, nonce, key.publicKey, signature, [["tcp", "0.0.0.0", 9]], 1];
  const joined = await ask(0x45, fields);
  const [leaseMs, memberToken, epoch, pamsUrl] = joined as [number, Uint8Array, number, string];
  expect([leaseMs, epoch]).toEqual([30_000, 1]);
  expect(pamsUrl).toMatch(/^ws:/);
  // A nonce is good for one use.
  expect((await ask(0x45, fields)).slice(0, 2)).toEqual(["failure", "IDENTITY_UNPROVEN"]);

  const register = [file.overlayId, key.peerId, 1];
  expect((await ask(0x20, register)).slice(0, 2)).toEqual(["failure", "IDENTITY_UNPROVEN"]);
  const [pamsNonce] = (await ask(0x24, [])) as [Uint8Array];
  const statement = Buffer.concat([Buffer.from("mp2p-r2-register-1"), pamsNonce, file.overlayId]);
  const own = [...register, pamsNonce, key.publicKey, key.sign(statement)];
  const [intervalMs, peerToken] = (await ask(0x20, own)) as [number, Uint8Array];
  expect(intervalMs).toBe(10_000);
  const status = [file.overlayId, key.peerId, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
  expect((await ask(0x21, status)).slice(0, 2)).toEqual(["failure", "UNKNOWN_PEER"]);
  expect(await ask(0x21, [...status, 0, 0, 0, 0, 6, [], peerToken])).toEqual([]);
  const refreshed = await ask(0x46, [file.overlayId, key.peerId, memberToken]);
  // Seen at loopback, where it says it accepts links: inbound.
  expect(refreshed).toEqual([30_000, 1, 1]);
  const [members] = (await ask(0x47, [file.overlayId, key.peerId, memberToken, 5])) as [unknown[]];
  expect(members).toHaveLength(1);
  expect(await ask(0x48, [file.overlayId, key.peerId, memberToken])).toEqual([]);
  const gone = await ask(0x46, [file.overlayId, key.peerId, memberToken]);
  expect(gone.slice(0, 2)).toEqual(["failure", "UNKNOWN_PEER"]);
  expect((await ask(0x70, [])).slice(0, 2)).toEqual(["failure", "MESSAGE_UNKNOWN"]);
  // Positions that a later version may add are skipped.
  expect(await ask(0x40, ["of a later version", 1])).toHaveLength(1);
  expect(isSigned(key.publicKey, proof, signature)).toBe(true);
});
