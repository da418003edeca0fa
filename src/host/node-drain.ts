/**
 * From a peer's session to an output, at the output's pace: while one block is written the next is
 * gathered, and no more is taken from the session than that. A quiet stream is written at once, a
 * busy one in large blocks.
 */

import { KIB } from "../base/units.ts";
import { Formatter, type OutputFormat } from "../intake/formatters.ts";
import type { DatumBatch, EnginePeer } from "./engine-types.ts";
import type { OutputSink } from "./node-output.ts";

/** A block is handed on when the next datum would make it larger. */
const BLOCK_BYTES = 512 * KIB;

export interface DrainOptions {
  readonly format: OutputFormat;
  readonly sink: OutputSink;
  /** Only data of these sources; default all. */
  readonly sources?: ReadonlySet<string>;
  /** Called for each batch before its data are written. */
  readonly onBatch?: (batch: DatumBatch) => void;
}

/**
 * Writes the data of `peer` until its session is over. Rejects with what the session or the sink
 * failed with; in both cases what came before was written as far as the sink took it.
 */
export async function drain(peer: EnginePeer, options: DrainOptions): Promise<void> {
  const { sink, sources, onBatch } = options;
  const formatter = new Formatter(options.format);
  const datum = {
    sourceId: "",
    sequence: 0,
    timestampUs: 0,
    contentType: "",
    payload: new Uint8Array(0) as Uint8Array,
  };
  let writing: Promise<void> | undefined;
  let failure: { readonly error: unknown } | undefined;

  const start = (): void => {
    const block = formatter.take();
    if (block === undefined) return;
    writing = sink.write(block).then(
      () => {
        writing = undefined;
        // What came in the meantime need not wait for more.
        if (formatter.pendingBytes > 0) start();
      },
      (error: unknown) => {
        writing = undefined;
        failure = { error };
        // The session may have nothing to say for long: leave it, so that the iteration ends.
        peer.leave().catch(() => undefined);
      },
    );
  };
  const throwIfFailed = (): void => {
    if (failure !== undefined) throw failure.error;
  };

  try {
    for await (const batch of peer.batches()) {
      throwIfFailed();
      onBatch?.(batch);
      for (let i = 0; i < batch.count; i++) {
        datum.sourceId = batch.sourceIdOf(i);
        if (sources?.has(datum.sourceId) === false) continue;
        const pending = formatter.pendingBytes;
        while (formatter.pendingBytes > 0 && pending + batch.lengthOf(i) > BLOCK_BYTES) {
          if (writing === undefined) start();
          else await writing;
          throwIfFailed();
        }
        datum.sequence = batch.sequenceOf(i);
        datum.timestampUs = batch.timestampUsOf(i);
        datum.contentType = batch.contentTypeOf(i);
        datum.payload = batch.payloadOf(i);
        formatter.add(datum);
      }
      if (writing === undefined) start();
    }
  } finally {
    while (writing !== undefined || formatter.pendingBytes > 0) {
      if (failure !== undefined) break;
      if (writing === undefined) start();
      await writing;
    }
    throwIfFailed();
  }
}
