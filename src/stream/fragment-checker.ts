/**
 * Checks that a received fragment can be taken apart, before it is stored or advertised. Has its
 * own scratch tables: a batch may be lent from the assembler's at the same time.
 */

import * as layout from "../base/layout.ts";
import type { MemoryOffset } from "../base/units.ts";
import type { EngineMemory } from "../kernel/engine-memory.ts";

const DECLARATIONS_MAX = 256;

export class FragmentChecker {
  readonly #memory: EngineMemory;
  readonly #capacity: number;
  readonly #entries: MemoryOffset;
  readonly #declarations: MemoryOffset;

  constructor(memory: EngineMemory, fragmentBytes: number) {
    this.#memory = memory;
    this.#capacity = Math.ceil(fragmentBytes / layout.DATUM_HEADER_BYTES) + 1;
    this.#entries = memory.allocate(this.#capacity * layout.ENTRY_BYTES);
    this.#declarations = memory.allocate(DECLARATIONS_MAX * layout.DECLARATION_BYTES);
  }

  wellFormed(offset: MemoryOffset, bytes: number): boolean {
    const { kernel } = this.#memory;
    return (
      kernel.splitFragment(offset, bytes, this.#entries, this.#capacity, this.#declarations) >= 0
    );
  }

  close(): void {
    this.#memory.free(this.#entries);
    this.#memory.free(this.#declarations);
  }
}
