/**
 * What `mp2p source` and `mp2p feed` do with their input: it ends at its end, by a signal, or when
 * what it is for is over, however quiet it is.
 *
 * SIGTERM stops the reading. What was read of standard input by then is written still, at no rate:
 * nobody could read it again. Of a file it is dropped. SIGINT drops it in either case.
 */

import type { ErrorCode } from "../base/errors.ts";
import { OperationError } from "../base/errors.ts";
import { type FeedOptions, feed, type InputOptions, openInput } from "../host/node-feed.ts";
import type { DataBatch } from "../intake/data-batch.ts";
import { isAbort, type RunContext } from "./run-kit.ts";
import type { Sent } from "./source-progress.ts";

export interface InputRun {
  /** Undefined: standard input. */
  readonly file: string | undefined;
  readonly format: InputOptions["format"];
  readonly rawBytes: number;
  readonly ratePerSecond: number | undefined;
  /** Of the data: those that are to be sent. */
  readonly choose?: (data: AsyncGenerator<DataBatch>) => AsyncGenerator<DataBatch>;
  /** Counts up. */
  readonly sent: Sent;
}

/** Why nothing more can be written, from when it is so. */
export class Over {
  readonly #controller = new AbortController();

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  because(code: ErrorCode, detail: string): void {
    this.#controller.abort(new OperationError(code, { detail }));
  }
}

/** Resolves when all is written, or by a signal. Rejects with the reason of `over`, or what the input is guilty of. */
export async function sendInput(
  target: Parameters<typeof feed>[0],
  { file, format, rawBytes, ratePerSecond, choose, sent }: InputRun,
  { signals }: RunContext,
  over: AbortSignal,
): Promise<void> {
  const reading = AbortSignal.any([signals.signal, over]);
  const data = openInput({ input: file ?? process.stdin, format, rawBytes, signal: reading });
  const writing: FeedOptions = {
    onTaken: (count, bytes) => {
      sent.data += count;
      sent.bytes += bytes;
    },
    signal: file === undefined ? AbortSignal.any([signals.interrupt, over]) : reading,
    hurries: signals.signal,
    ...(ratePerSecond === undefined ? {} : { ratePerSecond }),
  };
  try {
    await feed(target, choose === undefined ? data : choose(data), writing);
  } catch (error) {
    if (over.aborted) throw over.reason;
    if (signals.received === undefined || !isAbort(error)) throw error;
  }
}
