/**
 * Bugs planted from outside: wrappers that change what goes into a machine or comes out of it. No
 * line of src/ knows of them. Each stands for a mistake that a peer could make, and names the
 * checkers that must find it.
 */

import { ENTRY_BYTES } from "../../src/base/layout.ts";
import type { Input, Machine, Now, Output, Transmit } from "../../src/base/machine.ts";
import type { Take } from "../../src/peer/commands.ts";
import type { Overlay } from "../../src/peer/overlay.ts";
import type { PeerMachine } from "../../src/peer/peer.ts";
import type { Member, Swarm } from "../../src/sim/swarm.ts";
import {
  creditLimit,
  eachFrame,
  haveStart,
  isEnd,
  putU64,
  ranges,
  records,
  sealAgain,
  TYPE,
  u64,
  withRanges,
} from "./wire.ts";

export interface PlantedBug {
  readonly name: string;
  /** At least one of these speaks up, within the seeds that the test allows. */
  readonly foundBy: readonly string[];
  plant(member: Member, machine: AnyMachine, swarm: Swarm): AnyMachine;
}

type AnyMachine = Machine<unknown, unknown>;

/** Passes everything through; bugs override one thing. */
class Wrapper implements AnyMachine {
  protected readonly inner: AnyMachine;
  readonly #more: Output<unknown>[] = [];

  constructor(inner: AnyMachine) {
    this.inner = inner;
  }

  handle(input: Input<unknown>, now: Now): void {
    this.inner.handle(this.incoming(input), now);
    this.handled(input);
  }
  poll(): Output<unknown> | undefined {
    const more = this.#more.shift();
    if (more !== undefined) return more;
    const output = this.inner.poll();
    return output?.kind === "transmit" ? this.outgoing(output) : output;
  }
  get deadlineMs(): number {
    return this.inner.deadlineMs;
  }

  protected incoming(input: Input<unknown>): Input<unknown> {
    return input;
  }
  protected handled(_input: Input<unknown>): void {}
  protected outgoing(output: Transmit): Output<unknown> {
    return output;
  }
  protected emitToo(output: Output<unknown>): void {
    this.#more.push(output);
  }
}

/** Calls `change` with each frame of `type`, copied; frames it returns go instead. */
function rewritten(
  output: Transmit,
  type: number,
  change: (frame: Uint8Array) => Uint8Array,
): Transmit {
  const parts: Uint8Array[] = [];
  let any = false;
  eachFrame(output.bytes, (found, offset, frameBytes) => {
    const frame = output.bytes.slice(offset, offset + frameBytes);
    any ||= found === type;
    parts.push(found === type ? change(frame) : frame);
  });
  if (!any) return output;
  return { kind: "transmit", linkId: output.linkId, bytes: new Uint8Array(Buffer.concat(parts)) };
}

function eachIncoming(
  input: Input<unknown>,
  type: number,
  visit: (memory: Uint8Array, offset: number, frameBytes: number) => void,
): void {
  if (input.kind !== "frames") return;
  for (let i = 0; i < input.count; i++) {
    const offset = input.ranges[2 * i] as number;
    if (input.memory[offset + 6] !== type) continue;
    visit(input.memory, offset, input.ranges[2 * i + 1] as number);
  }
}

/** A HAVE names one fragment more than is held. */
class AdvertisesTooMuch extends Wrapper {
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.HAVE, (frame) => {
      const list = ranges(frame, 0, frame.length) ?? [];
      const last = list.at(-1);
      if (last === undefined) return frame;
      return withRanges(frame, [...list, { first: last.first + last.count + 1, count: 1 }]);
    });
  }
}

/** A relay's memory flips a bit now and then, and the checksum is done again afterwards. */
class ChangesPayload extends Wrapper {
  #frames = 0;
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.DATA, (frame) => {
      const datum = records(frame, 0, frame.length)?.findLast(
        ({ payloadBytes }) => payloadBytes > 9,
      );
      if (datum === undefined || ++this.#frames % 20 !== 0) return frame;
      const at = datum.payload + datum.payloadBytes - 1;
      frame[at] = (frame[at] as number) ^ 0x10;
      sealAgain(frame);
      return frame;
    });
  }
}

/** Forgets now and then what it sent last over a link. */
class ForgetsSent extends Wrapper {
  #inputs = 0;
  protected override handled(): void {
    if (++this.#inputs % 50 !== 0) return;
    for (const { window, neighbours } of overlaysOf(this.inner)) {
      for (const { sent } of neighbours) window.unmark(sent, window.origin, window.mapEnd);
    }
  }
}

/** Its cursors run ahead of what it pushes. */
class SkipsPushes extends Wrapper {
  #inputs = 0;
  protected override handled(): void {
    if (++this.#inputs % 50 !== 0) return;
    for (const { window, neighbours } of overlaysOf(this.inner)) {
      for (const neighbour of neighbours) neighbour.pushCursor = window.highest;
    }
  }
}

/** Counts a fragment as advertised by whoever is linked to it. */
class InventsHolders extends Wrapper {
  #inputs = 0;
  protected override handled(): void {
    if (++this.#inputs % 50 !== 0) return;
    for (const { window, neighbours } of overlaysOf(this.inner)) {
      for (const neighbour of neighbours) {
        const first = Math.max(window.start, neighbour.remoteStart);
        if (window.highest > first) neighbour.advertised(first, 1);
      }
    }
  }
}

function overlaysOf(machine: AnyMachine): Iterable<Overlay> {
  return (machine as unknown as PeerMachine).overlays.values();
}

/** Takes every credit for more than it says. */
class IgnoresCredit extends Wrapper {
  protected override incoming(input: Input<unknown>): Input<unknown> {
    eachIncoming(input, TYPE.CREDIT, (memory, offset) => {
      putU64(memory, offset + 16, creditLimit(memory, offset) + 1_000_000);
    });
    return input;
  }
}

/** Believes that neighbours need less than they do, and frees what they still lack. */
class FreesEarly extends Wrapper {
  protected override incoming(input: Input<unknown>): Input<unknown> {
    eachIncoming(input, TYPE.HAVE, (memory, offset, frameBytes) => {
      const last = ranges(memory, offset, frameBytes)?.at(-1);
      if (last === undefined) return;
      const start = Math.max(haveStart(memory, offset), last.first);
      putU64(memory, offset + 16, start);
    });
    return input;
  }
}

/** END claims one datum more than each data source sent. */
class EndsTooLate extends Wrapper {
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.DATA, (frame) => {
      if (!isEnd(frame, 0)) return frame;
      for (const record of records(frame, 0, frame.length) ?? []) {
        if (record.kind === 4) putU64(frame, record.offset + 8, u64(frame, record.offset + 8) + 1);
      }
      sealAgain(frame);
      return frame;
    });
  }
}

/** Sends fragments back to the source peer. */
class FeedsTheSource extends Wrapper {
  readonly #member: Member;
  readonly #swarm: Swarm;
  constructor(inner: AnyMachine, member: Member, swarm: Swarm) {
    super(inner);
    this.#member = member;
    this.#swarm = swarm;
  }
  protected override outgoing(output: Transmit): Output<unknown> {
    if (output.bytes[6] !== TYPE.DATA) return output;
    for (const end of this.#member.node.ends.values()) {
      if (!end.isOpen || end.other?.node !== this.#swarm.source.node) continue;
      this.emitToo({ kind: "transmit", linkId: end.linkId, bytes: output.bytes.slice() });
    }
    return output;
  }
}

/** Hands the consumer every eighth batch twice. */
class DeliversTwice extends Wrapper {
  #batches = 0;
  #again: Take | undefined;
  override handle(input: Input<unknown>, now: Now): void {
    const take = takeOf(input);
    if (take !== undefined && this.#again !== undefined) {
      take.batch = this.#again.batch;
      take.sourceOf = this.#again.sourceOf;
      this.#again = undefined;
      return;
    }
    super.handle(input, now);
    if (take?.batch !== undefined && ++this.#batches % 8 === 0) this.#again = { ...take };
  }
}

/** Drops the first datum of every eighth batch on its way to the consumer. */
class SkipsSilently extends Wrapper {
  #batches = 0;
  protected override handled(input: Input<unknown>): void {
    const batch = takeOf(input)?.batch;
    if (batch === undefined || ++this.#batches % 8 !== 0) return;
    batch.entries += ENTRY_BYTES;
    batch.count--;
  }
}

/** Writes to memory that is still queued on a link. */
class OverwritesQueued extends Wrapper {
  #last: Uint8Array | undefined;
  #count = 0;
  protected override handled(input: Input<unknown>): void {
    if (input.kind === "sent" || this.#last === undefined) return;
    this.#last[this.#last.length - 1] = 0xff;
    this.#last = undefined;
  }
  protected override outgoing(output: Transmit): Output<unknown> {
    if (output.bytes[6] === TYPE.DATA && ++this.#count % 3 === 0) this.#last = output.bytes;
    return output;
  }
}

/** Grants more than its window has room for. */
class GrantsTooMuch extends Wrapper {
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.CREDIT, (frame) => {
      putU64(frame, 16, creditLimit(frame, 0) + 64);
      return frame;
    });
  }
}

/** Tells the same credit for ever. */
class NeverRaisesCredit extends Wrapper {
  readonly #told = new Map<number, number>();
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.CREDIT, (frame) => {
      const told = this.#told.get(output.linkId) ?? creditLimit(frame, 0);
      this.#told.set(output.linkId, told);
      putU64(frame, 16, told);
      return frame;
    });
  }
}

/** Takes every third credit back in part. */
class LowersCredit extends Wrapper {
  #frames = 0;
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.CREDIT, (frame) => {
      const limit = creditLimit(frame, 0);
      if (++this.#frames % 3 === 0) putU64(frame, 16, Math.max(1, limit - 32));
      return frame;
    });
  }
}

/** Counts its window wrong: takes more than it said it would hold. */
class OverfillsWindow extends Wrapper {
  readonly #member: Member;
  #widened: unknown;
  constructor(inner: AnyMachine, member: Member) {
    super(inner);
    this.#member = member;
  }
  protected override handled(): void {
    const { machine } = this.#member.driver as unknown as { readonly machine?: PeerMachine };
    for (const { window } of machine?.overlays.values() ?? []) {
      if (this.#widened === window) return;
      this.#widened = window;
      const { windowFragments } = window;
      Object.defineProperty(window, "limit", {
        get: () => Math.min(window.start + windowFragments, window.mapEnd),
      });
    }
  }
}

/** Sends each run of DATA twice. */
class SendsTwice extends Wrapper {
  #frames = 0;
  protected override outgoing(output: Transmit): Output<unknown> {
    if (output.bytes[6] !== TYPE.DATA || ++this.#frames % 8 !== 0) return output;
    this.emitToo({ kind: "transmit", linkId: output.linkId, bytes: output.bytes.slice() });
    return output;
  }
}

/** Waits for pushes: asks for nothing, however long it is missing. */
class NeverAsks extends Wrapper {
  protected override outgoing(output: Transmit): Output<unknown> {
    return unasked(output, () => true);
  }
}

/** Asks for each fragment once: every other request comes to nothing and is believed in for ever. */
class NeverExpiresRequests extends Wrapper {
  readonly #asked = new Set<number>();
  #requests = 0;
  protected override outgoing(output: Transmit): Output<unknown> {
    return unasked(output, (frame) => {
      let again = false;
      for (const { first, count } of ranges(frame, 0, frame.length) ?? []) {
        for (let index = first; index < first + count; index++) {
          again ||= this.#asked.has(index);
          this.#asked.add(index);
        }
      }
      return again || ++this.#requests % 2 === 0;
    });
  }
}

/** Forgets how far it was: declares an older start now and then. */
class StartFalls extends Wrapper {
  #frames = 0;
  protected override outgoing(output: Transmit): Output<unknown> {
    return rewritten(output, TYPE.HAVE, (frame) => {
      const start = haveStart(frame, 0);
      if (++this.#frames % 16 === 0 && start > 0) putU64(frame, 16, start - 1);
      return frame;
    });
  }
}

/** Frees at once what it took, whoever still needs it: says so and does so. */
class AcknowledgesForOthers extends Wrapper {
  protected override incoming(input: Input<unknown>): Input<unknown> {
    eachIncoming(input, TYPE.CREDIT, (memory, offset) => {
      // Reads a neighbour's credit as "has all below it".
      this.#limit = Math.max(this.#limit, creditLimit(memory, offset));
    });
    eachIncoming(input, TYPE.HAVE, (memory, offset) => {
      putU64(memory, offset + 16, Math.max(haveStart(memory, offset), this.#limit - 32));
    });
    return input;
  }
  #limit = 0;
}

/** GETs for which it says so do nothing: they go out as a CANCEL of what there will never be. */
function unasked(output: Transmit, drops: (frame: Uint8Array) => boolean): Output<unknown> {
  return rewritten(output, TYPE.GET, (frame) => {
    if (!drops(frame)) return frame;
    frame[6] = TYPE.CANCEL;
    // Each range begins 2^40 fragments further on.
    for (let at = 32; at < frame.length; at += 12) frame[at + 5] = 1;
    return frame;
  });
}

function takeOf(input: Input<unknown>): Take | undefined {
  if (input.kind !== "command") return undefined;
  const command = input.command as { readonly kind: string };
  return command.kind === "take" ? (command as Take) : undefined;
}

type WrapperClass = new (inner: AnyMachine, member: Member, swarm: Swarm) => AnyMachine;

function planted(
  name: string,
  where: "source" | "peers" | "all",
  foundBy: readonly string[],
  Planted: WrapperClass,
): PlantedBug {
  return {
    name,
    foundBy,
    plant: (member, machine, swarm) => {
      const hit = where === "all" || (where === "source") === (member.role === "source");
      return hit ? new Planted(machine, member, swarm) : machine;
    },
  };
}

export const PLANTED_BUGS: readonly PlantedBug[] = [
  planted("advertises what it does not hold", "peers", ["honest-maps"], AdvertisesTooMuch),
  planted("changes payloads under a good checksum", "peers", ["delivery"], ChangesPayload),
  planted("ignores credit", "all", ["credit-kept"], IgnoresCredit),
  planted("frees what neighbours still need", "all", ["completeness"], FreesEarly),
  planted("ends one datum too late", "source", ["completeness"], EndsTooLate),
  planted(
    "sends fragments to the source peer",
    "peers",
    ["source-receives-nothing"],
    FeedsTheSource,
  ),
  planted("delivers twice", "peers", ["delivery"], DeliversTwice),
  planted("skips in silence", "peers", ["delivery"], SkipsSilently),
  planted(
    "overwrites what is queued",
    "all",
    ["transmit-untouched", "machine-throws"],
    OverwritesQueued,
  ),
  planted("grants credit beyond its window", "peers", ["credit-kept"], GrantsTooMuch),
  planted("never raises its credit", "peers", ["completeness", "credit-kept"], NeverRaisesCredit),
  planted("takes credit back", "peers", ["credit-kept"], LowersCredit),
  planted("overfills its window", "peers", ["queues-bounded", "invariants"], OverfillsWindow),
  planted("sends what it has sent", "all", ["sent-once"], SendsTwice),
  planted("forgets what it sent", "all", ["link-state"], ForgetsSent),
  planted("passes over what it has to push", "all", ["invariants"], SkipsPushes),
  planted("invents holders", "peers", ["link-state"], InventsHolders),
  planted("never asks for what is missing", "peers", ["completeness"], NeverAsks),
  planted("lets no request expire", "peers", ["completeness"], NeverExpiresRequests),
  planted("lets its start fall", "peers", ["marks-monotone"], StartFalls),
  planted("takes credit for an acknowledgement", "all", ["completeness"], AcknowledgesForOthers),
];
