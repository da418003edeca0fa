import { isIPv6 } from "node:net";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type HostKind, hostKind, isLoopback, isSameNet, plainHost } from "../../src/base/hosts.ts";

const kinds: readonly (readonly [string, HostKind])[] = [
  ["127.0.0.1", "loopback"],
  ["127.255.3.4", "loopback"],
  ["::1", "loopback"],
  ["0:0:0:0:0:0:0:1", "loopback"],
  ["::ffff:127.0.0.1", "loopback"],
  ["localhost", "loopback"],
  ["localhost.", "loopback"],
  ["a.localhost", "loopback"],
  ["notlocalhost", "name"],
  ["10.0.0.1", "private"],
  ["172.16.0.1", "private"],
  ["172.31.255.255", "private"],
  ["172.32.0.1", "public"],
  ["192.168.3.4", "private"],
  ["169.254.169.254", "private"],
  ["100.64.0.1", "private"],
  ["100.128.0.1", "public"],
  ["fd12:3456::1", "private"],
  ["FE80::1%eth0", "private"],
  ["::ffff:10.1.2.3", "private"],
  ["198.51.100.9", "public"],
  ["2001:db8::7", "public"],
  ["::ffff:8.8.8.8", "public"],
  ["0.0.0.0", "wildcard"],
  ["::", "wildcard"],
  ["0.1.2.3", "unusable"],
  ["224.0.0.1", "unusable"],
  ["255.255.255.255", "unusable"],
  ["ff02::1", "unusable"],
  ["64:ff9b::10.0.0.1", "unusable"],
  ["::7f00:1", "unusable"],
  ["300.1.2.3", "unusable"],
  ["1.2.3", "unusable"],
  ["127.1", "unusable"],
  ["2130706433", "unusable"],
  ["1:2:3", "unusable"],
  ["1::2::3", "unusable"],
  ["1:2:3:4:5:6:7:8:9", "unusable"],
  ["peer.example", "name"],
];

describe("what a host's address says", () => {
  it.each(kinds)("%s is %s", (host, kind) => {
    expect(hostKind(host)).toBe(kind);
    expect(isLoopback(host)).toBe(kind === "loopback");
  });

  it("an IPv4 address that a dual-stack socket shows is the IPv4 address", () => {
    expect(plainHost("::FFFF:192.0.2.1")).toBe("192.0.2.1");
    expect(plainHost("2001:DB8::1")).toBe("2001:db8::1");
    expect(plainHost("Host.Example")).toBe("Host.Example");
  });

  it("reads every IPv6 literal, whatever its form", () => {
    fc.assert(
      fc.property(fc.ipV6(), (host) => {
        expect(isIPv6(host)).toBe(true);
        expect(hostKind(host)).not.toBe("name");
        expect(isSameNet(host, host)).toBe(true);
      }),
    );
  });

  it("never throws, and calls nothing usable that the system would not dial", () => {
    fc.assert(
      fc.property(fc.string(), (host) => {
        const kind = hostKind(host);
        if (host.includes(":") && !isIPv6(host.split("%")[0] ?? "")) {
          expect(["unusable", "private"]).toContain(kind);
        }
      }),
    );
  });

  it("networks: a /24 and a /64", () => {
    expect(isSameNet("10.0.0.1", "10.0.0.200")).toBe(true);
    expect(isSameNet("10.0.0.1", "10.0.1.1")).toBe(false);
    expect(isSameNet("2001:db8::1", "2001:db8:0:0:9::1")).toBe(true);
    expect(isSameNet("2001:db8::1", "2001:db8:0:1::1")).toBe(false);
    expect(isSameNet("10.0.0.1", "::1")).toBe(false);
    expect(isSameNet("a", "a")).toBe(false);
  });
});
