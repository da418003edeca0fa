/** Data sources on machines of their own: mp2p feed and the Python example, as processes. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { seededRng } from "../../src/base/rng.ts";
import { type MsgpackInput, writeMsgpack } from "../support/msgpack-writer.ts";
import { R11 } from "../support/raw-data-source.ts";
import { RawSourcePeer } from "../support/raw-source-peer.ts";
import { feed, fileOf, lines, rows, textOf } from "./feeds.ts";
import { cleanUp, freePort, join, Mp2p, serve, source, temporaryDirectory } from "./processes.ts";

afterEach(cleanUp);

const EXAMPLE = fileURLToPath(new URL("../../examples/data_source.py", import.meta.url));

interface Accepting {
  readonly process: Mp2p;
  readonly tcp: string;
  readonly ws: string;
}

async function accepting(
  url: string,
  title: string,
  ...flags: readonly string[]
): Promise<Accepting> {
  const process = source(url, title, "--accept", "0,ws://127.0.0.1:0", ...flags);
  const { addresses } = await process.event("accepting");
  const [tcp = "", ws = ""] = addresses as string[];
  return { process, tcp, ws };
}

describe("mp2p feed", () => {
  it("several data sources at once, over TCP and WebSocket, from files and pipes", async () => {
    const { url } = await serve();
    const at = await accepting(url, "plant", "--wait-sources", "4");
    const peer = join(url, "plant", "--format", "ndjson");
    const names = ["a", "b", "c", "d"];
    const texts = names.map((name, n) => lines(name, 3_000 + n, 300));
    const feeds = names.map((name, n) => {
      const to = n % 2 === 0 ? at.tcp : at.ws;
      if (n < 2) return feed(to, name, "--file", fileOf(texts[n] ?? ""));
      const piped = feed(to, name);
      piped.stdin.end(texts[n]);
      return piped;
    });
    expect(await Promise.all(feeds.map((one) => one.exit))).toEqual([0, 0, 0, 0]);
    for (const [n, one] of feeds.entries()) {
      expect(await one.event("done")).toMatchObject({ data: 3_000 + n, held: 3_000 + n });
    }
    // The last data source has ended: so does the session.
    expect(await at.process.exit).toBe(0);
    expect(await at.process.event("ending")).toMatchObject({ why: "last" });
    const members = { complete: 1, left: 0, behind: 0 };
    expect(await at.process.event("done")).toMatchObject({ acceptedData: 12_006, members });
    expect(await peer.exit).toBe(0);
    const all = rows(peer.output);
    expect(all.length).toBe(12_006);
    names.forEach((name, n) => {
      expect(textOf(all, name)).toBe(texts[n]);
    });
  }, 60_000);

  it("goes along with an input of the source peer's own, and may end the session", async () => {
    const { url } = await serve();
    const own = fileOf(lines("own", 500));
    const flags = ["--file", own, "--source-id", "local", "--end", "last"];
    const at = await accepting(url, "both", ...flags);
    const peer = join(url, "both", "--format", "ndjson");
    const taken = feed(at.tcp, "local");
    taken.stdin.end("x\n");
    expect(await taken.exit).toBe(1);
    expect(taken.events.at(-1)).toMatchObject({ event: "error", code: "SOURCE_REGISTERED" });
    const open = feed(at.tcp, "open", "--keep-open");
    open.stdin.end("first\n");
    expect(await open.exit).toBe(0);
    const again = feed(at.ws, "open", "--end-session");
    again.stdin.end("second\n");
    expect(await again.exit).toBe(0);
    expect(await again.event("registered")).toMatchObject({ next: 2 });
    expect(await at.process.event("ending")).toMatchObject({ why: "ordered" });
    expect(await at.process.exit).toBe(0);
    expect(await peer.exit).toBe(0);
    const all = rows(peer.output);
    expect(textOf(all, "local")).toBe(lines("own", 500));
    expect(textOf(all, "open")).toBe("first\nsecond\n");
  }, 60_000);

  it("to a data source that has ended says so, and that the session goes on", async () => {
    const { url } = await serve();
    const at = await accepting(url, "ends", "--wait-sources", "2");
    const peer = join(url, "ends", "--format", "ndjson");
    const first = feed(at.tcp, "a");
    first.stdin.end("1\n2\n");
    expect(await first.exit).toBe(0);
    const same = feed(at.tcp, "a", "--file", fileOf("1\n2\n"));
    expect(await same.exit).toBe(0);
    const more = feed(at.tcp, "a", "--file", fileOf("1\n2\n3\n"));
    expect(await more.exit).toBe(1);
    expect(more.events.at(-1)).toMatchObject({ event: "error", code: "SOURCE_ENDED" });
    expect(more.said).toContain("ended with datum 2: take another id, or leave it open");
    const other = feed(at.tcp, "b");
    other.stdin.end("3\n");
    expect([await other.exit, await at.process.exit, await peer.exit]).toEqual([0, 0, 0]);
    expect(textOf(rows(peer.output), "a")).toBe("1\n2\n");
  }, 60_000);

  it("SIGTERM stops reading a file, brings what was sent to the peers, and is no failure", async () => {
    const { url } = await serve();
    const at = await accepting(url, "stopped");
    const peer = join(url, "stopped", "--format", "ndjson");
    const text = lines("a", 20_000);
    const one = feed(at.tcp, "a", "--file", fileOf(text), "--rate", "200");
    await peer.wrote(5_000);
    one.kill("SIGTERM");
    expect(await one.exit, one.said).toBe(0);
    const { data } = (await one.event("done")) as unknown as { data: number };
    expect(data).toBeLessThan(2_000);
    expect(await one.event("done")).toMatchObject({ held: data });
    // The data source was left open: it goes on where it stopped.
    const rest = feed(at.tcp, "a", "--file", fileOf(text));
    expect(await rest.event("skipped")).toMatchObject({ data });
    expect([await rest.exit, await at.process.exit, await peer.exit]).toEqual([0, 0, 0]);
    expect(textOf(rows(peer.output), "a") === text).toBe(true);
  }, 60_000);

  it("says what is wrong: usage is exit 2, a session that may not be ended or is lost is not 0", async () => {
    const wrong = async (...args: string[]): Promise<number> => new Mp2p(["feed", ...args]).exit;
    expect(await wrong("--source-id", "a")).toBe(2);
    expect(await wrong("--to", "127.0.0.1:1")).toBe(2);
    expect(await wrong("--to", "nowhere", "--source-id", "a")).toBe(2);
    const nobody = ["--to", "127.0.0.1:1", "--source-id", "a", "--wait-ms", "100"];
    expect(await wrong(...nobody)).toBe(1);
    const { url } = await serve();
    const rotated = await accepting(url, "rotated", "--end", "owner");
    const reader = join(url, "rotated");
    const whole = ["--file", fileOf(lines("a", 20)), "--keep-open"];
    expect(await feed(rotated.tcp, "a", ...whole).exit).toBe(0);
    const shorter = feed(rotated.tcp, "a", "--file", fileOf(lines("b", 10)));
    expect(await shorter.exit).toBe(1);
    expect(shorter.said).toContain("the source peer has 20 data, the input only 10");
    rotated.process.kill("SIGTERM");
    expect([await rotated.process.exit, await reader.exit]).toEqual([0, 0]);
    // The port of the servers is one for WebSocket, and none of a source peer.
    const elsewhere = feed(url.replace("ws://", "tcp://"), "a", "--wait-ms", "2000");
    expect(await elsewhere.exit).toBe(1);
    expect(elsewhere.said).toContain("is no port where a source peer accepts data sources");
    const at = await accepting(url, "owned", "--end", "owner");
    const peer = join(url, "owned");
    const bold = feed(at.tcp, "a", "--end-session");
    bold.stdin.end("x\n");
    expect(await bold.exit).toBe(1);
    expect(bold.events.at(-1)).toMatchObject({ event: "error", code: "NOT_OWNER" });
    const waiting = feed(at.tcp, "b");
    await waiting.event("registered");
    at.process.kill("SIGINT");
    expect(await at.process.exit).toBe(130);
    // Its input is open still, and says nothing.
    expect(await waiting.exit, waiting.said).toBe(3);
    expect(await peer.exit).toBe(3);
  }, 60_000);

  it("killed and started again at random 50 times it loses and repeats nothing", async () => {
    const rng = seededRng(2026);
    const { url } = await serve();
    const at = await accepting(url, "kills", "--wait-sources", "2");
    const peer = join(url, "kills", "--format", "ndjson");
    let resumed = 0;
    // Two data sources side by side, each killed 25 times.
    const killed = async (name: string, text: string): Promise<void> => {
      const file = fileOf(text);
      for (let kills = 0; kills < 25; kills++) {
        const to = kills % 3 === 0 ? at.ws : at.tcp;
        const one = feed(to, name, "--file", file, "--rate", "10000");
        // Before it is linked, as it registers, or after so many more bytes have reached a peer.
        const kind = rng.below(8);
        if (kind > 2) {
          const { next } = await one.event("registered");
          if (Number(next) > 1) resumed++;
          if (kind > 3) await peer.wrote(peer.outBytes + 1 + rng.below(40_000));
        }
        one.kill("SIGKILL");
        expect(await one.exit).toBe(-1);
      }
      expect(await feed(at.tcp, name, "--file", file).exit).toBe(0);
    };
    const texts = { a: lines("a", 30_000, 60), b: lines("b", 30_000, 50) };
    await Promise.all(Object.entries(texts).map(([name, text]) => killed(name, text)));
    expect(await at.process.exit).toBe(0);
    expect(await peer.exit).toBe(0);
    expect(resumed).toBeGreaterThan(15);
    const all = rows(peer.output);
    expect(all.length).toBe(60_000);
    for (const [name, text] of Object.entries(texts)) {
      const mine = all.filter(({ sourceId }) => sourceId === name);
      expect(mine.every(({ sequence }, i) => sequence === i + 1)).toBe(true);
      expect(mine.map(({ payload }) => payload).join("") === text).toBe(true);
    }
  }, 240_000);
});

describe("a data source in Python", () => {
  const scripts: ChildProcess[] = [];
  const peers: RawSourcePeer[] = [];
  afterEach(() => {
    for (const script of scripts.splice(0)) script.kill("SIGKILL");
    for (const peer of peers.splice(0)) peer.close();
  });

  /** A Python that has msgpack: Debian's own first. */
  const python = (): string => {
    for (const command of ["/usr/bin/python3", "python3"]) {
      if (spawnSync(command, ["-c", "import msgpack"]).status === 0) return command;
    }
    throw new Error(
      "no Python 3 with msgpack: apt-get install -y python3 python3-msgpack (.ci/run does so as root)",
    );
  };
  const run = (args: readonly string[]): ChildProcess => {
    const script = spawn(python(), args, { stdio: ["pipe", "inherit", "pipe"] });
    scripts.push(script);
    return script;
  };

  it("sends lines that every peer gets, byte for byte", async () => {
    const { url } = await serve();
    const at = await accepting(url, "python", "--wait-peers", "2");
    const directory = temporaryDirectory();
    const outs = ["one", "two"].map((name) => path.join(directory, name));
    const peers = outs.map((out) => join(url, "python", "--out", out));
    const { hostname, port } = new URL(at.tcp.replace("tcp:", "http:"));
    const script = run([EXAMPLE, hostname, port, "snake"]);
    let said = "";
    script.stderr?.on("data", (text: Buffer) => {
      said += text.toString();
    });
    // More than one grant's worth, so that it has to wait for credit; a datum of several frames; no
    // end of a line at the end.
    const big = `${"b".repeat(400_000)}\n`;
    const text = Buffer.from(`${lines("ünïcode", 29_998, 120)}${big}the end`);
    expect(text.length).toBeGreaterThan(2 << 20);
    const ended = once(script, "close");
    script.stdin?.end(text);
    expect((await ended)[0], said).toBe(0);
    expect(said).toContain("peers hold all up to 30000");
    expect(await at.process.exit).toBe(0);
    expect(await Promise.all(peers.map((peer) => peer.exit))).toEqual([0, 0]);
    for (const out of outs) expect(Buffer.compare(readFileSync(out), text)).toBe(0);
  }, 60_000);

  /** The script before a source peer that the test plays; `said()`: what it has said. */
  const played = async () => {
    const peer = await RawSourcePeer.listen();
    peers.push(peer);
    const script = run([EXAMPLE, "127.0.0.1", `${peer.port}`, "snake"]);
    let said = "";
    script.stderr?.on("data", (text: Buffer) => {
      said += text.toString();
    });
    await peer.next(R11.REGISTER);
    return { peer, script, stdin: script.stdin as Writable, said: () => said };
  };
  const registered = (granted: number): MsgpackInput[] => [1, 0, granted, Buffer.alloc(16, 1), 1];

  it("sends what there is at once and answers PING while its input pauses", async () => {
    const { peer, script, stdin, said } = await played();
    peer.message(R11.REGISTERED, registered(1 << 20));
    stdin.write("first\nsec");
    // Its input stays open, and says no more: 25 s of silence would end the link.
    expect((await peer.next(R11.DATUM)).subarray(-6).toString()).toBe("first\n");
    for (const n of [1, 2]) {
      const token = Buffer.alloc(8, n);
      peer.send(R11.PING, token);
      expect(await peer.next(R11.PONG)).toEqual(token);
    }
    stdin.write("ond\n");
    expect((await peer.next(R11.DATUM)).subarray(-7).toString()).toBe("second\n");
    const ended = once(script, "close");
    stdin.end();
    expect(await peer.next(R11.TERMINATE)).toEqual(Buffer.from(writeMsgpack([0, 2])));
    peer.message(R11.TERMINATE, [0, 2]);
    expect((await ended)[0], said()).toBe(0);
  }, 60_000);

  it("sends no more than it is granted, and answers PING while it waits for credit", async () => {
    const { peer, script, stdin, said } = await played();
    const head = 8 + 32 + 8;
    peer.message(R11.REGISTERED, registered(head + 65_536));
    const text = `${"x".repeat(99_999)}\n`;
    stdin.write(text);
    const first = await peer.next(R11.DATUM);
    expect([first.readUInt32LE(20), first.readUInt32LE(24)]).toEqual([100_000, 0]);
    peer.send(R11.PING, Buffer.alloc(8, 3));
    await peer.next(R11.PONG);
    peer.message(R11.ACCEPTED, [0, 1 << 20]);
    const second = await peer.next(R11.DATUM);
    expect([second.readUInt32LE(20), second.readUInt32LE(24)]).toEqual([100_000, 65_536]);
    expect(`${first.subarray(40)}${second.subarray(40)}` === text).toBe(true);
    // A session that ends while its input is open has not taken all.
    const ended = once(script, "close");
    peer.message(R11.TERMINATE, [1, 1]);
    expect((await ended)[0]).toBe(1);
    expect(said()).toContain("peers hold all up to 1\nnothing after that is taken");
  }, 60_000);

  it("says what is wrong: no msgpack, no link, a line that no datum holds, a link that is lost", async () => {
    const saidBy = async (script: ChildProcess): Promise<string> => {
      let said = "";
      script.stderr?.on("data", (text: Buffer) => {
        said += text.toString();
      });
      expect((await once(script, "close"))[0]).toBe(1);
      expect(said).not.toContain("Traceback");
      return said;
    };
    // -S: without the packages of this machine.
    expect(await saidBy(run(["-S", EXAMPLE, "127.0.0.1", "1", "a"]))).toMatch(
      /has no msgpack: .+ -m pip install msgpack; or on Debian: apt-get install python3-msgpack/,
    );
    for (const port of ["abc", "65536", "-1"]) {
      expect(await saidBy(run([EXAMPLE, "127.0.0.1", port, "a"]))).toContain("data_source.py 127");
    }
    const nobody = ["127.0.0.1", `${await freePort()}`, "a"];
    expect(await saidBy(run([EXAMPLE, ...nobody]))).toContain("Connection refused");
    const { peer, script, stdin } = await played();
    peer.message(R11.REGISTERED, registered(1 << 20));
    stdin.on("error", () => undefined);
    stdin.write(Buffer.alloc((16 << 20) + 1, "x"));
    expect(await saidBy(script)).toContain("line 1 has more than 16777216 bytes");
    const lost = await played();
    lost.peer.close();
    expect(await saidBy(lost.script)).toContain("peers hold all up to 0");
  }, 60_000);

  it("is told in words why it is refused", async () => {
    const { url } = await serve();
    const at = await accepting(url, "refused");
    const { hostname, port } = new URL(at.tcp.replace("tcp:", "http:"));
    const script = run([EXAMPLE, hostname, port, ""]);
    script.stdin?.end("x\n");
    let said = "";
    script.stderr?.on("data", (text: Buffer) => {
      said += text.toString();
    });
    expect((await once(script, "close"))[0]).toBe(1);
    expect(said).toContain("MESSAGE_MALFORMED");
  }, 60_000);
});
