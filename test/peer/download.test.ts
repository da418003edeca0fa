/** What several overlays of an engine with a download limit may have under way. */

import { describe, expect, it } from "vitest";
import { Download, type Pace } from "../../src/peer/download.ts";

const KIB = 1_024;

describe("the download of an engine", () => {
  it.each([
    [8_000_000, 16 * KIB, 4],
    [500_000, 16 * KIB, 16],
    [2_000_000, 256 * KIB, 4],
    [500_000, 256 * KIB, 2],
  ])(
    "of %d bytes/s is not used up while it rests: fragments of %d, %d overlays",
    (limit, bytes, overlays) => {
      const download = new Download(limit);
      for (let i = 0; i < overlays; i++) download.join({} as Pace, bytes);
      expect(download.isUsedUp(bytes, 3_600_000)).toBe(false);
      const under = download.share(3_600_000) * overlays;
      download.arrived(under, 3_600_000);
      expect(download.isUsedUp(bytes, 3_600_000)).toBe(true);
      expect(download.isUsedUp(bytes, 3_600_000 + (1_000 * under) / limit)).toBe(false);
    },
  );

  it("without a limit is never used up", () => {
    const download = new Download();
    download.arrived(1e12, 0);
    expect(download.isUsedUp(16 * KIB, 0)).toBe(false);
  });
});
