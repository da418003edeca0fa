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

/** Fills what neither flag nor environment gave. Throws USAGE naming file and key. */
export function applyConfiguration(command: Command, path: string): void {
  const values = readConfiguration(path);
  const commands = command.parent?.commands ?? [command];
  const own = Object.hasOwn(values, command.name()) ? values[command.name()] : {};
  const names = new Set(commands.map((one) => one.name()));
  const known = new Set(commands.flatMap((one) => one.options.map(keyOf)));
  const wrong = (key: string, why: string): LocalUsageError =>
    new LocalUsageError("USAGE", { detail: `${path}: ${key}: ${why}` });
  for (const [key, value] of Object.entries(values)) {
    if (names.has(key)) {
      if (!isObject(value)) throw wrong(key, "an object with options of that command");
      continue;
    }
    if (!known.has(key)) throw wrong(key, "no command has such an option");
    const option = command.options.find((one) => keyOf(one) === key);
    if (option !== undefined && !Object.hasOwn(own as Values, key)) set(option, key, value);
  }
  for (const [key, value] of Object.entries(own as Values)) {
    const option = command.options.find((one) => keyOf(one) === key);
    if (option === undefined) throw wrong(key, `${command.name()} has no such option`);
    set(option, key, value);
  }

  function set(option: Option, key: string, value: unknown): void {
    const name = option.attributeName();
    const source = command.getOptionValueSource(name);
    if (source === "cli" || source === "env") return;
    command.setOptionValueWithSource(name, convert(option, key, value), "config");
  }

  function convert(option: Option, key: string, value: unknown): unknown {
    if (option.isBoolean()) {
      if (typeof value !== "boolean") throw wrong(key, "true or false");
      return value;
    }
    const text = Array.isArray(value) ? value.join(",") : String(value);
    if (isObject(value) || value === null) throw wrong(key, "a text, number or list");
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

function keyOf(option: Option): string {
  return (option.long ?? "").replace(/^--/, "");
}

function isObject(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
