/**
 * Checks of what users of the library hand in: each option is named, with what it may be, and so is
 * one that there is not. Wrong values are USAGE at once, not a puzzle later.
 */

import { LocalUsageError } from "../base/errors.ts";

/** What a value may be, in words, and what is wrong with one; undefined: nothing. */
export interface Kind {
  readonly words: string;
  /** `name`: the option's, to be told of. Throws USAGE. */
  check(name: string, value: unknown): void;
}

/** A kind for each option: the compiler sees to it that none is left out. */
export type Kinds<T> = { readonly [K in keyof Required<T>]: Kind };

function kind(words: string, holds: (value: unknown) => boolean): Kind {
  return {
    words,
    check: (name, value) => {
      if (!holds(value)) throw wrong(name, words, value);
    },
  };
}

export const flag = kind("true or false", (value) => typeof value === "boolean");
export const text = kind("a string", (value) => typeof value === "string");
export const callback = kind("a function", (value) => typeof value === "function");
export const bytes = kind("a Uint8Array", isBytes);
export const signal = kind("an AbortSignal", (value) => isObject(value) && "aborted" in value);
export const logger = kind("a logger, as of pino", isObject);

export function oneOf(...values: readonly string[]): Kind {
  const words = values.map((value) => `"${value}"`).join(", ");
  return kind(`one of ${words}`, (value) => values.includes(value as string));
}

export function number(low: number, high?: number): Kind {
  const words = `a ${high === undefined ? "finite " : ""}number ${range(low, high)}`;
  return kind(words, (value) => Number.isFinite(value) && isWithin(value, low, high));
}

/** A time that Infinity makes endless. */
export function patience(low: number): Kind {
  return kind(`a number ${range(low, undefined)}`, (value) => isWithin(value, low));
}

export function whole(low: number, high?: number): Kind {
  return kind(
    `a whole number ${range(low, high)}`,
    (value) => Number.isInteger(value) && isWithin(value, low, high),
  );
}

export function list(of: Kind): Kind {
  const words = "an array";
  return {
    words,
    check: (name, value) => {
      if (!Array.isArray(value)) throw wrong(name, words, value);
      for (const [i, one] of value.entries()) of.check(`${name}[${i}]`, one);
    },
  };
}

/** Options within an option. */
export function object<T>(kinds: Kinds<T>): Kind {
  const words = `an object of ${Object.keys(kinds).join(", ")}`;
  return {
    words,
    check: (name, value) => {
      if (!isObject(value)) throw wrong(name, words, value);
      checkOptions(name, value as T, kinds, `${name}.`);
    },
  };
}

/** One that has no default. */
export function needed(of: Kind): Kind & { readonly isNeeded: true } {
  return { ...of, isNeeded: true };
}

/** Throws USAGE for what `where` has no option of that name, or not of that kind, for. */
export function checkOptions<T>(where: string, options: T, kinds: Kinds<T>, prefix = ""): void {
  if (!isObject(options)) throw wrong(`what ${where} takes`, "an object of options", options);
  const known = new Map<string, Kind>(Object.entries(kinds));
  for (const name of Object.keys(options)) {
    if (known.has(name)) continue;
    throw new LocalUsageError("USAGE", {
      detail: `${where} has no option "${name}"; it has ${[...known.keys()].join(", ")}`,
    });
  }
  for (const [name, one] of known) {
    const value = (options as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined || "isNeeded" in one) one.check(`${prefix}${name}`, value);
  }
}

/** Bytes of another realm are bytes, too. */
export function isBytes(value: unknown): value is Uint8Array {
  return value instanceof Uint8Array || tagOf(value) === "[object Uint8Array]";
}

/** For what is written again and again: nothing but the check of its type in the usual case. */
export function checkPayload(name: string, value: unknown): void {
  if (!isBytes(value))
    throw wrong(name, bytes.words, value, "; text: new TextEncoder().encode(it)");
}

export function checkLengths(value: unknown): void {
  if (value instanceof Uint32Array || tagOf(value) === "[object Uint32Array]") return;
  throw wrong("lengths", "a Uint32Array", value);
}

export function checkText(name: string, value: unknown): void {
  text.check(name, value);
}

function wrong(name: string, words: string, value: unknown, cure = ""): LocalUsageError {
  return new LocalUsageError("USAGE", {
    detail: `${name} is ${words}, not ${shown(value)}${cure}`,
  });
}

/** A value as it may stand in a sentence. */
function shown(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}...` : value);
  }
  if (typeof value === "function") return "a function";
  return typeof value === "object" && value !== null ? tagOf(value).slice(8, -1) : String(value);
}

function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWithin(value: unknown, low: number, high = Number.POSITIVE_INFINITY): boolean {
  return typeof value === "number" && value >= low && value <= high;
}

function range(low: number, high: number | undefined): string {
  return high === undefined ? `from ${low}` : `from ${low} to ${high}`;
}
