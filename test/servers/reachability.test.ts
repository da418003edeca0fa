import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hostKind } from "../../src/base/hosts.ts";
import { CANDIDATE_KINDS, type Candidate, REACH } from "../../src/protocol/common.ts";
import { Reachability } from "../../src/servers/reachability.ts";

const at = (host: string, port = 7_910, kind: Candidate["kind"] = 0): Candidate => ({
  transport: "tcp",
  host,
  port,
  kind,
});
const hosts = (candidates: readonly Candidate[]): string[] => candidates.map(({ host }) => host);
/** What each asker is told of a member seen at `seen` that says `given`. */
function told(given: readonly Candidate[], seen: string, asker: string): string[] {
  return hosts(new Reachability(given, seen).toldTo(asker));
}

describe("who is told which candidate before anything was dialled", () => {
  it("loopback: only who is on the same machine", () => {
    expect(told([at("127.0.0.1")], "127.0.0.1", "127.0.0.1")).toEqual(["127.0.0.1"]);
    expect(told([at("::1")], "::ffff:127.0.0.1", "::1")).toEqual(["::1"]);
    expect(told([at("127.0.0.1")], "127.0.0.1", "10.0.0.9")).toEqual([]);
    expect(told([at("127.0.0.1")], "198.51.100.9", "198.51.100.9")).toEqual([]);
  });

  it("private and seen there: who is seen in a private network", () => {
    expect(told([at("10.0.0.5")], "10.0.0.5", "10.0.0.9")).toEqual(["10.0.0.5"]);
    expect(told([at("fd00::5")], "fd00::5", "fd00::9")).toEqual(["fd00::5"]);
    expect(told([at("10.0.0.5")], "10.0.0.5", "198.51.100.9")).toEqual([]);
  });

  it("private behind a NAT: who is seen at the same public host, and the observed address all", () => {
    const given = [at("192.168.1.5")];
    expect(told(given, "198.51.100.9", "198.51.100.9")).toEqual(["192.168.1.5", "198.51.100.9"]);
    expect(told(given, "198.51.100.9", "203.0.113.7")).toEqual(["198.51.100.9"]);
  });

  it("no other public address, no other private one, no name", () => {
    const given = [at("203.0.113.7", 22), at("10.9.9.9", 22), at("victim.example", 80, 2)];
    expect(told(given, "10.0.0.5", "10.0.0.9")).toEqual(["10.0.0.5"]);
    expect(told([at("203.0.113.7", 80, 2)], "198.51.100.9", "198.51.100.9")).toEqual([]);
  });

  it("a wildcard stands for what the OMS sees; the address it sees is added with its kind", () => {
    const { observed } = CANDIDATE_KINDS;
    const wild = new Reachability([at("::", 9), at("0.0.0.0", 9)], "2001:db8::7");
    expect(wild.toldTo("203.0.113.7")).toEqual([at("2001:db8::7", 9, observed)]);
    const nat = new Reachability([at("192.168.1.5", 9)], "198.51.100.9");
    expect(nat.toldTo("203.0.113.7")).toEqual([at("198.51.100.9", 9, observed)]);
    // Who names what to dial means that and nothing else.
    expect(told([at("203.0.113.7", 9, 2)], "198.51.100.9", "203.0.113.8")).toEqual([]);
  });

  it("is at most 8, each once", () => {
    const given = Array.from({ length: 8 }, (_, i) => at("10.0.0.5", 1_000 + (i % 5)));
    expect(told(given, "10.0.0.5", "10.0.0.5")).toHaveLength(5);
    const many = Array.from({ length: 8 }, (_, i) => at(`10.0.0.${i}`));
    expect(new Reachability(many, "198.51.100.9").toldTo("198.51.100.9")).toHaveLength(8);
  });
});

describe("what dialling finds", () => {
  const settle = (reachability: Reachability, proven: boolean): void => {
    for (const row of reachability.untried) row.proven = proven;
  };

  it("inbound without a dial: loopback and private where it is seen", () => {
    for (const host of ["127.0.0.1", "10.0.0.5", "fd00::5"]) {
      const reachability = new Reachability([at(host)], host);
      expect(reachability.untried).toEqual([]);
      expect(reachability.reach).toBe(REACH.inbound);
    }
    expect(new Reachability([], "10.0.0.5").reach).toBe(REACH.outboundOnly);
  });

  it("unknown until dialled, then inbound or outboundOnly", () => {
    const good = new Reachability([at("203.0.113.7", 9_000, 2)], "198.51.100.9");
    expect(good.reach).toBe(REACH.unknown);
    settle(good, true);
    expect(good.reach).toBe(REACH.inbound);
    expect(hosts(good.toldTo("192.0.2.1"))).toEqual(["203.0.113.7"]);
    const bad = new Reachability([at("0.0.0.0")], "198.51.100.9");
    expect(hosts(bad.toldTo("192.0.2.1"))).toEqual(["198.51.100.9"]);
    settle(bad, false);
    expect(bad.reach).toBe(REACH.outboundOnly);
    expect(bad.toldTo("192.0.2.1")).toEqual([]);
  });

  it("only a NAT's inside: outboundOnly to the world, told within", () => {
    const inside = new Reachability([at("192.168.1.5")], "198.51.100.9");
    settle(inside, false);
    expect(inside.reach).toBe(REACH.outboundOnly);
    expect(hosts(inside.toldTo("198.51.100.9"))).toEqual(["192.168.1.5"]);
    expect(inside.toldTo("192.0.2.1")).toEqual([]);
  });

  it("what was proven stays so when the member names its candidates again", () => {
    const before = new Reachability([at("203.0.113.7", 9_000, 2)], "198.51.100.9");
    settle(before, true);
    const after = before.renew([at("203.0.113.7", 9_000, 2), at("203.0.113.8", 1, 2)], "192.0.2.9");
    expect(after.reach).toBe(REACH.inbound);
    expect(after.untried.map(({ candidate }) => candidate.host)).toEqual(["203.0.113.8"]);
  });
});

it("whatever a member says, nobody is sent anywhere but where it is seen, unproven", () => {
  const host = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.constantFrom("127.0.0.1", "10.0.0.1", "::1", "0.0.0.0", "name", "fe80::1", "224.0.0.1"),
  );
  const given = fc.array(
    fc.record({ host, port: fc.nat(65_535), kind: fc.constantFrom(0, 1, 2) }),
    { maxLength: 8 },
  );
  fc.assert(
    fc.property(given, fc.oneof(fc.ipV4(), fc.ipV6()), fc.ipV4(), (said, seen, asker) => {
      const candidates = said.map((one) => ({ transport: "tcp" as const, ...one })) as Candidate[];
      const reachability = new Reachability(candidates, seen);
      for (const candidate of reachability.toldTo(asker)) {
        const isSeenThere = candidate.host === reachability.observedHost;
        const isSameNat = asker === reachability.observedHost;
        expect(isSeenThere || isSameNat).toBe(true);
        expect(["unusable", "wildcard"]).not.toContain(hostKind(candidate.host));
      }
      // Nor is the OMS sent into a private network by somebody outside.
      if (hostKind(reachability.observedHost) === "public") {
        for (const { candidate } of reachability.untried) {
          expect(hostKind(candidate.host)).toBe("public");
        }
      }
    }),
  );
});
