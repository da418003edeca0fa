/**
 * Builds DATA frames byte by byte, and what splitting them must give, without any code of the
 * kernel: offsets are written as numbers.
 */

export type RecordPlan =
  | {
      readonly kind: "source";
      readonly number: number;
      readonly id: string;
      readonly contentType: string;
      readonly base: number;
      readonly timestamp: number;
      readonly numbering?: number;
    }
  | {
      readonly kind: "datum";
      readonly number: number;
      readonly bytes: number;
      readonly delta: number;
    }
  | {
      readonly kind: "slice";
      readonly number: number;
      readonly bytes: number;
      readonly delta: number;
      readonly flags: number;
      readonly offset: number;
      readonly total: number;
    }
  | { readonly kind: "end"; readonly number: number; readonly last: number };

export function buildFragment(plans: readonly RecordPlan[], index = 0, createdUs = 0): Uint8Array {
  const records = plans.map((plan) => recordOf(plan));
  const bytes = new Uint8Array(40 + records.reduce((sum, record) => sum + record.length, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  bytes.set([0xb6, 1, 0x01, 0], 4);
  view.setUint16(14, records.length, true);
  bytes.set([1, 2, 3, 4, 5, 6, 7, 8], 16);
  view.setBigUint64(24, BigInt(index), true);
  view.setBigUint64(32, BigInt(createdUs), true);
  let at = 40;
  for (const record of records) {
    bytes.set(record, at);
    at += record.length;
  }
  return bytes;
}

function recordOf(plan: RecordPlan): Uint8Array {
  if (plan.kind === "source") {
    const id = new TextEncoder().encode(plan.id);
    const contentType = new TextEncoder().encode(plan.contentType);
    const bytes = new Uint8Array(24 + id.length + contentType.length);
    const view = new DataView(bytes.buffer);
    bytes.set([1, plan.number, id.length, contentType.length]);
    view.setUint32(4, plan.numbering ?? 0, true);
    view.setBigUint64(8, BigInt(plan.base), true);
    view.setBigUint64(16, BigInt(plan.timestamp), true);
    bytes.set(id, 24);
    bytes.set(contentType, 24 + id.length);
    return bytes;
  }
  if (plan.kind === "end") {
    const bytes = new Uint8Array(16);
    bytes.set([4, plan.number]);
    new DataView(bytes.buffer).setBigUint64(8, BigInt(plan.last), true);
    return bytes;
  }
  const headerBytes = plan.kind === "datum" ? 12 : 20;
  const bytes = new Uint8Array(headerBytes + plan.bytes);
  const view = new DataView(bytes.buffer);
  bytes.set([plan.kind === "datum" ? 2 : 3, plan.number]);
  view.setUint32(4, plan.bytes, true);
  view.setInt32(8, plan.delta, true);
  if (plan.kind === "slice") {
    view.setUint16(2, plan.flags, true);
    view.setUint32(12, plan.offset, true);
    view.setUint32(16, plan.total, true);
  }
  for (let i = headerBytes; i < bytes.length; i++) bytes[i] = (i * 7 + plan.bytes) & 255;
  return bytes;
}

export interface ExpectedEntry {
  readonly offset: number;
  readonly length: number;
  readonly kind: number;
  readonly number: number;
  readonly flags: number;
  readonly declaration: number;
  readonly sequence: number;
  readonly timestamp: number;
}

/** What a sound plan splits into; offsets count from the frame's start. */
export function expectedEntries(plans: readonly RecordPlan[]): ExpectedEntry[] {
  const entries: ExpectedEntry[] = [];
  const declared = new Map<
    number,
    { row: number; base: number; next: number; timestamp: number }
  >();
  let rows = 0;
  let at = 40;
  for (const plan of plans) {
    if (plan.kind === "source") {
      const { base, timestamp } = plan;
      declared.set(plan.number, { row: rows++, base, next: base, timestamp });
      at += 24 + plan.id.length + plan.contentType.length;
      continue;
    }
    const source = declared.get(plan.number);
    if (source === undefined) throw new Error("the plan declares its sources");
    const common = { number: plan.number, declaration: source.row };
    if (plan.kind === "end") {
      const { last: sequence } = plan;
      const { timestamp } = source;
      entries.push({ ...common, offset: at, length: 0, kind: 4, flags: 0, sequence, timestamp });
      at += 16;
      continue;
    }
    const slice = plan.kind === "slice";
    at += slice ? 20 : 12;
    entries.push({
      ...common,
      offset: at,
      length: plan.bytes,
      kind: slice ? 3 : 2,
      flags: slice ? plan.flags : 0,
      sequence: source.next,
      timestamp: source.timestamp + plan.delta,
    });
    at += plan.bytes;
    if (!slice || (plan.flags & 2) !== 0) source.next++;
  }
  return entries;
}

/**
 * A sound plan drawn from `below(n)`, uniform in [0, n): sources declared and declared anew, whole
 * data, slice chains, ends.
 */
export function soundPlan(below: (limit: number) => number): RecordPlan[] {
  const plans: RecordPlan[] = [];
  const next = new Map<number, number>();
  const declare = (number: number): void => {
    const base = (next.get(number) ?? 1) + (below(4) === 0 ? below(1000) : 0);
    next.set(number, base);
    const id = "s".repeat(1 + below(below(8) === 0 ? 128 : 12));
    const contentType = "t".repeat(below(below(8) === 0 ? 129 : 12));
    const timestamp = below(2) === 0 ? 1_700_000_000_000_000 : 3_000_000_000;
    const numbering = below(3) === 0 ? below(2 ** 32) : 0;
    plans.push({ kind: "source", number, id, contentType, base, timestamp, numbering });
  };
  const numbers = Array.from({ length: 1 + below(5) }, () => below(256));
  const bytesOf = (): number => below(below(10) === 0 ? 600 : 60);
  const delta = (): number => below(2 ** 31) - (below(2) === 0 ? 2 ** 30 : 0);
  const first = numbers[0] as number;
  if (below(3) === 0) {
    declare(first);
    const bytes = 1 + bytesOf();
    const offset = 1 + below(1_000_000);
    const last = below(2) === 0;
    const total = offset + bytes + (last ? 0 : 1 + below(1_000_000));
    const flags = last ? 2 : 0;
    plans.push({ kind: "slice", number: first, bytes, delta: delta(), flags, offset, total });
    if (!last) return plans;
    next.set(first, (next.get(first) as number) + 1);
  }
  const steps = below(30);
  for (let i = 0; i < steps; i++) {
    const number = numbers[below(numbers.length)] as number;
    if (!plans.some((plan) => plan.kind === "source" && plan.number === number)) declare(number);
    else if (below(10) === 0) declare(number);
    const kind = below(12);
    if (kind === 0) {
      plans.push({ kind: "end", number, last: (next.get(number) as number) + below(3) });
    } else if (kind === 1) {
      // A chain of slices within one fragment, perhaps going on in the next.
      const total = 2 + bytesOf();
      const whole = below(2) === 0;
      const cut = 1 + below(total - 1);
      const at = delta();
      const common = { kind: "slice", number, delta: at, total } as const;
      plans.push({ ...common, bytes: cut, flags: 1, offset: 0 });
      if (!whole) return plans;
      plans.push({ ...common, bytes: total - cut, flags: 2, offset: cut });
      next.set(number, (next.get(number) as number) + 1);
    } else {
      plans.push({ kind: "datum", number, bytes: bytesOf(), delta: delta() });
      next.set(number, (next.get(number) as number) + 1);
    }
  }
  return plans;
}
