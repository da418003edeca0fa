/**
 * Runs `mp2p demo`, the main job: managing servers with an embedded store, a source peer with
 * thirteen data sources that replay real measurements, and peers as processes of their own. One peer
 * is killed on the way, one joins late. At the end everything is compared, and the exit code says
 * whether all of it holds.
 */

import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import type { EngineSource } from "../../host/engine-types.ts";
import { createEngine } from "../../host/node-engine.ts";
import { exampleSources, type ReplaySource, replay } from "../../host/node-replay.ts";
import { startServers, temporaryDataDir } from "../../host/node-servers.ts";
import type { DemoOptions } from "../demo-command.ts";
import { EXIT, type ExitCode } from "../exit.ts";
import { runContext } from "../run-kit.ts";
import type { Signals } from "../signals.ts";
import { bytesText, count, countText, dataText, secondsText } from "../units.ts";
import { WrittenData } from "./digest.ts";
import { DEMO_WINDOW_BYTES } from "./peer-messages.ts";
import { PeerProcess } from "./peer-process.ts";
import { type Check, judge, type PeerFacts } from "./verdict.ts";
import { DemoView, type Head } from "./view.ts";

const TITLE = "Seattle weather and the world's earthquakes";
/** When things happen, as shares of the data. */
const KILL_AT = 0.35;
const LATE_AT = 0.5;
/** After the stream a peer that is still on its way has this long to come, */
const JOIN_MS = 30_000;
/** and all have this long to get the rest. */
const COMPLETE_MS = 30_000;
const MEMORY_MIB = 32;

export async function runDemo(options: DemoOptions): Promise<ExitCode> {
  const { signals, logger } = await runContext("demo", options);
  const view = new DemoView(options, process.stdout);
  const sources = await exampleSources();
  const dataDir = await temporaryDataDir(tmpdir());
  const logging = logger === undefined ? {} : { logger };
  try {
    const servers = await startServers({ port: 0, dataDir, ...logging });
    try {
      const engine = await createEngine({ memoryMiB: MEMORY_MIB, ...logging });
      try {
        const server = servers.urls.oms ?? "";
        const roles = Object.keys(servers.urls).join(", ");
        view.say("serving", { server, adminUrl: servers.adminUrl }, `${roles} at ${server}`);
        const open = (delivery: "complete" | "live", waitPeers: number): Promise<EngineSource> =>
          engine.createSource({
            server,
            title: TITLE,
            dataSources: sources.map(({ sourceId, contentType, description }) => ({
              sourceId,
              contentType,
              description,
            })),
            delivery,
            waitPeers,
            node: { windowBytes: DEMO_WINDOW_BYTES },
          });
        const demo = new Demo(options, sources, server, view, signals);
        const session = await open("complete", options.peers);
        const code = await demo.run(session);
        if (!options.keep || signals.received !== undefined) return exitCodeOf(code, signals);
        const join = `mp2p join --server ${server} --title "${TITLE}"`;
        view.say("keeping", { server, title: TITLE }, `still replaying; try: ${join}`);
        await replayOn(() => open("live", 0), sources, options.speed, signals);
        return exitCodeOf(code, signals);
      } finally {
        await engine.close();
      }
    } finally {
      await servers.close();
    }
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** A failed verdict stands, whatever ended the demo afterwards. */
function exitCodeOf(verdict: ExitCode, signals: Signals): ExitCode {
  return verdict === EXIT.failure ? verdict : signals.exitCode(verdict);
}

/** Replays the sources over and over in a live session, until a signal. */
async function replayOn(
  open: () => Promise<EngineSource>,
  sources: readonly ReplaySource[],
  speed: number,
  signals: Signals,
): Promise<void> {
  const session = await open();
  while (!signals.signal.aborted) {
    await replay(session, sources, { speed, signal: signals.signal });
  }
  await session.end();
}

class Demo {
  readonly #options: DemoOptions;
  readonly #sources: readonly ReplaySource[];
  readonly #server: string;
  readonly #view: DemoView;
  readonly #signals: Signals;
  readonly #peers: PeerProcess[] = [];
  readonly #written = new Map<string, WrittenData>();
  readonly #dataCount: number;
  #dataSent = 0;
  #bytesSent = 0;

  constructor(
    options: DemoOptions,
    sources: readonly ReplaySource[],
    server: string,
    view: DemoView,
    signals: Signals,
  ) {
    this.#options = options;
    this.#sources = sources;
    this.#server = server;
    this.#view = view;
    this.#signals = signals;
    this.#dataCount = sources.reduce((sum, { events }) => sum + events.length, 0);
    for (const { sourceId } of sources) this.#written.set(sourceId, new WrittenData());
  }

  async run(session: EngineSource): Promise<ExitCode> {
    const { peers: peerCount } = this.#options;
    const beganMs = performance.now();
    const head = (): Head => this.#head(session, performance.now() - beganMs);
    this.#view.say(
      "session",
      { title: TITLE, sources: this.#sources.map(({ sourceId }) => sourceId) },
      `source peer with ${count(this.#sources.length, "data source", "data sources")}: ` +
        `${count(this.#dataCount, "measurement", "measurements")}, ${countText(this.#options.speed)} times faster than they were made`,
    );
    for (let i = 1; i <= peerCount; i++) {
      this.#start(`peer ${i}`, i === peerCount ? "killed" : "full-time");
    }
    const started = waitForMembers(session, peerCount);
    this.#view.follow(head, () => this.#peers);
    try {
      await Promise.race([started, this.#anyFailure(), this.#stopped()]);
      await this.#replay(session);
      if (this.#signals.received !== undefined) return EXIT.interrupted;
      // Who comes when all others have all finds no session any more.
      await this.#within(JOIN_MS, (peer) => peer.started);
      const ended = endOf(session);
      await this.#within(COMPLETE_MS, (peer) => peer.settled);
      this.#view.stop(head(), this.#peers);
      if (this.#signals.received !== undefined) return EXIT.interrupted;
      const checks = this.#judge(session);
      checks.push(await Promise.race([ended, this.#stopped().then(() => interruptedEnd)]));
      return this.#announce(checks, performance.now() - beganMs);
    } finally {
      this.#view.pause();
      for (const peer of this.#peers) peer.kill();
      await Promise.all(this.#peers.map((peer) => peer.exited));
    }
  }

  #start(name: string, kind: PeerProcess["kind"]): void {
    const peer = new PeerProcess(name, kind, this.#server, TITLE);
    this.#peers.push(peer);
    const what = kind === "late" ? "joins late" : "joins";
    this.#view.say("peer", { name, kind, pid: peer.pid }, `${name} ${what}, process ${peer.pid}`);
  }

  async #replay(session: EngineSource): Promise<void> {
    const killAt = Math.floor(KILL_AT * this.#dataCount);
    const lateAt = Math.floor(LATE_AT * this.#dataCount);
    await replay(session, this.#sources, {
      speed: this.#options.speed,
      signal: this.#signals.signal,
      onWritten: ({ sourceId, payload }) => {
        this.#written.get(sourceId)?.add(payload);
        this.#dataSent++;
        this.#bytesSent += payload.length;
        if (this.#dataSent === killAt) this.#killOne();
        if (this.#dataSent === lateAt) this.#start(`peer ${this.#peers.length + 1}`, "late");
      },
    });
  }

  #killOne(): void {
    const victim = this.#peers.find((peer) => peer.kind === "killed");
    if (victim === undefined) return;
    victim.kill();
    this.#view.say("killed", { name: victim.name }, `${victim.name} is killed (kill -9)`);
  }

  #waited(): PeerProcess[] {
    return this.#peers.filter((peer) => peer.kind !== "killed");
  }

  /** Waits for all peers that are to live, so long at most, and no longer than until a signal. */
  async #within(ms: number, come: (peer: PeerProcess) => Promise<void>): Promise<void> {
    await Promise.race([
      Promise.all(this.#waited().map(come)),
      this.#stopped(),
      new Promise((resolve) => setTimeout(resolve, ms).unref()),
    ]);
  }

  #stopped(): Promise<void> {
    return new Promise((resolve) => this.#signals.onFirst(() => resolve()));
  }

  /** Resolves when a peer that should live is gone: waiting for it would be in vain. */
  #anyFailure(): Promise<void> {
    return Promise.race(this.#waited().map((peer) => peer.settled));
  }

  #head(session: EngineSource, elapsedMs: number): Head {
    const { traffic, known } = session.status();
    const copies = traffic.fragmentsToPeers / Math.max(1, known);
    return {
      fields: {
        elapsedMs: Math.round(elapsedMs),
        dataSent: this.#dataSent,
        fragments: known,
        copies,
      },
      sentence:
        `${secondsText(elapsedMs)}  source: ${countText(this.#dataSent)} of ` +
        `${dataText(this.#dataCount)}, ${bytesText(this.#bytesSent)} in ` +
        `${count(known, "fragment", "fragments")}, sent ${copies.toFixed(2)}x`,
    };
  }

  #judge(session: EngineSource): Check[] {
    const { traffic, known } = session.status();
    return judge({
      written: this.#written,
      peers: this.#peers.map(factsOf),
      streamFragments: known,
      sourceFragments: traffic.fragmentsToPeers,
    });
  }

  #announce(checks: readonly Check[], elapsedMs: number): ExitCode {
    for (const check of checks) {
      const mark = check.passed ? "ok  " : "FAIL";
      this.#view.say("check", { ...check }, `${mark}  ${check.name}: ${check.detail}`);
    }
    const failed = checks.filter((check) => !check.passed).length;
    const passed = failed === 0;
    this.#view.say(
      "verdict",
      { passed, elapsedMs: Math.round(elapsedMs) },
      passed
        ? `verdict: all ${checks.length} checks hold, after ${secondsText(elapsedMs)}`
        : `verdict: ${count(failed, "check", "checks")} FAILED`,
    );
    return passed ? EXIT.ok : EXIT.failure;
  }
}

const ENDED = "the session ended in order";
const interruptedEnd: Check = { name: ENDED, passed: false, detail: "interrupted" };

/** Ends the session; how that went is one of the checks. */
async function endOf(session: EngineSource): Promise<Check> {
  try {
    await session.end();
    return { name: ENDED, passed: true, detail: "every peer in good standing had all" };
  } catch (error) {
    return { name: ENDED, passed: false, detail: String(error) };
  }
}

function factsOf(peer: PeerProcess): PeerFacts {
  const { name, kind, startedAt, completed, status, failure } = peer;
  return {
    name,
    kind,
    startedAt,
    digests: completed?.digests,
    gaps: completed?.gaps ?? 0,
    bytesFromSource: status?.bytesFromSource ?? 0,
    bytesFromPeers: status?.bytesFromPeers ?? 0,
    ...(failure === undefined ? {} : { failure: `${failure.code}: ${failure.message}` }),
  };
}

/** Resolves when so many peers are linked with the source, so that all start with the first datum. */
function waitForMembers(session: EngineSource, count: number): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (session.status().neighbours.length >= count) {
        stop();
        resolve();
      }
    };
    const stop = session.on("link", look);
    look();
  });
}
