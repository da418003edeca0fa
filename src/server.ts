/** The managing servers, for embedding: `import { startServers } from "mp2p-engine/server"`. */

export * from "./host/node-servers.ts";
