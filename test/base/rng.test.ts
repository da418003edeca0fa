/** Seeded chance: the same everywhere and for ever, and fair. */

import { describe, expect, test } from "vitest";
import { seededEntropy, seededRng } from "../../src/base/rng.ts";
import { toHex } from "../../src/base/units.ts";

const GOLDEN_0 = [1_789_933_344, 44_971_166, 2_521_387_044, 3_848_737_593];
const GOLDEN_1 = [393_288_148, 2_174_103_013, 3_814_759_091, 2_092_745_082];
const GOLDEN_MAX = [4_104_197_751, 1_825_856_343, 1_152_209_388, 2_427_537_429];
const GOLDEN_ENTROPY = "0c2aeef365a34e1ba8b64d03105a337b";

describe("seeded generator", () => {
  test("golden sequences: a seed means the same in every version", () => {
    const words = (seed: number): number[] => {
      const rng = seededRng(seed);
      return Array.from({ length: 4 }, () => rng.below(0x1_0000_0000));
    };
    expect(words(0)).toEqual(GOLDEN_0);
    expect(words(1)).toEqual(GOLDEN_1);
    expect(words(0xffff_ffff)).toEqual(GOLDEN_MAX);
  });

  test("entropy of a seed is golden as well", () => {
    expect(toHex(seededEntropy(seededRng(7)).bytes(16))).toBe(GOLDEN_ENTROPY);
    expect(seededEntropy(seededRng(7)).bytes(0)).toHaveLength(0);
  });

  test("next is in [0, 1), below covers its range evenly", () => {
    const rng = seededRng(3);
    const counts = new Array<number>(7).fill(0);
    for (let i = 0; i < 70_000; i++) {
      const value = rng.next();
      if (!(value >= 0 && value < 1)) expect.fail(`${value} is out of range`);
      const at = rng.below(7);
      counts[at] = (counts[at] ?? 0) + 1;
    }
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500);
    expect(rng.below(1)).toBe(0);
  });

  test("neighbouring seeds share nothing", () => {
    const [one, two] = [seededRng(1), seededRng(2)];
    let equal = 0;
    for (let i = 0; i < 1000; i++) if (one.below(256) === two.below(256)) equal++;
    expect(equal).toBeLessThan(20);
  });

  test("every call of entropy gives fresh bytes of its own", () => {
    const entropy = seededEntropy(seededRng(9));
    const [one, two] = [entropy.bytes(32), entropy.bytes(32)];
    expect(one).not.toEqual(two);
    expect(one.buffer).not.toBe(two.buffer);
  });
});
