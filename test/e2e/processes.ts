/** Real processes of the mp2p command, waited for by what they say, write and end with. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Writable } from "node:stream";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

type Event = Readonly<Record<string, unknown>> & { readonly event: string };

/** One process with --json: its events, the bytes of its standard output, its end. */
export class Mp2p {
  readonly pid: number;
  /** Everything it said on standard error. */
  said = "";
  readonly events: Event[] = [];
  readonly #child: ChildProcess;
  readonly #chunks: Uint8Array[] = [];
  readonly #ended: Promise<number>;
  readonly #waiting = new Set<() => void>();
  #outBytes = 0;
  #over = false;

  constructor(
    args: readonly string[],
    { json = true, stdoutTo = "pipe" }: { json?: boolean; stdoutTo?: "pipe" | number } = {},
  ) {
    const flags = json ? [...args, "--json"] : args;
    this.#child = spawn(process.execPath, [MAIN, ...flags], {
      stdio: ["pipe", stdoutTo, "pipe"],
      // Who is late is late on purpose here: no source waits for it.
      env: { MP2P_GATHER_MS: "0", MP2P_LATE_JOIN_MS: "0", ...process.env, NODE_OPTIONS: "" },
    });
    this.pid = this.#child.pid ?? -1;
    this.stdin.on("error", () => undefined);
    let line = "";
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.said += text;
      const lines = (line + text).split("\n");
      line = lines.pop() ?? "";
      for (const one of lines) if (one.startsWith("{")) this.events.push(JSON.parse(one) as Event);
      this.#changed();
    });
    this.#child.stdout?.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      this.#outBytes += chunk.length;
      this.#changed();
    });
    this.#ended = once(this.#child, "close").then(([code]: unknown[]) => {
      this.#over = true;
      this.#changed();
      return typeof code === "number" ? code : -1;
    });
    processes.add(this);
  }

  get stdin(): Writable {
    return this.#child.stdin as Writable;
  }
  /** What came over its standard output so far. */
  get output(): Buffer {
    return Buffer.concat(this.#chunks);
  }
  get outBytes(): number {
    return this.#outBytes;
  }
  /** Its exit code; -1 when a signal ended it. */
  get exit(): Promise<number> {
    return this.#ended;
  }

  /** Resolves with the first event of that name; rejects when the process ends without it. */
  async event(name: string): Promise<Event> {
    const find = (): Event | undefined => this.events.find(({ event }) => event === name);
    await this.until(() => find() !== undefined, `event ${name}`);
    return find() as Event;
  }

  /** Resolves when it has written so many bytes. */
  async wrote(bytes: number): Promise<void> {
    await this.until(() => this.#outBytes >= bytes, `${bytes} bytes of output`);
  }

  async until(holds: () => boolean, what: string): Promise<void> {
    while (!holds()) {
      if (this.#over) throw new Error(`ended without ${what}; it said:\n${this.said}`);
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /** Writes to its standard input at the pace it reads. */
  async feed(bytes: Uint8Array): Promise<void> {
    if (!this.stdin.write(bytes)) await once(this.stdin, "drain");
  }

  /** Stops reading its output: its pipe fills up, then breaks. */
  closeOutput(): void {
    this.#child.stdout?.destroy();
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  #changed(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

const processes = new Set<Mp2p>();
const directories: string[] = [];

/** Ends what a test left and removes its files; for afterEach. */
export async function cleanUp(): Promise<void> {
  for (const one of processes) one.kill("SIGKILL");
  await Promise.all([...processes].map((one) => one.exit));
  processes.clear();
  for (const directory of directories.splice(0))
    rmSync(directory, { recursive: true, force: true });
}

export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), "mp2p-e2e-"));
  directories.push(directory);
  return directory;
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

export interface Served {
  readonly process: Mp2p;
  readonly url: string;
  readonly adminUrl: string;
}

/** Servers that are ready. */
export async function serve(...flags: readonly string[]): Promise<Served> {
  const where = flags.includes("--data-dir") ? [] : ["--memory"];
  const port = flags.includes("--port") ? [] : ["--port", "0"];
  const process = new Mp2p(["serve", ...port, ...where, ...flags]);
  await process.until(() => process.output.includes("\n"), "ready line");
  const ready = JSON.parse(process.output.toString()) as {
    urls: { oms: string };
    adminUrl: string;
  };
  return { process, url: ready.urls.oms, adminUrl: ready.adminUrl };
}

export function join(url: string, title: string, ...flags: readonly string[]): Mp2p {
  return new Mp2p(["join", "--server", url, "--title", title, ...flags]);
}

export function source(url: string, title: string, ...flags: readonly string[]): Mp2p {
  return new Mp2p(["source", "--server", url, "--title", title, ...flags]);
}
