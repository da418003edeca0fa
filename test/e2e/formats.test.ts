/** One source and three peers, in any order of starting: three outputs equal to the input. */

import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import {
  cleanUp,
  freePort,
  join,
  type Mp2p,
  serve,
  source,
  temporaryDirectory,
} from "./processes.ts";

const MIB = 1024 * 1024;

afterEach(cleanUp);

function text(): Buffer {
  const lines = ["first\n", "\n", "\r\n", "naïve Ω 漢字 🦋\n", "cr\rinside\n", "\n\n"];
  return Buffer.concat([
    Buffer.from(lines.join("")),
    Buffer.alloc(5 * MIB, "x"),
    Buffer.from("\n"),
    Buffer.from(Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join("")),
    Buffer.from("the last one has no end"),
  ]);
}

function ndjson(): Buffer {
  const rows = Array.from({ length: 30_000 }, (_, i) =>
    JSON.stringify({ i, word: `${i}ß`, deep: [i] }),
  );
  return Buffer.from(`${rows.join("\n")}\n`);
}

function framed(): Buffer {
  const sizes = [0, 1, 0, 16_384, 300_000, 16 * MIB, 0, 65_535, 0];
  return Buffer.concat(
    sizes.flatMap((size) => {
      const header = Buffer.alloc(4);
      header.writeUInt32LE(size);
      return [header, randomBytes(size)];
    }),
  );
}

type Step = "serve" | "join" | "source";

/**
 * Nothing tells the source how many will come. Its own patience (3 s) is for processes that start
 * along with it: here 20 do, on two cores that others may use too. What fills the window is gathered
 * for; what does not is all sent before the last one has started, and is stayed for.
 */
const GATHERED = ["--gather-ms", "10000"];
const STAYED_FOR = ["--late-join-ms", "10000"];

interface Case {
  readonly name: string;
  readonly format: string;
  readonly outputFormat: string;
  readonly input: () => Buffer;
  readonly order: readonly Step[];
  readonly patience: readonly string[];
}

const CASES: readonly Case[] = [
  {
    name: "text lines",
    format: "lines",
    outputFormat: "payload",
    input: text,
    order: ["serve", "join", "source"],
    patience: STAYED_FOR,
  },
  {
    name: "NDJSON",
    format: "ndjson",
    outputFormat: "payload",
    input: ndjson,
    order: ["serve", "source", "join"],
    patience: STAYED_FOR,
  },
  {
    name: "64 MiB of random bytes",
    format: "raw",
    outputFormat: "payload",
    input: () => randomBytes(64 * MIB),
    order: ["serve", "join", "source"],
    patience: GATHERED,
  },
  {
    name: "framed data of 0 bytes to 16 MiB",
    format: "framed",
    outputFormat: "framed",
    input: framed,
    order: ["join", "source", "serve"],
    patience: GATHERED,
  },
];

describe("three peers get what the source reads", () => {
  it("whatever the format and the order of starting", async () => {
    await Promise.all(CASES.map(carries));
  }, 120_000);
});

async function carries(one: Case): Promise<void> {
  const { name, format, outputFormat, input, order, patience } = one;
  const directory = temporaryDirectory();
  const file = path.join(directory, "input");
  const bytes = input();
  writeFileSync(file, bytes);
  const outputs = [1, 2, 3].map((i) => path.join(directory, `output-${i}`));
  const port = await freePort();
  const url = `ws://127.0.0.1:${port}`;
  const peers: Mp2p[] = [];
  let sender: Mp2p | undefined;
  for (const step of order) {
    if (step === "serve") await serve("--port", String(port));
    if (step === "source") {
      sender = source(url, "t", "--file", file, "--format", format, ...patience);
    }
    if (step === "join") {
      for (const output of outputs) {
        peers.push(join(url, "t", "--out", output, "--format", outputFormat));
      }
    }
  }
  const codes = await Promise.all(peers.map((peer) => peer.exit));
  const failed = peers.find((_peer, i) => codes[i] !== 0);
  expect(codes, `${name}, started ${order}: ${failed?.said}`).toEqual([0, 0, 0]);
  expect(await sender?.exit, `${name}: ${sender?.said}`).toBe(0);
  for (const output of outputs) {
    expect(Buffer.compare(readFileSync(output), bytes), `${name}: ${output} differs`).toBe(0);
  }
}

describe("standard input and output", () => {
  it("carry data like files do", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t");
    sender.stdin.end("one\n\ntwo\r\nthree");
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.output.toString()).toBe("one\n\ntwo\r\nthree");
  });

  it("give an empty output for an empty input", async () => {
    const { url } = await serve();
    const peer = join(url, "t");
    const sender = source(url, "t");
    sender.stdin.end();
    expect([await sender.exit, await peer.exit]).toEqual([0, 0]);
    expect(peer.outBytes).toBe(0);
  });

  it("as ndjson name source, sequence and encoding, and leave out other sources", async () => {
    const { url } = await serve();
    const peer = join(url, "t", "--format", "ndjson");
    const other = join(url, "t", "--source-id", "wind", "--format", "payload");
    const sender = source(url, "t", "--source-id", "wind", "--wait-peers", "2");
    sender.stdin.end("calm\n");
    expect([await sender.exit, await peer.exit, await other.exit]).toEqual([0, 0, 0]);
    expect(JSON.parse(peer.output.toString())).toMatchObject({
      sourceId: "wind",
      sequence: 1,
      payload: "calm\n",
      encoding: "utf8",
    });
    expect(other.output.toString()).toBe("calm\n");
  });
});
