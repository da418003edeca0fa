/** Runs `mp2p key`: a new seed in a file of its own. */

import { closeSync, openSync, writeSync } from "node:fs";
import { OperationError } from "../base/errors.ts";
import { toHex } from "../base/units.ts";
import { NodeIdentity, SEED_BYTES, systemEntropy } from "../host/node-identity.ts";
import { EXIT, type ExitCode } from "./exit.ts";
import type { KeyOptions } from "./key-command.ts";
import { Reporter } from "./reporter.ts";

const OWNER_ONLY = 0o600;

export async function runKey(options: KeyOptions): Promise<ExitCode> {
  const { file, json, quiet } = options;
  const seed = systemEntropy.bytes(SEED_BYTES);
  const { peerId } = new NodeIdentity(seed);
  try {
    const fd = openSync(file, "wx", OWNER_ONLY);
    writeSync(fd, `${toHex(seed)}\n`);
    closeSync(fd);
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    const detail = code === "EEXIST" ? `${file} exists and is not replaced` : `${file}: ${code}`;
    throw new OperationError("OUTPUT_FAILED", { detail, cause });
  }
  new Reporter({ command: "key", json, quiet }).result(
    "key",
    { peerId, file },
    `peer id ${peerId}, secret in ${file}`,
  );
  return EXIT.ok;
}
