/**
 * The data sources of an overlay as a receiver knows them: found by the id in a fragment's
 * declarations, with a cache by local number, since numbers keep their meaning.
 */

import * as layout from "../base/layout.ts";
import type { FragmentIndex, MemoryOffset, SequenceNumber } from "../base/units.ts";
import type { Kernel } from "../kernel/kernel.ts";

/** How far a data source was taken in an epoch before, and what its numbers go by (0: unknown). */
export interface TakenBefore {
  readonly last: SequenceNumber;
  readonly numbering: number;
}

/** How far a data source was taken (0: nothing of it), and whether it ended. */
export interface SourceStanding {
  readonly sourceId: string;
  readonly last: SequenceNumber;
  readonly ended: boolean;
}

/** A data source as the receiver knows it. */
export interface AssembledSource {
  readonly id: string;
  readonly idBytes: Uint8Array;
  /** Of the batch lent now. */
  contentType: string;
  /** The type declared last, as it was and as text. */
  typeBytes: Uint8Array;
  typeText: string;
  /** Sequence number awaited next. */
  next: SequenceNumber;
  /** First sequence number due here. */
  readonly first: SequenceNumber;
  /** False when this node came amid datum `first`: that one is nobody's loss. */
  begun: boolean;
  /** What its sequence numbers go by in later epochs, as declared last; 0: unknown. */
  numbering: number;
  ended: boolean;
  /** While fragment `loadedIn` is loaded: what follows its declarations read so far. */
  loadedIn: FragmentIndex;
  loadedNext: SequenceNumber;
  /** The load that declared it last. */
  load: number;
}

const NUMBERING_BEFORE_ID = layout.SOURCE_NUMBERING - layout.SOURCE_HEADER_BYTES;
const decoder = new TextDecoder();

export class SourceBook {
  readonly #kernel: Kernel;
  /** Whether a declaration's data begin with a whole datum; asked for new sources only. */
  readonly #beginsWhole: (row: number) => boolean;
  /** What was taken in an epoch before this one, by source id. */
  readonly #before: ReadonlyMap<string, TakenBefore>;
  readonly #sources = new Map<string, AssembledSource>();
  /** Last source seen under a local number: spares decoding its id again. */
  readonly #byNumber: (AssembledSource | undefined)[] = new Array(256);

  constructor(
    kernel: Kernel,
    beginsWhole: (row: number) => boolean,
    before: ReadonlyMap<string, TakenBefore>,
  ) {
    this.#kernel = kernel;
    this.#before = before;
    this.#beginsWhole = beginsWhole;
  }

  get all(): ReadonlyMap<string, AssembledSource> {
    return this.#sources;
  }

  /**
   * The source of DECLARATION `row`, which lies at `at`; known from now on unless `passing`: data
   * past a hole make nobody known. `due`: a source heard of for the first time is due from its first
   * datum on. `whole`: nothing of this epoch was missed. Who goes by the same numbering as in the
   * epoch before goes on where that had it, and so does, when all is whole, who does not begin with 1.
   */
  resolve(
    at: MemoryOffset,
    base: SequenceNumber,
    row: number,
    passing: boolean,
    due: boolean,
    whole: boolean,
  ): AssembledSource {
    const { view, bytes } = this.#kernel;
    const idAt = view.getUint32(at + layout.DECLARATION_ID_OFFSET, true);
    const idBytes = view.getUint16(at + layout.DECLARATION_ID_BYTES, true);
    const typeBytes = view.getUint16(at + layout.DECLARATION_CONTENT_TYPE_BYTES, true);
    const number = view.getUint32(at + layout.DECLARATION_SOURCE_NUMBER, true) & 0xff;
    const numbering = view.getUint32(idAt + NUMBERING_BEFORE_ID, true);
    let source = this.#byNumber[number];
    if (source === undefined || !matches(bytes, idAt, idBytes, source.idBytes)) {
      const idCopy = bytes.slice(idAt, idAt + idBytes);
      const id = decoder.decode(idCopy);
      source = this.#sources.get(id);
      if (source === undefined) {
        const before = this.#before.get(id);
        const same = before !== undefined && numbering !== 0 && before.numbering === numbering;
        const last = same || (whole && base > 1) ? before?.last : undefined;
        // Who started at fragment 0 and lost some since is due all of a source it hears of late.
        const anew = due ? 1 : base;
        const first = last === undefined ? anew : last + 1;
        source = {
          id,
          idBytes: idCopy,
          contentType: "",
          typeBytes: new Uint8Array(0),
          typeText: "",
          next: first,
          first,
          begun: due || last !== undefined || this.#beginsWhole(row),
          numbering,
          ended: false,
          loadedIn: -1,
          loadedNext: first,
          load: -1,
        };
        if (passing) {
          // Its earlier data may lie in the hole: nothing of it is let past.
          source.next = Number.NaN;
          return source;
        }
        this.#sources.set(id, source);
      }
      this.#byNumber[number] = source;
    }
    source.numbering = numbering;
    if (!matches(bytes, idAt + idBytes, typeBytes, source.typeBytes)) {
      source.typeBytes = bytes.slice(idAt + idBytes, idAt + idBytes + typeBytes);
      source.typeText = decoder.decode(source.typeBytes);
    }
    return source;
  }
}

export function standingOf({ id, next, ended }: AssembledSource): SourceStanding {
  return { sourceId: id, last: Math.max(0, next - 1), ended };
}

function matches(memory: Uint8Array, at: MemoryOffset, length: number, bytes: Uint8Array): boolean {
  if (length !== bytes.length) return false;
  for (let i = 0; i < length; i++) if (memory[at + i] !== bytes[i]) return false;
  return true;
}
