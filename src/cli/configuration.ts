/**
 * Where an option's value comes from: flag, else environment (MP2P_*), else configuration file, else
 * default. Commander knows the first two; this adds the file. Keys of the file are flags without
 * their dashes; an object under a command's name holds for that command only:
 *
 *     { "server": "ws://10.0.0.1:7900", "join": { "out": "copy.txt" } }
 *
 * A key that no command knows is an error: a misspelt one would otherwise do nothing in silence.
 */

import { readFileSync } from "node:fs";
import type { Command, Option } from "commander";
import { InvalidArgumentError } from "commander";
import { LocalUsageError } from "../base/errors.ts";

type Values = Readonly<Record<string, unknown>>;

/**
 * Fills what neither flag nor environment gave. The whole file is checked, also what a flag overrides
 * and what is for other commands. Throws USAGE naming file and key.
 */
export function applyConfiguration(command: Command, path: string): void {
  const values = readConfiguration(path);
  const commands = command.parent?.commands ?? [command];
  const wrong = (key: string, why: string): LocalUsageError =>
    new LocalUsageError("USAGE", { detail: `${path}: ${key}: ${why}` });
  const common = new Map<Option, unknown>();
  const own = new Map<Option, unknown>();
  for (const [key, value] of Object.entries(values)) {
    const named = commands.find((one) => one.name() === key);
    if (named === undefined) {
      const option = optionOf(command, key);
      if (option !== undefined) common.set(option, convert(option, key, value));
      else checkElsewhere(key, value);
      continue;
    }
    if (!isObject(value)) throw wrong(key, "an object with options of that command");
    for (const [name, given] of Object.entries(value)) {
      const option = optionOf(named, name);
      if (option === undefined) throw wrong(`${key}.${name}`, `${key} has no such option`);
      const converted = convert(option, `${key}.${name}`, given);
      if (named === command) own.set(option, converted);
    }
  }
  for (const [option, value] of new Map([...common, ...own])) {
    const name = option.attributeName();
    const source = command.getOptionValueSource(name);
    if (source === "cli" || source === "env") continue;
    command.setOptionValueWithSource(name, value, "config");
  }

  /** A common key that this command does not have: some other one must take it. */
  function checkElsewhere(key: string, value: unknown): void {
    let fault: unknown = wrong(key, "no command has such an option");
    for (const option of commands.flatMap((one) => optionOf(one, key) ?? [])) {
      try {
        convert(option, key, value);
        return;
      } catch (error) {
        fault = error;
      }
    }
    throw fault;
  }

  function convert(option: Option, key: string, value: unknown): unknown {
    if (option.isBoolean()) {
      if (typeof value !== "boolean") throw wrong(key, "true or false");
      return value;
    }
    const parts: readonly unknown[] = Array.isArray(value) ? value : [value];
    if (!parts.every((part) => typeof part === "string" || typeof part === "number")) {
      throw wrong(key, "a text, number or list");
    }
    const converted = parse(option, key, parts.join(","));
    if (Array.isArray(value) && !Array.isArray(converted)) throw wrong(key, "one value, no list");
    const results: readonly unknown[] = Array.isArray(converted) ? converted : [converted];
    // A number that stays a text was meant for something else.
    const hasNumber = parts.some((part) => typeof part === "number");
    if (hasNumber && results.some((result) => typeof result === "string")) {
      throw wrong(key, "a text, in quotation marks");
    }
    return converted;
  }

  function parse(option: Option, key: string, text: string): unknown {
    try {
      return option.parseArg === undefined ? text : option.parseArg(text, undefined);
    } catch (error) {
      if (error instanceof InvalidArgumentError) throw wrong(key, error.message);
      throw error;
    }
  }
}

function readConfiguration(path: string): Values {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new LocalUsageError("FILE_NOT_FOUND", { detail: path, cause });
  }
  let values: unknown;
  try {
    values = JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new LocalUsageError("USAGE", { detail: `${path} is no JSON: ${why}`, cause });
  }
  if (!isObject(values)) {
    throw new LocalUsageError("USAGE", { detail: `${path} holds no JSON object` });
  }
  return values;
}

function optionOf(command: Command, key: string): Option | undefined {
  return command.options.find((option) => keyOf(option) === key);
}

function keyOf(option: Option): string {
  return (option.long ?? "").replace(/^--/, "");
}

function isObject(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
