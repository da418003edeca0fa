/**
 * Data sources on links of their own (R11) at a real source peer: sockets on loopback, servers in
 * this process, frames written and read by code that is not from src/.
 */

import { afterAll, afterEach, beforeAll } from "vitest";
import type { Address } from "../../../src/base/machine.ts";
import {
  type AcceptSourcesOptions,
  createEngine,
  type Datum,
  type Engine,
  type EngineSource,
  type RemoteIntake,
} from "../../../src/index.ts";
import { type RunningServers, startServers } from "../../../src/server.ts";
import { RawDataSource } from "../../support/raw-data-source.ts";

let server = "";
let titles = 0;
const closing: { close(): unknown }[] = [];

/** Servers for all tests of a file; what a test opened is closed after it. */
export function useServers(): void {
  let servers: RunningServers;
  beforeAll(async () => {
    servers = await startServers({ port: 0, reportIntervalMs: 500, memberLeaseMs: 3_000 });
    server = servers.urls.oms ?? "";
  });
  afterEach(async () => {
    await Promise.all(closing.splice(0).map((one) => one.close()));
  });
  afterAll(() => servers.close());
}

/** Where the servers of this file's tests are. */
export const serverUrl = (): string => server;

/** A title that no other session of the file has. */
export function newTitle(): string {
  return `plant ${titles++}`;
}

export function later<T extends { close(): unknown }>(made: T): T {
  closing.unshift(made);
  return made;
}

export interface Scene {
  readonly title: string;
  readonly source: EngineSource;
  readonly intake: RemoteIntake;
  readonly tcp: Address;
  readonly ws: Address;
  /** Everything that a peer gets, to the end. */
  data(): Promise<Datum[]>;
}

export async function scene(
  options: Partial<AcceptSourcesOptions> = {},
  windowBytes = 8 << 20,
  waitMs = 0,
): Promise<Scene> {
  const title = newTitle();
  const engine: Engine = later(await createEngine({ memoryMiB: 32 }));
  const source = await engine.createSource({
    server,
    title,
    dataSources: [],
    waitMs,
    node: { windowBytes },
  });
  const intake = await source.acceptDataSources({
    listen: [{ transport: "tcp" }, { transport: "ws" }],
    dataId: "readings",
    end: "last",
    ...options,
  });
  const [tcp, ws] = intake.listening;
  if (tcp === undefined || ws === undefined) throw new Error("two addresses");
  const data = async (): Promise<Datum[]> => {
    const joined = later(await createEngine({ memoryMiB: 32 }));
    const peer = await joined.join({ server, title });
    const all: Datum[] = [];
    for await (const datum of peer.data()) all.push(datum);
    return all;
  };
  return { title, source, intake, tcp, ws, data };
}

export async function raw(address: Address): Promise<RawDataSource> {
  return later(await RawDataSource.connect(address));
}

/** What the index server says of a title, as a client over HTTP sees it. */
export async function query(title: string, dataSourceId = "", dataId = ""): Promise<string> {
  const answer = await fetch(`${server.replace("ws:", "http:")}/r6/query`, {
    method: "POST",
    body: JSON.stringify({ version: 0, title, dataSourceId, dataId }),
  });
  const body = (await answer.json()) as { code?: string; files?: string[]; gone?: object[] };
  if (body.code !== undefined) return body.code;
  return `${body.files?.length} files, ${body.gone?.length} gone`;
}

export const text = (value: string): Buffer => Buffer.from(value);
export const data = (...payloads: string[]): { payload: Buffer }[] =>
  payloads.map((payload) => ({ payload: text(payload) }));
