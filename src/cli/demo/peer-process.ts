/** One peer of the demo as its parent sees it: a child process, its last words, its fate. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { PeerCompleted, PeerFailed, PeerMessage, PeerStatus } from "./peer-messages.ts";

const MAIN = fileURLToPath(new URL("../main.js", import.meta.url));

export type PeerKind = "full-time" | "killed" | "late";
export type PeerState = "joining" | "running" | "completed" | "failed" | "killed";

export class PeerProcess {
  readonly name: string;
  readonly kind: PeerKind;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #started: Promise<void>;
  #start: () => void = () => undefined;
  readonly #settled: Promise<void>;
  #settle: () => void = () => undefined;
  #state: PeerState = "joining";
  #startedAt: number | undefined;
  #status: PeerStatus | undefined;
  #completed: PeerCompleted | undefined;
  #failure: PeerFailed | undefined;

  constructor(name: string, kind: PeerKind, server: string, title: string) {
    this.name = name;
    this.kind = kind;
    this.#settled = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#started = new Promise((resolve) => {
      this.#start = resolve;
    });
    const flags = ["demo-peer", "--server", server, "--title", title];
    this.#child = spawn(process.execPath, [MAIN, ...flags], {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.#exited = once(this.#child, "exit").then(() => this.#gone());
    this.#child.on("message", (message) => this.#heard(message as PeerMessage));
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }
  get state(): PeerState {
    return this.#state;
  }
  get startedAt(): number | undefined {
    return this.#startedAt;
  }
  get status(): PeerStatus | undefined {
    return this.#status;
  }
  get completed(): PeerCompleted | undefined {
    return this.#completed;
  }
  get failure(): PeerFailed | undefined {
    return this.#failure;
  }
  /** Resolves when it has found the session and where to start, has failed or is gone. */
  get started(): Promise<void> {
    return Promise.race([this.#started, this.#settled]);
  }
  /** Resolves when it has all, has failed or is gone. */
  get settled(): Promise<void> {
    return this.#settled;
  }
  get exited(): Promise<unknown> {
    return this.#exited;
  }

  /** SIGKILL: no word to anybody. */
  kill(): void {
    if (this.#state !== "completed" && this.#state !== "failed") this.#state = "killed";
    this.#child.kill("SIGKILL");
  }

  #heard(message: PeerMessage): void {
    switch (message.kind) {
      case "started":
        this.#startedAt = message.startedAt;
        if (this.#state === "joining") this.#state = "running";
        this.#start();
        break;
      case "status":
        this.#status = message;
        break;
      case "completed":
        this.#completed = message;
        this.#status = message.status;
        if (this.#state !== "killed") this.#state = "completed";
        this.#settle();
        break;
      case "failed":
        this.#failure = message;
        if (this.#state !== "killed") this.#state = "failed";
        this.#settle();
        break;
    }
  }

  #gone(): void {
    if (this.#state === "joining" || this.#state === "running") this.#state = "failed";
    this.#settle();
  }
}
