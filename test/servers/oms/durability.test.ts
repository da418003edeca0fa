import fc from "fast-check";
import { expect, it } from "vitest";
import * as r5 from "../../../src/protocol/r5.ts";
import { createOms } from "../../../src/servers/oms.ts";
import type { OmsSnapshot } from "../../../src/servers/oms-types.ts";
import { Identity, ServerDriver } from "../driver.ts";

/**
 * The model keeps only what the owner of each overlay was told: its tokens, the highest session
 * epoch acknowledged, and whether its removal was. Whatever is late, lost or cut off by a crash,
 * the server must agree with what it told.
 */
interface Told {
  readonly overlayId: string;
  readonly ownerToken: Uint8Array;
  sessionEpoch: number;
  removed: boolean;
}

const owner = new Identity();

class Model {
  readonly driver: ServerDriver;
  readonly overlays: Told[] = [];
  link: number;
  open: {
    readonly id: number;
    readonly kind: "create" | "restart" | "remove";
    readonly of?: Told;
  }[] = [];
  crashes = 0;

  constructor(seed: number) {
    // Leases longer than any run: only removal ends an overlay here.
    const limits = { requestBurst: 1e6, inFlightPerLink: 1_000 };
    this.driver = new ServerDriver(
      (base) => createOms({ ...base, refreshMs: 4e9, limits, tombstonesMax: 1_000 }),
      seed,
    ).start();
    this.link = this.driver.link();
    this.driver.hold = true;
  }

  create(): void {
    const { nonce } = this.driver.ask(this.link, r5.CHALLENGE, {});
    const id = this.driver.send(this.link, r5.CREATE, {
      nonce,
      publicKey: owner.publicKey,
      signature: owner.sign(r5.createProof(nonce)),
      candidates: [],
      title: "t",
      pams: false,
    });
    this.open.push({ id, kind: "create" });
  }

  change(kind: "restart" | "remove", which: number): void {
    const of = this.overlays[which % Math.max(1, this.overlays.length)];
    if (of === undefined) return;
    const operation = kind === "restart" ? r5.RESTART : r5.REMOVE_SESSION_OVERLAY;
    this.open.push({ id: this.driver.send(this.link, operation, of), kind, of });
  }

  finish(count: number): void {
    for (let i = 0; i < count; i++) this.driver.finishOne();
    this.open = this.open.filter(({ id, kind, of }) => {
      const raw = this.driver.rawReply(this.link, id);
      if (raw === undefined) return true;
      if (raw[0] === 0xff) return false;
      if (kind === "create") {
        const overlayId = Buffer.from(raw[2] as Uint8Array).toString("hex");
        expect(this.overlays.some((told) => told.overlayId === overlayId)).toBe(false);
        const ownerToken = raw[5] as Uint8Array;
        this.overlays.push({
          overlayId,
          ownerToken,
          sessionEpoch: raw[3] as number,
          removed: false,
        });
      } else if (of !== undefined && kind === "restart") {
        // Each restart is told an epoch that nobody was told before.
        expect(raw[2]).toBeGreaterThan(of.sessionEpoch);
        of.sessionEpoch = raw[2] as number;
      } else if (of !== undefined) {
        of.removed = true;
      }
      return false;
    });
  }

  crash(): void {
    this.crashes++;
    this.driver.crash();
    this.driver.hold = true;
    this.link = this.driver.link();
    this.open = [];
    this.check(false);
  }

  /** `settled`: nothing is under way, so what was never removed must stand. */
  check(settled: boolean): void {
    for (const told of this.overlays) {
      const reply = this.driver.replyTo(
        this.link,
        this.driver.send(this.link, r5.REFRESH_OVERLAY, told),
        r5.REFRESH_OVERLAY,
      );
      if (told.removed) expect(reply).toMatchObject({ failure: { code: "OVERLAY_GONE" } });
      // A removal not acknowledged may have reached the disk all the same.
      else if (reply?.ok === false) expect(reply.failure.code).toBe("OVERLAY_GONE");
      else if (settled) expect(reply?.ok).toBe(true);
    }
    const snapshot = this.driver.snapshot<OmsSnapshot>();
    expect(snapshot.term).toBe(1 + this.crashes);
    for (const { overlayId, sessionEpoch } of snapshot.overlays) {
      const told = this.overlays.find((entry) => entry.overlayId === overlayId);
      if (told !== undefined) expect(sessionEpoch).toBeGreaterThanOrEqual(told.sessionEpoch);
    }
  }
}

it("what an owner was told is so, over late and lost writes and crashes at any moment", () => {
  const step = fc.oneof(
    fc.constant({ do: "create" as const }),
    fc.record({ do: fc.constantFrom("restart" as const, "remove" as const), which: fc.nat(9) }),
    fc.record({ do: fc.constant("finish" as const), count: fc.integer({ min: 1, max: 5 }) }),
    fc.constant({ do: "crash" as const }),
  );
  const seen = { created: 0, removed: 0, restarted: 0 };
  fc.assert(
    fc.property(fc.nat(1e6), fc.array(step, { minLength: 10, maxLength: 60 }), (seed, steps) => {
      const model = new Model(seed);
      for (const action of steps) {
        if (action.do === "create") model.create();
        else if (action.do === "finish") model.finish(action.count);
        else if (action.do === "crash") model.crash();
        else model.change(action.do, action.which);
      }
      model.finish(10_000);
      expect(model.open).toEqual([]);
      model.check(true);
      seen.created += model.overlays.length;
      seen.removed += model.overlays.filter((told) => told.removed).length;
      seen.restarted += model.overlays.filter((told) => told.sessionEpoch > 1).length;
    }),
    { numRuns: 200 },
  );
  // The run means something only when all of it happened.
  expect(Math.min(seen.created / 10, seen.removed, seen.restarted)).toBeGreaterThan(10);
});
