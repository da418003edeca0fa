/**
 * Messages as tables. `defineMessage` turns a table of named fields into a typed encoder and
 * decoder: on the wire a message is a positional msgpack array, in code an object with full names,
 * over HTTP a JSON object with the same names.
 *
 * The way in: pre-scan (prescan.ts), unpack, one compiled schema check over the positional form,
 * then field by field into a fresh object. No key, constructor or prototype comes from the wire;
 * bytes come out as copies. Positions after the last known one are skipped and missing optional
 * ones take their default, so a version and the one before it understand each other; a field is
 * therefore only ever added at the end, as optional.
 *
 * The way out checks the same schema: a message that its own reader would refuse is never sent.
 * Signatures are never made or checked over a decoded object, only over bytes.
 */

import { Packr } from "msgpackr/pack";
// Of typebox only what compiles a JSON schema: its type builder costs a process twice as much to load.
import { Compile, type Validator } from "typebox/schema";
import { LocalUsageError, RemoteProtocolError } from "../base/errors.ts";
import { fromHex, toHex } from "../base/units.ts";
import { prescan } from "./prescan.ts";

/** A JSON schema; `~refine` is typebox's word for checks of our own. */
export type Schema = Readonly<Record<string, unknown>>;

/**
 * One field: its schema on the wire and the ways between code, wire and JSON. `T` is the type in
 * code; a field with a fallback may be missing on the wire and left out when encoding.
 */
export interface Field<T, Optional extends boolean = boolean> {
  readonly schema: Schema;
  /** Code to wire. Values of the wrong shape pass through and fail the schema check. */
  toWire(value: T): unknown;
  /** Wire to code; `wire` has passed the schema. */
  fromWire(wire: unknown): T;
  toJson(value: T): unknown;
  /** JSON to wire; what does not fit passes through and fails the schema check. */
  jsonToWire(json: unknown): unknown;
  readonly optional: Optional;
  /** Optional fields only. */
  readonly fallback?: () => T;
}

export type Fields = Readonly<Record<string, Field<unknown>>>;

/** What decoding gives: every field present. */
export type MessageOf<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Field<infer T> ? T : never;
};

type OptionalKeys<F extends Fields> = {
  [K in keyof F]: F[K]["optional"] extends true ? K : never;
}[keyof F];

/** What encoding takes: optional fields may be left out. */
export type InputOf<F extends Fields> = Omit<MessageOf<F>, OptionalKeys<F>> &
  Partial<Pick<MessageOf<F>, OptionalKeys<F>>>;

/** The decoded form of a message definition: `type Hello = Decoded<typeof HELLO>`. */
export type Decoded<M> = M extends Message<infer F> ? MessageOf<F> : never;
/** What the encoder of a message definition takes. */
export type Encodable<M> = M extends Message<infer F> ? InputOf<F> : never;

export interface Message<F extends Fields> {
  readonly name: string;
  /** Frame type (r10) or operation number (signalling). */
  readonly type: number;
  readonly fields: F;
  /** The msgpack body. Throws LocalUsageError USAGE naming the field that does not fit. */
  encode(message: InputOf<F>): Uint8Array;
  /** Throws RemoteProtocolError MESSAGE_MALFORMED naming the field. Copies what it keeps. */
  decode(bytes: Uint8Array): MessageOf<F>;
  /** As decode, from [offset, offset + bytes) of a larger memory. */
  decodeAt(memory: Uint8Array, offset: number, bytes: number): MessageOf<F>;
  /** The positional form, for an envelope to carry. Throws as encode. */
  toPositions(message: InputOf<F>): unknown[];
  /** From the positional form that `unpack` gave. Throws as decode. */
  fromPositions(positions: readonly unknown[]): MessageOf<F>;
  /** Plain JSON value: fields by name, bytes as lower-case hex. */
  toJson(message: MessageOf<F>): Record<string, unknown>;
  /** From parsed JSON. Unknown names are ignored. Throws as decode. */
  fromJson(json: unknown): MessageOf<F>;
}

// ---------------------------------------------------------------------------------------- fields

const identity = <T>(value: T): T => value;

/** Whatever `check` says yes to. */
function refined(check: (value: unknown) => boolean): Schema {
  return { "~refine": [{ check, error: () => "does not fit" }] };
}

const orNull = (schema: Schema): Schema => ({ anyOf: [{ type: "null" }, schema] });

function plain<T>(schema: Schema): Field<T, false> {
  return {
    schema,
    toWire: identity,
    fromWire: (wire) => wire as T,
    toJson: identity,
    jsonToWire: identity,
    optional: false,
  };
}

const unsigned = (maximum: number): Field<number, false> =>
  plain({ type: "integer", minimum: 0, maximum });

export const u8 = unsigned(0xff);
export const u16 = unsigned(0xffff);
export const u32 = unsigned(0xffff_ffff);
/** 0 to 2^53 - 1. */
export const u53 = unsigned(Number.MAX_SAFE_INTEGER);
export const bool: Field<boolean, false> = plain({ type: "boolean" });

/** An integer in [minimum, maximum]. */
export const integer = (minimum: number, maximum: number): Field<number, false> =>
  plain({ type: "integer", minimum, maximum });

/** One of the values of a table such as ROLES; the wire form is the number. */
export function oneOf<const V extends number>(
  values: Readonly<Record<string, V>>,
): Field<V, false> {
  const known = new Set<unknown>(Object.values(values));
  return plain<V>(refined((value) => known.has(value)));
}

const SURROGATE = /\p{Surrogate}/u;

function utf8Bytes(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Each half of a pair counts two of its four bytes.
    bytes += unit < 0x80 ? 1 : unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 2 : 3;
  }
  return bytes;
}

/** Well-formed text of `min` to `max` bytes of UTF-8. */
export function text(max: number, min = 0): Field<string, false> {
  const fits = (value: unknown): boolean => {
    if (typeof value !== "string" || value.length > max || SURROGATE.test(value)) return false;
    const bytes = utf8Bytes(value);
    return bytes >= min && bytes <= max;
  };
  return plain(refined(fits));
}

/** `min` to `max` bytes. Decoding gives a copy. */
export function bytes(min: number, max = min): Field<Uint8Array, false> {
  const fits = (value: unknown): boolean =>
    value instanceof Uint8Array && value.length >= min && value.length <= max;
  return {
    schema: refined(fits),
    toWire: identity,
    fromWire: (wire) => Uint8Array.from(wire as Uint8Array),
    toJson: toHex,
    jsonToWire: (json) => (typeof json === "string" ? fromHex(json) : json),
    optional: false,
  };
}

/** An id of exactly `count` bytes; in code and JSON its lower-case hex (OverlayId, PeerId). */
export function id(count: number): Field<string, false> {
  const raw = bytes(count);
  const parse = (value: unknown): unknown => (typeof value === "string" ? fromHex(value) : value);
  return {
    schema: raw.schema,
    toWire: parse,
    fromWire: (wire) => toHex(wire as Uint8Array),
    toJson: identity,
    jsonToWire: parse,
    optional: false,
  };
}

/** A nested positional array with names of its own. */
export function record<F extends Fields>(fields: F): Field<MessageOf<F>, false> {
  const layout = layoutOf(fields);
  return {
    schema: layout.schema,
    toWire: (value) => layout.toWire(value as InputOf<F>),
    fromWire: (wire) => layout.fromWire(wire as unknown[]),
    toJson: (value) => layout.toJson(value),
    jsonToWire: (json) => layout.jsonToWire(json),
    optional: false,
  };
}

/**
 * At most `max` items. Items for which `keep` says no are dropped when decoding: a newer version's
 * kinds that this one can not use.
 */
export function list<T>(
  item: Field<T, boolean>,
  max: number,
  keep: (value: T) => boolean = () => true,
): Field<readonly T[], false> {
  return {
    schema: { type: "array", items: item.schema, maxItems: max },
    toWire: (value) => (Array.isArray(value) ? value.map((entry) => item.toWire(entry)) : value),
    fromWire: (wire) => (wire as unknown[]).map((entry) => item.fromWire(entry)).filter(keep),
    toJson: (value) => value.map((entry) => item.toJson(entry)),
    jsonToWire: (json) =>
      Array.isArray(json) ? json.map((entry) => item.jsonToWire(entry)) : json,
    optional: false,
  };
}

/** May be missing at the end (older sender) or nil; then it is `fallback`. */
export function optional<T>(field: Field<T, boolean>, fallback: T): Field<T, true> {
  return {
    ...field,
    schema: orNull(field.schema),
    toWire: (value) => (value === undefined ? field.toWire(fallback) : field.toWire(value)),
    fromWire: (wire) => (wire === null ? fallback : field.fromWire(wire)),
    jsonToWire: (json) => (json === undefined || json === null ? null : field.jsonToWire(json)),
    optional: true,
    fallback: () => fallback,
  };
}

/** May be missing at the end or nil; then it is undefined. */
export function maybe<T>(field: Field<T, boolean>): Field<T | undefined, true> {
  return {
    schema: orNull(field.schema),
    toWire: (value) => (value === undefined ? null : field.toWire(value)),
    fromWire: (wire) => (wire === null ? undefined : field.fromWire(wire)),
    toJson: (value) => (value === undefined ? null : field.toJson(value)),
    jsonToWire: (json) => (json === undefined || json === null ? null : field.jsonToWire(json)),
    optional: true,
    fallback: () => undefined,
  };
}

/** One of a few words, as text on the wire. */
export function word<const W extends string>(words: readonly W[]): Field<W, false> {
  const known: ReadonlySet<unknown> = new Set(words);
  return plain<W>(refined((value) => known.has(value)));
}

// ---------------------------------------------------------------------------------------- layout

interface Layout<F extends Fields> {
  readonly schema: Schema;
  readonly names: readonly string[];
  toWire(value: InputOf<F>): unknown[];
  fromWire(wire: readonly unknown[]): MessageOf<F>;
  toJson(value: MessageOf<F>): Record<string, unknown>;
  jsonToWire(json: unknown): unknown;
}

function layoutOf<F extends Fields>(fields: F): Layout<F> {
  const entries = Object.entries(fields);
  const required = entries.findLastIndex(([, field]) => !field.optional) + 1;
  const schema = {
    type: "array",
    minItems: required,
    prefixItems: entries.map(([, field]) => field.schema),
  };
  return {
    schema,
    names: entries.map(([name]) => name),
    toWire(value) {
      const source: unknown = value;
      if (typeof source !== "object" || source === null) return [];
      const named = source as Record<string, unknown>;
      return entries.map(([name, field]) => field.toWire(named[name]));
    },
    fromWire(wire) {
      const result: Record<string, unknown> = {};
      for (let i = 0; i < entries.length; i++) {
        const entry = entries[i] as (typeof entries)[number];
        const [name, field] = entry;
        result[name] = i < wire.length ? field.fromWire(wire[i]) : field.fallback?.();
      }
      return result as MessageOf<F>;
    },
    toJson(value) {
      const named = value as Record<string, unknown>;
      const result: Record<string, unknown> = {};
      for (const [name, field] of entries) result[name] = field.toJson(named[name]);
      return result;
    },
    jsonToWire(json) {
      if (typeof json !== "object" || json === null || Array.isArray(json)) return json;
      // The names come from the table; own properties only, so nothing is inherited.
      return entries.map(([name, field]) =>
        field.jsonToWire(
          Object.hasOwn(json, name) ? (json as Record<string, unknown>)[name] : undefined,
        ),
      );
    },
  };
}

// --------------------------------------------------------------------------------------- message

export interface MessageDefinition<F extends Fields> {
  readonly name: string;
  readonly type: number;
  readonly fields: F;
}

export function defineMessage<F extends Fields>(definition: MessageDefinition<F>): Message<F> {
  const { name, type, fields } = definition;
  const layout = layoutOf(fields);
  let compiled: Validator | undefined;
  // Compiled on first use: a process that never sees a message never pays for its check.
  const problem = (wire: unknown): string | undefined => {
    compiled ??= Compile(layout.schema);
    if (compiled.Check(wire)) return undefined;
    const [, [error]] = compiled.Errors(wire);
    const path = error?.instancePath.split("/") ?? [];
    const field = layout.names[Number(path[1] === undefined || path[1] === "" ? -1 : path[1])];
    return field === undefined ? `${name} has too few fields` : `${name}.${field} does not fit`;
  };
  const refuse = (detail: string): never => {
    throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail });
  };
  const message: Message<F> = {
    name,
    type,
    fields,
    encode: (value) => pack(message.toPositions(value)),
    decode: (wire) => message.decodeAt(wire, 0, wire.length),
    decodeAt(memory, offset, count) {
      const reason = prescan(memory, offset, offset + count);
      if (reason !== undefined) refuse(`${name}: ${reason}`);
      return message.fromPositions(unpackScanned(memory, offset, count));
    },
    toPositions(value) {
      const wire = layout.toWire(value);
      const detail = problem(wire);
      if (detail !== undefined) throw new LocalUsageError("USAGE", { detail });
      return wire;
    },
    fromPositions(positions) {
      const detail = problem(positions);
      if (detail !== undefined) refuse(detail);
      return layout.fromWire(positions);
    },
    toJson: layout.toJson,
    fromJson(json) {
      const wire = layout.jsonToWire(json);
      if (!Array.isArray(wire)) refuse(`${name}: not an object`);
      return message.fromPositions(wire as unknown[]);
    },
  };
  return message;
}

// --------------------------------------------------------------------------------------- msgpack

const packr = new Packr({
  useRecords: false,
  moreTypes: false,
  structuredClone: false,
  variableMapSize: true,
  int64AsType: "number",
});

/** Positions to msgpack; the result is the caller's. */
export function pack(positions: readonly unknown[]): Uint8Array {
  // The packer hands out slices of a pool that it goes on using.
  return Uint8Array.from(packr.pack(wide(positions)));
}

/** Integers over 32 bits would be packed as floats; as bigint they become 64-bit integers. */
function wide(value: unknown): unknown {
  if (typeof value === "number") return value > 0xffff_ffff ? BigInt(value) : value;
  return Array.isArray(value) ? value.map(wide) : value;
}

/**
 * Unpacks one array from untrusted bytes. Byte strings in it may be views of `memory`. Throws
 * RemoteProtocolError MESSAGE_MALFORMED.
 */
export function unpack(memory: Uint8Array, offset: number, count: number): readonly unknown[] {
  const reason = prescan(memory, offset, offset + count);
  if (reason !== undefined) throw new RemoteProtocolError("MESSAGE_MALFORMED", { detail: reason });
  return unpackScanned(memory, offset, count);
}

function unpackScanned(memory: Uint8Array, offset: number, count: number): readonly unknown[] {
  return packr.unpack(memory.subarray(offset, offset + count)) as unknown[];
}
