import { describe, expect, it } from "vitest";
import { HostBuckets } from "../../src/host/host-buckets.ts";

const taken = (buckets: HostBuckets, host: string, tries: number, nowMs: number): number => {
  let count = 0;
  for (let i = 0; i < tries; i++) if (buckets.take(host, nowMs) === 0) count++;
  return count;
};

describe("a bucket for each host", () => {
  it("lets the burst pass, then as many as the rate says", () => {
    const buckets = new HostBuckets({ perSecond: 10, burst: 5, hosts: 100 });
    expect(taken(buckets, "10.0.0.1", 50, 0)).toBe(5);
    expect(buckets.take("10.0.0.1", 0)).toBe(100);
    expect(taken(buckets, "10.0.0.2", 1, 0)).toBe(1);
    expect(taken(buckets, "10.0.0.1", 50, 300)).toBe(3);
  });

  it("takes an IPv6 subscriber for one, however its addresses are written", () => {
    const buckets = new HostBuckets({ perSecond: 10, burst: 2, hosts: 100 });
    const hosts = ["2001:db8::1", "2001:db8:0:0:1:2:3:4", "2001:db8::9:1"];
    expect(hosts.map((host) => taken(buckets, host, 1, 0))).toEqual([1, 1, 0]);
    expect(taken(buckets, "2001:db8:0:1::1", 1, 0)).toBe(1);
    expect(taken(buckets, "::1", 3, 0)).toBe(2);
  });

  it("holds no more hosts than it may, and forgets those that are full again", () => {
    const buckets = new HostBuckets({ perSecond: 10, burst: 5, hosts: 50 });
    for (let i = 0; i < 1_000; i++) buckets.take(`10.0.${i >> 8}.${i & 255}`, i / 100);
    expect(buckets.size).toBe(50);
    buckets.take("10.9.9.9", 1_000);
    expect(buckets.size).toBe(1);
  });
});
