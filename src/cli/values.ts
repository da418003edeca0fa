/**
 * From the text of a flag, a variable or the configuration file to its value. Each parser throws
 * commander's InvalidArgumentError with a sentence that says what is right.
 */

import { InvalidArgumentError } from "commander";
import { CACHE_LABEL_BYTES_MAX, RATE_LIMIT_MAX, RATE_LIMIT_MIN } from "../base/limits.ts";
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

/** A number of at least 0. */
export function atLeastZero(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= 0 && Number.isFinite(value))) {
    throw new InvalidArgumentError("Give a number of at least 0.");
  }
  return value;
}

/** A number from 0 to 1. */
export function share(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError("Give a share from 0 to 1, e.g. 0.1 for a tenth.");
  }
  return value;
}

/** A number from 0 to 1 for each minute. */
export function shareAMinute(text: string): number {
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!(value >= 0 && value <= 1)) {
    throw new InvalidArgumentError("Give a share from 0 to 1 a minute: 0.1 = 10 % a minute.");
  }
  return value;
}

const RATE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  ki: 2 ** 10,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

/** Bytes a second: a number with k, M, G (thousands) or Ki, Mi, Gi (1,024s), also as kB, MiB/s. */
export function byteRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?([kK]i?|[MG]i?|)B?(?:\/s)?$/.exec(text);
  if (match === null) {
    throw new InvalidArgumentError("Give bytes a second, e.g. 500k, 2M, 1Mi or 2MB/s.");
  }
  const value = Number(match[1]) * (RATE_UNITS[match[2] as string] as number);
  if (!(value >= RATE_LIMIT_MIN && value <= RATE_LIMIT_MAX)) {
    throw new InvalidArgumentError("Give 1Ki to 12.5G bytes a second.");
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

/** `HOST:PORT`, `[IPv6]:PORT`, `*:PORT` (every address) or `PORT` alone (on 127.0.0.1). */
export function hostPort(text: string): HostPort {
  const full = /^\d+$/.test(text) ? `127.0.0.1:${text}` : text.replace(/^\*:/, "[::]:");
  const address = parseAddress(`tcp://${full}`);
  if (address === undefined) {
    throw new InvalidArgumentError(
      "Give HOST:PORT, e.g. 192.0.2.7:7910, [2001:db8::7]:7910, *:7910.",
    );
  }
  return { host: address.host, port: address.port };
}

/** A host to listen on: a name, IPv4, IPv6 with or without brackets, `*` for every address. */
export function hostAlone(text: string): string {
  if (text === "*") return "::";
  const bare = text.replace(/^\[(.*)\]$/, "$1");
  const address = parseAddress(`ws://${bare.includes(":") ? `[${bare}]` : bare}:1`);
  if (address === undefined) {
    throw new InvalidArgumentError("Give a host, e.g. 192.0.2.7, 2001:db8::7 or *.");
  }
  return address.host;
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

/** The id of a peer. */
export function peerId(text: string): string {
  if (!/^[0-9a-f]{64}$/i.test(text)) {
    throw new InvalidArgumentError("Give the id of a peer: 64 hex digits.");
  }
  return text.toLowerCase();
}

/** Ids of peers, separated by commas. */
export const peerIds = (text: string): string[] => words(text).map(peerId);

/** Text that must not be empty. */
export function word(text: string): string {
  if (text === "") throw new InvalidArgumentError("It can not be empty.");
  return text;
}

/** A name for people, short enough for the servers. */
export function label(text: string): string {
  if (text === "" || Buffer.byteLength(text) > CACHE_LABEL_BYTES_MAX) {
    throw new InvalidArgumentError(`Give a name of 1 to ${CACHE_LABEL_BYTES_MAX} bytes.`);
  }
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
