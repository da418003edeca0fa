/**
 * What `mp2p source` and `mp2p feed` do with their input: it ends at its end, by a signal, or when
 * what it is for is over, however quiet it is.
 *
 * SIGTERM stops the reading. What was read of standard input or a named pipe by then is written still,
 * at no rate: nobody could read it again; half a line or record is no datum. Of a file it is dropped.
 * SIGINT drops it in either case.
 */

import type { ErrorCode } from "../base/errors.ts";
import { OperationError } from "../base/errors.ts";
import {
  type DataBatch,
  type FeedOptions,
  feed,
  type InputOptions,
  isPipe,
  openInput,
} from "../host/node-feed.ts";
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

/** Whether the input is of no use any more: nothing more can be written, or nothing more is taken. */
export class Over {
  readonly #failed = new AbortController();
  readonly #ended = new AbortController();

  /** Aborted with an OperationError. */
  get failed(): AbortSignal {
    return this.#failed.signal;
  }
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  because(code: ErrorCode, detail: string): void {
    this.#failed.abort(new OperationError(code, { detail }));
  }

  /** In order: what was written before has its place, and what is read now fails. */
  inOrder(): void {
    this.#ended.abort();
  }
}

/** Resolves when all is written, or it was stopped. Rejects with what `over` failed of, or the input. */
export async function sendInput(
  target: Parameters<typeof feed>[0],
  { file, format, rawBytes, ratePerSecond, choose, sent }: InputRun,
  { signals }: RunContext,
  { failed, ended }: Over,
): Promise<void> {
  // What comes at its own time may never come, and comes once; a file is there, and can be read again.
  const isQuiet = file === undefined || isPipe(file);
  const reading = AbortSignal.any([signals.signal, failed, ...(isQuiet ? [ended] : [])]);
  const data = openInput({ input: file ?? process.stdin, format, rawBytes, signal: reading });
  const writing: FeedOptions = {
    onTaken: (count, bytes) => {
      sent.data += count;
      sent.bytes += bytes;
    },
    signal: isQuiet ? AbortSignal.any([signals.interrupt, failed]) : reading,
    hurries: signals.signal,
    ...(ratePerSecond === undefined ? {} : { ratePerSecond }),
  };
  try {
    await feed(target, choose === undefined ? data : choose(data), writing);
  } catch (error) {
    if (failed.aborted) throw failed.reason;
    const isStopped = signals.received !== undefined || (isQuiet && ended.aborted);
    if (!isStopped || !isAbort(error)) throw error;
  }
  if (failed.aborted) throw failed.reason;
}
