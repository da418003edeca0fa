/**
 * From the text of a flag, a variable or the configuration file to its value. Each parser throws
 * commander's InvalidArgumentError with a sentence that says what is right.
 */

import { InvalidArgumentError } from "commander";
import { type Address, parseAddress } from "../base/machine.ts";

/** A whole number from `low` to `high`. */
export function integer(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high)) {
      throw new InvalidArgumentError(`Give a whole number from ${low} to ${high}.`);
    }
    return value;
  };
}

/** A number above 0. */
export function positive(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value > 0 && Number.isFinite(value))) {
    throw new InvalidArgumentError("Give a number above 0.");
  }
  return value;
}

/** The URL of a server, checked; `host:port` is taken as `ws://host:port`. */
export function serverUrl(text: string): string {
  const url = text.includes("://") ? text : `ws://${text}`;
  const address = parseAddress(url);
  if (address === undefined || address.transport !== "ws" || address.port === 0) {
    throw new InvalidArgumentError("Give a URL like ws://127.0.0.1:7900.");
  }
  return url.replace(/\/$/, "");
}

export type HostPort = Pick<Address, "host" | "port">;

/** `HOST:PORT`, `[IPv6]:PORT` or `PORT` alone (on 127.0.0.1). */
export function hostPort(text: string): HostPort {
  const address = parseAddress(`tcp://${/^\d+$/.test(text) ? `127.0.0.1:${text}` : text}`);
  if (address === undefined) {
    throw new InvalidArgumentError("Give HOST:PORT, e.g. 0.0.0.0:7910 or [::]:7910.");
  }
  return { host: address.host, port: address.port };
}

export type AcceptAt = Pick<Address, "host" | "port"> & { readonly transport: "tcp" | "ws" };

/** `[HOST:]PORT` for TCP, `ws://HOST:PORT` for WebSocket; several, separated by commas. */
export function acceptAts(text: string): AcceptAt[] {
  return text.split(",").map((part) => {
    const one = part.trim();
    const ws = /^ws:\/\/(.*)$/.exec(one);
    const { host, port } = hostPort(ws?.[1] ?? one.replace(/^tcp:\/\//, ""));
    return { transport: ws === null ? "tcp" : "ws", host, port };
  });
}

/** Where a source peer accepts data sources: `HOST:PORT`, `tcp://...` or `ws://...`. */
export function feedTarget(text: string): string {
  const url = text.includes("://") ? text : `tcp://${text}`;
  const address = parseAddress(url);
  if (address === undefined || address.transport === "memory" || address.port === 0) {
    throw new InvalidArgumentError("Give HOST:PORT or ws://HOST:PORT of a source peer (--accept).");
  }
  return url;
}

/** Several HOST:PORT, separated by commas, each with a real port. */
export function hostPorts(text: string): HostPort[] {
  const addresses = text.split(",").map((part) => hostPort(part.trim()));
  if (addresses.some(({ port }) => port === 0)) {
    throw new InvalidArgumentError("An advertised port can not be 0.");
  }
  return addresses;
}

/** Text that must not be empty. */
export function word(text: string): string {
  if (text === "") throw new InvalidArgumentError("It can not be empty.");
  return text;
}

/** Words separated by commas. */
export function words(text: string): string[] {
  return text.split(",").map((part) => word(part.trim()));
}

/** Words separated by commas, each one of `known`. */
export function wordsOf<const T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    words(text).map((part) => {
      const found = known.find((one) => one === part);
      if (found === undefined) {
        throw new InvalidArgumentError(`Give some of ${known.join(", ")}, separated by commas.`);
      }
      return found;
    });
}
