/** An index file is believed only with the signature of the key that it names. */

import type { ReceivedIndexFile } from "../../protocol/index-file.ts";
import type { PeerContext } from "../context.ts";

/** Has the signature verified by a job; `done` may come after the session is over. */
export function verifyIndexFile(
  context: PeerContext,
  { file, signedBytes }: ReceivedIndexFile,
  done: (valid: boolean) => void,
): void {
  const { sourcePublicKey: publicKey, signature } = file;
  const job = { kind: "verifySignature", publicKey, bytes: signedBytes, signature } as const;
  context.job(job, (result) => done(result.kind === "verifySignature" && result.valid));
}
