// Serves until it is killed. Arguments: module of the servers, data directory, port.
import { writeSync } from "node:fs";

const [serversModule, dataDir, port] = process.argv.slice(2);
const { startServers } = await import(serversModule);
try {
  const servers = await startServers({ dataDir, port: Number(port) });
  writeSync(1, `${JSON.stringify({ ...servers.urls, admin: servers.adminUrl })}\n`);
} catch (error) {
  writeSync(1, `${JSON.stringify({ failed: error.code })}\n`);
  process.exitCode = 1;
}
