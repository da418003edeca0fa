/** Where an engine tells others to dial it. */

import { networkInterfaces } from "node:os";
import { OperationError } from "../base/errors.ts";
import { hostKind, isSameNet, plainHost } from "../base/hosts.ts";
import { CANDIDATES_MAX } from "../base/limits.ts";
import type { Address } from "../base/machine.ts";
import { CANDIDATE_KINDS, type Candidate } from "../protocol/common.ts";

/** Addresses of this machine's interfaces that others may reach; IPv4 first. */
export function interfaceHosts(withIPv6: boolean): string[] {
  const hosts = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, family }) => !internal && (withIPv6 || family === "IPv4"))
    .map(({ address }) => plainHost(address))
    // Link-local addresses mean something else on every interface of who is told.
    .filter((host) => !isSameNet(host, "fe80::") && ["private", "public"].includes(hostKind(host)));
  return [...new Set(hosts)].sort((a, b) => Number(a.includes(":")) - Number(b.includes(":")));
}

/**
 * At most 8 candidates: what the operator advertises, if anything; else where it listens, and where
 * that is every address of the machine, whatever the OMS sees and the addresses of its interfaces.
 */
export function candidatesOf(
  listening: Address,
  advertise: readonly { readonly host: string; readonly port: number }[] | undefined,
  hostsOfMachine: (withIPv6: boolean) => readonly string[] = interfaceHosts,
): Candidate[] {
  const { transport, host, port } = listening;
  const of = (
    at: { host: string; port: number },
    kind: keyof typeof CANDIDATE_KINDS,
  ): Candidate => ({
    transport,
    host: at.host,
    port: at.port,
    kind: CANDIDATE_KINDS[kind],
  });
  if (advertise !== undefined) {
    return advertise.map((at) => of(at, "advertised")).slice(0, CANDIDATES_MAX);
  }
  if (hostKind(host) !== "wildcard") return [of({ host, port }, "local")];
  const machine = hostsOfMachine(host.includes(":")).map((each) =>
    of({ host: each, port }, "local"),
  );
  return [of({ host, port }, "observed"), ...machine].slice(0, CANDIDATES_MAX);
}

/**
 * Listens with `listen` on `host`; where that is `::` and the machine has no IPv6, on every address
 * of IPv4.
 */
export async function anyFamily<T>(host: string, listen: (host: string) => Promise<T>): Promise<T> {
  try {
    return await listen(host);
  } catch (error) {
    const isFamily =
      host === "::" && error instanceof OperationError && error.code === "ADDRESS_UNAVAILABLE";
    if (!isFamily) throw error;
    return listen("0.0.0.0");
  }
}
