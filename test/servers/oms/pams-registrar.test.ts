import { describe, expect, it } from "vitest";
import * as r1 from "../../../src/protocol/r1.ts";
import * as r5 from "../../../src/protocol/r5.ts";
import { encodeAnswer, encodeFailure } from "../../../src/protocol/signalling.ts";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import { Identity, type ServerDriver } from "../driver.ts";
import { create, hex, join, oms } from "./scene.ts";

describe("R1 as the OMS speaks it", () => {
  const withPams = { pamsUrl: "ws://198.51.100.1:7900", omsUrl: "ws://192.0.2.9:7900" };
  const answer = (driver: ServerDriver, link: number, raw: unknown[], intervalMs: number) =>
    driver.frame(
      link,
      encodeAnswer(r1.REGISTER_OVERLAY, raw[1] as number, { reportIntervalMs: intervalMs }),
    );

  it("R1.a, R1.c: registers with the overlay id and repeats it every interval, never late", () => {
    const driver = oms({ ...withPams, refreshMs: 600_000 });
    const made = create(driver, driver.link(), new Identity(), { pams: true });
    expect(made.pamsUrl).toBe(withPams.pamsUrl);
    expect(driver.opened).toEqual([{ linkId: 1, port: 7_900 }]);
    driver.linkUp(1);
    const timesMs = [driver.monoMs];
    const first = driver.asked(1, 0x10);
    expect(first).toHaveLength(1);
    expect(hex(first[0]?.[2])).toBe(made.overlayId);
    expect(first[0]?.[3]).toBe(withPams.omsUrl);
    answer(driver, 1, first[0] ?? [], 4_000);
    for (let passed = 0; passed < 20_000; passed += 50) {
      driver.advance(50);
      const all = driver.asked(1, 0x10);
      if (all.length === timesMs.length) continue;
      timesMs.push(driver.monoMs);
      answer(driver, 1, all.at(-1) ?? [], 4_000);
    }
    const gaps = timesMs.slice(1).map((at, i) => at - (timesMs[i] ?? 0));
    expect(gaps.length).toBeGreaterThanOrEqual(4);
    for (const gap of gaps) {
      expect(gap).toBeGreaterThanOrEqual(3_550);
      expect(gap).toBeLessThanOrEqual(4_051);
    }
  });

  it("R1.a (twin): an overlay that wants no PAMS is not registered, and no link is opened", () => {
    const driver = oms(withPams);
    expect(create(driver, driver.link(), new Identity()).pamsUrl).toBe("");
    driver.advance(5_000);
    expect(driver.opened).toEqual([]);
  });

  it("R1.e: a removed overlay is removed there too, over a lost link as well", () => {
    const driver = oms(withPams);
    const link = driver.link();
    const made = create(driver, link, new Identity(), { pams: true });
    driver.linkUp(1);
    driver.linkDown(1);
    driver.ask(link, r5.REMOVE_SESSION_OVERLAY, made);
    driver.advance(1_000);
    expect(driver.opened.at(-1)?.linkId).toBe(3);
    driver.linkUp(3);
    const removed = driver.asked(3, 0x11);
    expect(removed.map((raw) => hex(raw[2]))).toEqual([made.overlayId]);
    expect(driver.asked(3, 0x10)).toEqual([]);
    driver.frame(3, encodeAnswer(r1.REMOVE_OVERLAY, removed[0]?.[1] as number, {}));
    driver.advance(20_000);
    expect(driver.asked(3, 0x11)).toHaveLength(1);
  });

  it("R1.a, R1.e: shows its service key in both requests, and an empty one when it has none", () => {
    for (const [serviceKey, shown] of [
      [new Uint8Array(32).fill(0x5e), "5e".repeat(32)],
      [undefined, ""],
    ] as const) {
      const driver = oms({ ...withPams, ...(serviceKey === undefined ? {} : { serviceKey }) });
      const link = driver.link();
      const made = create(driver, link, new Identity(), { pams: true });
      driver.linkUp(1);
      expect(driver.asked(1, 0x10).map((raw) => hex(raw[4]))).toEqual([shown]);
      driver.ask(link, r5.REMOVE_SESSION_OVERLAY, made);
      expect(driver.asked(1, 0x11).map((raw) => hex(raw[3]))).toEqual([shown]);
    }
  });

  it("R1.a (twin): refused, it is told once a link, goes on and asks again every interval", () => {
    const driver = oms({ ...withPams, refreshMs: 600_000, reportIntervalMs: 4_000 });
    const link = driver.link();
    const overlay = create(driver, link, new Identity(), { pams: true });
    const refuse = (at: number, from: number): number => {
      const asked = driver.asked(at, 0x10).slice(from);
      for (const raw of asked) {
        const failure = { code: "KEY_REQUIRED", detail: "none shown" } as const;
        driver.frame(at, encodeFailure(raw[1] as number, failure));
      }
      return from + asked.length;
    };
    const told = () => driver.events.filter(({ type }) => type === "pamsRefused");
    driver.linkUp(1);
    let refused = refuse(1, 0);
    for (let i = 0; i < 3; i++) {
      driver.advance(4_000);
      refused = refuse(1, refused);
    }
    expect(refused).toBeGreaterThanOrEqual(4);
    const { overlayId } = overlay;
    const event = { type: "pamsRefused", overlayId, code: "KEY_REQUIRED", detail: "none shown" };
    expect(told()).toEqual([event]);
    expect(driver.snapshot<OmsSnapshot>()).toMatchObject({
      ready: true,
      pamsRegistrations: 0,
      pamsFailures: refused,
    });
    join(driver, link, overlayId, new Identity());
    driver.linkDown(1);
    driver.advance(300);
    driver.linkUp(3);
    refuse(3, 0);
    expect(told()).toEqual([event, event]);
    driver.advance(4_000);
    answer(driver, 3, driver.asked(3, 0x10).at(-1) ?? [], 4_000);
    expect(driver.snapshot<OmsSnapshot>().pamsRegistrations).toBe(1);
  });

  it("after a restart, and on a new link, every overlay is registered at once", () => {
    const driver = oms({ ...withPams, refreshMs: 600_000 });
    for (let i = 0; i < 3; i++) create(driver, driver.link(), new Identity(), { pams: true });
    driver.linkUp(1);
    expect(driver.asked(1, 0x10)).toHaveLength(3);
    driver.linkDown(1);
    driver.advance(300);
    driver.linkUp(3);
    expect(driver.asked(3, 0x10)).toHaveLength(3);
    driver.crash();
    driver.advance(1);
    const again = driver.opened.at(-1)?.linkId ?? 0;
    const before = driver.asked(again, 0x10).length;
    driver.linkUp(again);
    expect(driver.asked(again, 0x10).length - before).toBe(3);
  });
});
