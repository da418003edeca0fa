/**
 * The managing servers and cache servers, for embedding:
 * `import { startServers, startCacheServer } from "mp2p-engine/server"`.
 */

export * from "./host/node-cache.ts";
export * from "./host/node-servers.ts";
