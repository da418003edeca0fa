/**
 * Fragments on their way in: DATA is checked for its place, retained where it arrived, verified in
 * batches by a job, split once to see that it can be, and only then stored and advertised.
 *
 * Blame falls on the link that sent what is wrong. A late or repeated fragment is no fault.
 */

import { RemoteProtocolError } from "../base/errors.ts";
import * as layout from "../base/layout.ts";
import { INDEX_MAX } from "../base/limits.ts";
import type { FragmentIndex, MemoryOffset } from "../base/units.ts";
import { FragmentChecker } from "../stream/fragment-checker.ts";
import { u53 } from "../stream/fragment-writer.ts";
import type { FragmentWindow, WindowMap } from "../stream/window.ts";
import type { PeerContext } from "./context.ts";
import type { Neighbour } from "./neighbour.ts";
import type { Integrity } from "./settings.ts";

export interface ReceiverOutlet {
  /** DATA came, of use or not. */
  came(index: FragmentIndex, from: Neighbour): void;
  /** It is of use: under verification from here on, until `stored` or `failed`. */
  arriving(index: FragmentIndex): void;
  failed(index: FragmentIndex): void;
  /** A fragment is verified; its reference passes to the callee. */
  stored(index: FragmentIndex, offset: MemoryOffset, bytes: number, from: Neighbour): void;
  corrupt(from: Neighbour, error: RemoteProtocolError): void;
}

interface Arrivals {
  readonly indices: number[];
  /** Pairs (offset, bytes). */
  readonly ranges: number[];
  readonly from: Neighbour[];
}

export class FragmentReceiver {
  readonly #context: PeerContext;
  readonly #window: FragmentWindow;
  readonly #outlet: ReceiverOutlet;
  readonly #checksum: boolean;
  readonly #checker: FragmentChecker;
  /** Fragments under verification. */
  readonly pending: WindowMap;
  #arrivals: Arrivals = { indices: [], ranges: [], from: [] };
  #closed = false;

  constructor(
    context: PeerContext,
    window: FragmentWindow,
    integrity: Integrity,
    outlet: ReceiverOutlet,
  ) {
    this.#context = context;
    this.#window = window;
    this.#outlet = outlet;
    this.#checksum = integrity === "checksum";
    this.#checker = new FragmentChecker(window.memory, window.fragmentBytes);
    this.pending = window.createMap();
  }

  /**
   * Takes the DATA frame at [offset, offset + bytes) of the engine's memory. Throws
   * RemoteProtocolError when the link is to be closed for it.
   */
  data(from: Neighbour, offset: MemoryOffset, bytes: number): void {
    const { view } = this.#window.kernel;
    const counters = this.#context.counters;
    if (bytes < layout.DATA_HEADER_BYTES || bytes > this.#window.fragmentBytes) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: `DATA of ${bytes} bytes` });
    }
    if ((view.getUint16(offset + layout.DATA_FLAGS, true) & ~layout.DATA_FLAG_END) !== 0) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "reserved fragment flags" });
    }
    const index = u53(view, offset + layout.DATA_INDEX);
    if (!(index <= INDEX_MAX)) {
      throw new RemoteProtocolError("FRAME_MALFORMED", { detail: "fragment index" });
    }
    counters.fragmentsReceived++;
    counters.bytesReceived += bytes;
    from.fragmentsFrom++;
    from.bytesFrom += bytes;
    from.lastDataMs = this.#context.now.monoMs;
    if (index < this.#window.start) {
      counters.lateFragments++;
      return;
    }
    // Before this node knows where it starts nothing is granted, and nothing may come.
    if (index >= this.#window.limit || from.grantedLimit === 0) {
      throw new RemoteProtocolError("INDEX_OUT_OF_WINDOW", {
        detail: `${index}, granted up to ${from.grantedLimit}`,
      });
    }
    this.#outlet.came(index, from);
    if (this.#window.holds(index) || this.#window.test(this.pending, index)) {
      counters.duplicates++;
      return;
    }
    this.#window.memory.retain(offset, bytes);
    this.#window.mark(this.pending, index, index + 1);
    this.#arrivals.indices.push(index);
    this.#arrivals.ranges.push(offset, bytes);
    this.#arrivals.from.push(from);
    this.#outlet.arriving(index);
  }

  /** Has what arrived verified. Called once an input. */
  flush(): void {
    const arrivals = this.#arrivals;
    if (arrivals.indices.length === 0) return;
    this.#arrivals = { indices: [], ranges: [], from: [] };
    if (!this.#checksum) {
      this.#verified(arrivals, undefined);
      return;
    }
    const ranges = Uint32Array.from(arrivals.ranges);
    this.#context.job({ kind: "verifyFragments", ranges }, (result) => {
      if (result.kind === "verifyFragments") this.#verified(arrivals, result.good);
      else this.#dropped(arrivals);
    });
  }

  close(): void {
    this.#closed = true;
    this.#dropped(this.#arrivals);
    this.#arrivals = { indices: [], ranges: [], from: [] };
    this.#checker.close();
    this.#window.releaseMap(this.pending);
  }

  #verified(arrivals: Arrivals, good: Uint8Array | undefined): void {
    if (this.#closed) {
      this.#dropped(arrivals);
      return;
    }
    for (let i = 0; i < arrivals.indices.length; i++) {
      const index = arrivals.indices[i] as number;
      const offset = arrivals.ranges[2 * i] as number;
      const bytes = arrivals.ranges[2 * i + 1] as number;
      const from = arrivals.from[i] as Neighbour;
      this.#window.unmark(this.pending, index, index + 1);
      const intact = good === undefined || good[i] === 1;
      if (!intact || !this.#checker.wellFormed(offset, bytes)) {
        this.#context.counters.corruptFragments++;
        this.#window.memory.release(offset, bytes);
        this.#outlet.failed(index);
        const detail = `fragment ${index}${intact ? ", records" : ""}`;
        this.#outlet.corrupt(from, new RemoteProtocolError("FRAGMENT_CORRUPT", { detail }));
      } else if (index < this.#window.start) {
        // The window moved on meanwhile (a gap was given up).
        this.#context.counters.lateFragments++;
        this.#window.memory.release(offset, bytes);
      } else {
        this.#outlet.stored(index, offset, bytes, from);
      }
    }
  }

  #dropped(arrivals: Arrivals): void {
    for (let i = 0; i < arrivals.indices.length; i++) {
      const index = arrivals.indices[i] as number;
      if (!this.#closed) {
        this.#window.unmark(this.pending, index, index + 1);
        this.#outlet.failed(index);
      }
      this.#window.memory.release(
        arrivals.ranges[2 * i] as number,
        arrivals.ranges[2 * i + 1] as number,
      );
    }
  }
}
