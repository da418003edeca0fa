/** The machine of each role from the options of the process. */

import { hostKind } from "../base/hosts.ts";
import { formatAddress, type Machine, parseAddress } from "../base/machine.ts";
import { seededRng } from "../base/rng.ts";
import { createIxs } from "../servers/ixs.ts";
import type { ServerName } from "../servers/multiplexer.ts";
import { createOms } from "../servers/oms.ts";
import { createPams } from "../servers/pams.ts";
import type { ServerCommand, ServerEvent } from "../servers/server-types.ts";
import { sha256, systemEntropy } from "./node-identity.ts";
import type { ServersOptions } from "./server-options.ts";

export type AnyServer = Machine<ServerCommand, ServerEvent<unknown>>;

/** `url`: where this process listens. */
export function serverMachines(
  options: ServersOptions,
  roles: readonly ServerName[],
  url: string,
): Record<ServerName, () => AnyServer> {
  const seed = systemEntropy.bytes(4);
  const common = {
    rng: seededRng(new DataView(seed.buffer, seed.byteOffset).getUint32(0)),
    entropy: systemEntropy,
    sha256,
    ...pick(options, "serviceKey"),
  };
  const interval = pick(options, "reportIntervalMs");
  const { pamsUrl = "", ixsUrl = "" } = options;
  return {
    oms: () =>
      createOms({
        ...common,
        ...interval,
        pamsUrl: roles.includes("pams") ? url : pamsUrl,
        // The link to a PAMS of this very process.
        ...(roles.includes("pams") ? { pamsAddress: onThisMachine(url) } : {}),
        // An IXS of this process hears of it without a link.
        ixsUrl: roles.includes("ixs") ? "" : ixsUrl,
        omsUrl: url,
        ...pick(options, "refreshMs"),
        ...pick(options, "memberLeaseMs"),
        ...pick(options, "virtualPeersMax"),
        ...pick(options, "priorityMax"),
      }) as AnyServer,
    ixs: () => createIxs(common) as AnyServer,
    pams: () => createPams({ ...common, ...interval }) as AnyServer,
  };
}

/** The URL at which this process finds itself, whatever it listens on. */
function onThisMachine(url: string): string {
  const address = parseAddress(url);
  if (address === undefined || hostKind(address.host) !== "wildcard") return url;
  return formatAddress({ ...address, host: address.host === "::" ? "::1" : "127.0.0.1" });
}

function pick<T extends object, K extends keyof T>(from: T, name: K): Pick<T, K> | object {
  return from[name] === undefined ? {} : { [name]: from[name] };
}
