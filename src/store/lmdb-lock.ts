/**
 * One server to a data directory. The lock is a listening socket in it: the system gives it up with
 * its process, however that ends, and it is seen from other containers that share the directory.
 * What a dead process leaves behind is a socket file that refuses connections; it is taken over.
 */

import { createHash } from "node:crypto";
import { closeSync, mkdirSync, openSync, realpathSync, rmSync, statSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";
import { OperationError } from "../base/errors.ts";

export interface DirectoryLock {
  release(): Promise<void>;
}

const LOCK_NAME = "lock";
/** Held for milliseconds while a stale lock is replaced; older ones are left from a crash. */
const TAKEOVER_NAME = "lock.takeover";
const TAKEOVER_MS_MAX = 5_000;
const ATTEMPTS = 50;
/** Longest path of a local socket on the systems we know, less one. */
const SOCKET_PATH_MAX = 103;

/** Rejects with OperationError DATA_DIR_IN_USE or DATA_DIR_UNUSABLE. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = socketPath(directory);
  const lock = await listen(path.path, directory);
  if (lock !== undefined) return held(lock, path.release);
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const owner = await ownerOf(path.path);
      if (owner !== undefined) {
        throw new OperationError("DATA_DIR_IN_USE", { detail: `${directory}, process ${owner}` });
      }
      if (!enterTakeover(directory)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        continue;
      }
      try {
        // Somebody may have taken it over since we looked.
        if ((await ownerOf(path.path)) !== undefined) continue;
        rmSync(join(directory, LOCK_NAME), { force: true });
        const taken = await listen(path.path, directory);
        if (taken !== undefined) return held(taken, path.release);
      } finally {
        rmSync(join(directory, TAKEOVER_NAME), { recursive: true, force: true });
      }
    }
    throw new OperationError("DATA_DIR_IN_USE", { detail: `${directory}, another server starts` });
  } catch (error) {
    path.release();
    throw error;
  }
}

function held(server: net.Server, releasePath: () => void): DirectoryLock {
  return {
    release: () =>
      new Promise((resolve) => {
        // Closing removes the socket file.
        server.close(() => {
          releasePath();
          resolve();
        });
      }),
  };
}

/** Undefined when something has that name already. */
function listen(path: string, directory: string): Promise<net.Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => {
      socket.on("error", () => undefined);
      socket.end(String(process.pid));
    });
    server.unref();
    server.once("error", (cause: NodeJS.ErrnoException) => {
      if (cause.code === "EADDRINUSE") resolve(undefined);
      else {
        const detail = `${directory}, no lock: ${cause.message}`;
        reject(new OperationError("DATA_DIR_UNUSABLE", { detail, cause }));
      }
    });
    server.listen({ path }, () => resolve(server));
  });
}

/** The process that holds the lock, "?" when it does not say; undefined when none does. */
function ownerOf(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = net.connect({ path });
    let owner = "";
    const finish = (result: string | undefined) => {
      socket.destroy();
      resolve(result);
    };
    socket.on("data", (text) => {
      owner += text.toString();
    });
    socket.once("end", () => finish(owner || "?"));
    socket.once("error", (error: NodeJS.ErrnoException) => {
      // Nobody listens (any more); every other failure is somebody.
      const nobody = error.code === "ECONNREFUSED" || error.code === "ENOENT";
      finish(nobody ? undefined : "?");
    });
    // A stopped process holds its lock, but does not answer.
    socket.setTimeout(1_000, () => finish("?"));
  });
}

function enterTakeover(directory: string): boolean {
  const path = join(directory, TAKEOVER_NAME);
  try {
    mkdirSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
  if (age > TAKEOVER_MS_MAX) rmSync(path, { recursive: true, force: true });
  return false;
}

function socketPath(directory: string): { readonly path: string; release: () => void } {
  const real = realpathSync(directory);
  if (process.platform === "win32") {
    const hash = createHash("sha256").update(real).digest("hex").slice(0, 32);
    return { path: `\\\\.\\pipe\\mp2p-${hash}`, release: () => undefined };
  }
  const path = join(real, LOCK_NAME);
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return { path, release: () => undefined };
  if (process.platform !== "linux") {
    const detail = `${directory}: the path is longer than ${SOCKET_PATH_MAX - LOCK_NAME.length} bytes`;
    throw new OperationError("DATA_DIR_UNUSABLE", { detail });
  }
  const descriptor = openSync(real, "r");
  return {
    path: `/proc/self/fd/${descriptor}/${LOCK_NAME}`,
    release: () => closeSync(descriptor),
  };
}
