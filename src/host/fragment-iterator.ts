/** A peer's fragments, lent one at a time to whoever passes them on. */

import { LocalUsageError } from "../base/errors.ts";
import type { LentFragment } from "../stream/fragment-cursor.ts";
import type { Fragment } from "./engine-types.ts";
import { PacedIterator, type Pacer } from "./paced-iterator.ts";

export interface FragmentPacer extends Pacer {
  takeFragmentNow(): LentFragment | undefined;
  releaseFragment(): void;
}

export class FragmentIterator extends PacedIterator<Fragment, FragmentPacer> {
  readonly #memory: Uint8Array;
  readonly #debug: boolean;
  #lent: FragmentView | undefined;

  constructor(peer: FragmentPacer, memory: Uint8Array, debug: boolean) {
    super(peer);
    this.#memory = memory;
    this.#debug = debug;
  }

  override async return(): Promise<IteratorResult<Fragment>> {
    this.#end();
    return super.return();
  }

  protected override now(): Fragment | undefined {
    this.#end();
    const lent = this.peer.takeFragmentNow();
    if (lent === undefined) return undefined;
    this.#lent = new FragmentView(lent, this.#memory, this.#debug, (view) => {
      if (view !== this.#lent) return;
      this.#end();
      this.peer.releaseFragment();
    });
    return this.#lent;
  }

  #end(): void {
    this.#lent?.end();
    this.#lent = undefined;
  }
}

class FragmentView implements Fragment {
  readonly #lent: LentFragment;
  readonly #memory: Uint8Array;
  readonly #copies: boolean;
  readonly #release: (view: FragmentView) => void;
  #bytes: Uint8Array | undefined;
  #over = false;

  /** With `copies` the bytes are a copy that is detached in the end: use of it throws, too. */
  constructor(
    lent: LentFragment,
    memory: Uint8Array,
    copies: boolean,
    release: (view: FragmentView) => void,
  ) {
    this.#lent = lent;
    this.#memory = memory;
    this.#copies = copies;
    this.#release = release;
  }

  get index(): number {
    return this.#lent.index;
  }
  get length(): number {
    return this.#lent.length;
  }
  get offset(): number {
    return this.#copies ? this.bytes.byteOffset : this.#still().offset;
  }
  get memory(): Uint8Array {
    this.#still();
    return this.#copies ? this.bytes : this.#memory;
  }
  get bytes(): Uint8Array {
    const { offset, length } = this.#still();
    if (this.#bytes === undefined) {
      const view = this.#memory.subarray(offset, offset + length);
      this.#bytes = this.#copies ? new Uint8Array(view) : view;
    }
    return this.#bytes;
  }

  release(): void {
    this.#release(this);
  }

  end(): void {
    this.#over = true;
    const bytes = this.#bytes;
    this.#bytes = undefined;
    if (bytes === undefined || !this.#copies) return;
    const buffer = bytes.buffer as ArrayBuffer;
    structuredClone(buffer, { transfer: [buffer] });
  }

  #still(): LentFragment {
    if (!this.#over) return this.#lent;
    throw new LocalUsageError("USAGE", {
      detail: `fragment ${this.#lent.index} was lent until the next step or release()`,
    });
  }
}
