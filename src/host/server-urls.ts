/** Where the servers are that an engine or a cache server speaks with. */

import { LocalUsageError } from "../base/errors.ts";
import { type Address, parseAddress } from "../base/machine.ts";
import type { ServerUrls } from "./engine-types.ts";

/** Throws LocalUsageError USAGE for a role without a URL, and for what is none. */
export function serverAddresses(urls: ServerUrls): { oms: Address; ixs: Address } {
  const read = (role: "oms" | "ixs"): Address => {
    const text = urls[role] ?? urls.server;
    if (text === undefined) {
      throw new LocalUsageError("USAGE", {
        detail: `no URL for the ${role}: give server or ${role}`,
      });
    }
    const address = parseAddress(text.replace(/^http:/, "ws:"));
    if (address === undefined || address.transport !== "ws") {
      throw new LocalUsageError("USAGE", {
        detail: `${text} is no server URL; it looks like ws://127.0.0.1:7900`,
      });
    }
    return address;
  };
  return { oms: read("oms"), ixs: read("ixs") };
}
