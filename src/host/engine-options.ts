/** What the options of an engine, its sessions, its feeds and of a cache server may be. */

import * as limits from "../base/limits.ts";
import type { NodeSettings } from "../peer/settings.ts";
import type {
  AcceptListen,
  AcceptSourcesOptions,
  DataFeedOptions,
  DataSourceOptions,
  EndOptions,
  EngineOptions,
  JoinOptions,
  ServerUrls,
  SourceOptions,
} from "./engine-types.ts";
import type { CacheServerOptions } from "./node-cache-types.ts";
import {
  bytes,
  callback,
  flag,
  type Kinds,
  list,
  logger,
  needed,
  number,
  object,
  oneOf,
  patience,
  signal,
  text,
  whole,
} from "./options.ts";

const WORKERS_MAX = 64;
const port = whole(0, 65_535);
const ms = number(0);
const patienceMs = patience(0);
const rate = number(limits.RATE_LIMIT_MIN, limits.RATE_LIMIT_MAX);

export const ENGINE_OPTIONS: Kinds<EngineOptions> = {
  memoryMiB: whole(limits.MEMORY_MIB_MIN, limits.MEMORY_MIB_MAX),
  workers: whole(0, WORKERS_MAX),
  listen: object<NonNullable<EngineOptions["listen"]>>({ host: text, port }),
  advertise: list(
    object<{ host: string; port: number }>({ host: needed(text), port: needed(port) }),
  ),
  allowPlaintext: flag,
  identitySeed: bytes,
  maxLinks: whole(1, limits.LINKS_MAX_MOST),
  uploadLimitBytesPerSecond: rate,
  downloadLimitBytesPerSecond: rate,
  networkDistance: callback,
  debug: flag,
  logger,
  signal,
};

const SERVERS: Kinds<ServerUrls> = { server: text, oms: text, ixs: text };

const node = object<NodeSettings>({
  windowFragments: whole(limits.WINDOW_FRAGMENTS_MIN, limits.WINDOW_FRAGMENTS_MAX),
  windowBytes: whole(limits.WINDOW_BYTES_MIN, limits.WINDOW_BYTES_MAX),
  windowMs: ms,
  stallMs: ms,
  repairMs: ms,
  holdMs: ms,
  lingerMs: ms,
  maxDelayMs: ms,
});

export const SOURCE_OPTIONS: Kinds<SourceOptions> = {
  ...SERVERS,
  title: needed(text),
  dataSources: needed(
    list(
      object<DataSourceOptions>({
        sourceId: needed(text),
        dataId: text,
        contentType: text,
        description: text,
      }),
    ),
  ),
  fragmentBytes: whole(limits.FRAGMENT_BYTES_MIN, limits.FRAGMENT_BYTES_MAX),
  integrity: oneOf("signed", "checksum", "none"),
  delivery: oneOf("complete", "live"),
  substreams: whole(1, limits.SUBSTREAMS_MAX),
  maxLagMs: whole(0, limits.LAG_MS_MAX),
  waitPeers: whole(0),
  gatherMs: ms,
  waitMs: ms,
  virtualPeers: object<NonNullable<SourceOptions["virtualPeers"]>>({
    count: needed(whole(0, limits.OVERLAY_VIRTUAL_PEERS_MAX)),
    priority: needed(whole(0, limits.PRIORITY_MAX)),
  }),
  onNote: callback,
  node,
  signal,
};

export const JOIN_OPTIONS: Kinds<JoinOptions> = {
  ...SERVERS,
  title: text,
  sourceId: text,
  dataId: text,
  from: oneOf("oldest", "live", "start"),
  consume: flag,
  waitMs: patienceMs,
  onNote: callback,
  virtualIn: text,
  dial: list(text),
  followRestarts: flag,
  node,
  signal,
};

export const END_OPTIONS: Kinds<EndOptions> = { lateJoinMs: ms, waitForPeers: flag };

export const ACCEPT_OPTIONS: Kinds<AcceptSourcesOptions> = {
  listen: needed(list(object<AcceptListen>({ transport: oneOf("tcp", "ws"), host: text, port }))),
  end: oneOf("last", "owner"),
  waitSources: whole(0),
  dataId: text,
  minHolders: whole(1),
};

export const FEED_OPTIONS: Kinds<DataFeedOptions> = {
  to: needed(text),
  allowPlaintext: flag,
  sourceId: needed(text),
  dataId: text,
  contentType: text,
  description: text,
  held: whole(0),
  numbering: whole(0, 0xffff_ffff),
  passesLost: flag,
  keepMiB: number(0),
  maxDelayMs: ms,
  retryMs: patienceMs,
  onNote: callback,
  logger,
  signal,
};

const { memoryMiB, workers, allowPlaintext, identitySeed, maxLinks, listen, advertise } =
  ENGINE_OPTIONS;

export const CACHE_OPTIONS: Kinds<CacheServerOptions> = {
  ...SERVERS,
  serviceKey: needed(bytes),
  label: text,
  virtualPeers: whole(1, limits.VIRTUAL_PEERS_MAX),
  overlaysPerPeer: whole(1, limits.OVERLAYS_PER_VIRTUAL_PEER_MAX),
  memoryMiB,
  workers,
  allowPlaintext,
  identitySeed,
  maxLinks,
  listen,
  advertise,
  uploadLimitBytesPerSecond: rate,
  downloadLimitBytesPerSecond: rate,
  node,
  logger,
  signal,
};
