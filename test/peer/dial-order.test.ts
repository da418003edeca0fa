import { describe, expect, it } from "vitest";
import { inDialOrder } from "../../src/peer/session/dial-order.ts";
import type { Candidate } from "../../src/protocol/common.ts";

const at = (host: string, kind: Candidate["kind"] = 0, port = 7_910): Candidate => ({
  transport: "tcp",
  host,
  port,
  kind,
});
const order = (given: readonly Candidate[], own: readonly string[]): string[] =>
  inDialOrder(
    given,
    own.map((host) => at(host)),
  ).map(({ host }) => host);

describe("the order of dialling", () => {
  const given = [
    at("203.0.113.9", 2),
    at("192.168.7.7"),
    at("198.51.100.9", 1),
    at("2001:db8::7"),
    at("127.0.0.1"),
  ];

  it("this machine, own network, as the OMS sees it, as advertised, other local addresses", () => {
    expect(order(given, ["192.168.7.1", "::"])).toEqual([
      "127.0.0.1",
      "192.168.7.7",
      "198.51.100.9",
      "203.0.113.9",
      "2001:db8::7",
    ]);
    expect(order(given, ["2001:db8::1"]).slice(0, 2)).toEqual(["127.0.0.1", "2001:db8::7"]);
    expect(order(given, ["203.0.113.9"])[0]).toBe("203.0.113.9");
  });

  it("a candidate of an OMS of before, without a kind, is a local one", () => {
    const old: Candidate = { transport: "tcp", host: "203.0.113.1", port: 1 };
    expect(order([old, at("198.51.100.9", 1)], ["10.0.0.1"])).toEqual([
      "198.51.100.9",
      "203.0.113.1",
    ]);
  });
});
