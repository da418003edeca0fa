/**
 * From a peer's session to an output, at the output's pace: while one block is written the next is
 * gathered, and no more is taken from the session than that. A quiet stream is written at once, a
 * busy one in large blocks. Two blocks are used in turn: nothing is allocated per datum or block.
 */

import { KIB } from "../base/units.ts";
import { Formatter, type OutputFormat } from "../intake/formatters.ts";
import type { DatumBatch, EnginePeer } from "./engine-types.ts";
import type { OutputSink } from "./node-output.ts";

const BLOCK_BYTES = 512 * KIB;
const LENGTH_BYTES = 4;

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
  const { format, sources, onBatch } = options;
  const blocks = new BlockWriter(options.sink, () => {
    // The session may have nothing to say for long: leave it, so that the iteration ends.
    peer.leave().catch(() => undefined);
  });
  const lines = format === "ndjson" ? new Formatter(format) : undefined;
  const header = new Uint8Array(LENGTH_BYTES);
  const headerView = new DataView(header.buffer);
  try {
    for await (const batch of peer.batches()) {
      onBatch?.(batch);
      for (let i = 0; i < batch.count; i++) {
        if (sources?.has(batch.sourceIdOf(i)) === false) continue;
        const payload = batch.payloadOf(i);
        if (lines !== undefined) {
          lines.add(outputDatum(batch, i, payload));
          continue;
        }
        if (format === "framed") {
          headerView.setUint32(0, payload.length, true);
          if (!blocks.tryPut(header)) await blocks.put(header);
        }
        if (!blocks.tryPut(payload)) await blocks.put(payload);
      }
      const text = lines?.take();
      if (text !== undefined) await blocks.put(text);
      blocks.flush();
    }
  } finally {
    // Also after a failure of the session: what it gave before belongs to the user.
    await blocks.end();
  }
}

function outputDatum(batch: DatumBatch, i: number, payload: Uint8Array) {
  return {
    sourceId: batch.sourceIdOf(i),
    sequence: batch.sequenceOf(i),
    timestampUs: batch.timestampUsOf(i),
    contentType: batch.contentTypeOf(i),
    payload,
  };
}

/** Gathers bytes in one block while the other is written. */
class BlockWriter {
  readonly #sink: OutputSink;
  readonly #onFailure: () => void;
  #gathering = new Uint8Array(BLOCK_BYTES);
  #spare = new Uint8Array(BLOCK_BYTES);
  #length = 0;
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(sink: OutputSink, onFailure: () => void) {
    this.#sink = sink;
    this.#onFailure = onFailure;
  }

  /** Copies `bytes`, or says that there is no room now. */
  tryPut(bytes: Uint8Array): boolean {
    if (this.#length + bytes.length > BLOCK_BYTES) return false;
    this.#gathering.set(bytes, this.#length);
    this.#length += bytes.length;
    return true;
  }

  /** Takes `bytes`, after waiting for room. Rejects with what the sink failed with. */
  async put(bytes: Uint8Array): Promise<void> {
    while (!this.tryPut(bytes)) {
      this.#throwIfFailed();
      if (this.#writing !== undefined) await this.#writing;
      else if (this.#length > 0) this.flush();
      else {
        // Larger than a block: it is lent until this returns, and need not be copied.
        this.#start(bytes);
        await this.#writing;
        this.#throwIfFailed();
        return;
      }
    }
  }

  /** Has what was gathered written now, or as soon as the block under way is through. */
  flush(): void {
    this.#throwIfFailed();
    if (this.#writing !== undefined || this.#length === 0) return;
    const block = this.#gathering.subarray(0, this.#length);
    [this.#gathering, this.#spare] = [this.#spare, this.#gathering];
    this.#length = 0;
    this.#start(block);
  }

  /** Writes all that was gathered. Rejects with what the sink failed with. */
  async end(): Promise<void> {
    while (this.#writing !== undefined || this.#length > 0) {
      this.flush();
      await this.#writing;
    }
    this.#throwIfFailed();
  }

  #start(block: Uint8Array): void {
    this.#writing = this.#sink.write(block).then(
      () => {
        this.#writing = undefined;
        // What came in the meantime need not wait for more.
        this.flush();
      },
      (error: unknown) => {
        this.#writing = undefined;
        this.#failure = { error };
        this.#onFailure();
      },
    );
  }

  #throwIfFailed(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}
