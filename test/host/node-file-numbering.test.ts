/** What a file's numbers go by: the same for the same file, another one for anything else. */

import { mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fileNumbering } from "../../src/host/node-file-numbering.ts";

const directory = mkdtempSync(path.join(tmpdir(), "mp2p-numbering-"));
const name = path.join(directory, "readings");
afterAll(() => rmSync(directory, { recursive: true }));

/** Writes the file; its last change is always the same instant unless it is given. */
function write(bytes: Uint8Array, changed = 1_700_000_000): void {
  writeFileSync(name, bytes);
  utimesSync(name, changed, changed);
}

describe("the numbering of a file", () => {
  it.each([0, 10, 65_536, 70_000, 1_048_576, 1_048_577, 40_000_000])(
    "of %d bytes is the same as long as the file is",
    async (size) => {
      const content = Buffer.alloc(size, "0123456789");
      write(content);
      const numbering = await fileNumbering(name, "lines", 0);
      expect(numbering).toBeGreaterThan(0);
      expect(numbering).toBeLessThan(2 ** 32);
      write(content);
      expect(await fileNumbering(name, "lines", 0)).toBe(numbering);

      const others: (number | undefined)[] = [];
      others.push(await fileNumbering(name, "ndjson", 0));
      others.push(await fileNumbering(name, "raw", 100), await fileNumbering(name, "raw", 101));
      write(content, 1_700_000_001);
      others.push(await fileNumbering(name, "lines", 0));
      write(Buffer.concat([content, Buffer.from("x")]));
      others.push(await fileNumbering(name, "lines", 0));
      for (const at of size === 0 ? [] : [0, size - 1]) {
        const changed = Buffer.from(content);
        changed[at] = 0;
        write(changed);
        others.push(await fileNumbering(name, "lines", 0));
      }
      expect(new Set([numbering, ...others]).size).toBe(1 + others.length);
    },
  );

  it("takes every byte of a file of 1 MiB into account", async () => {
    const content = Buffer.alloc(2 ** 20);
    const seen = new Set<number | undefined>();
    for (let at = 0; at < content.length; at += 13_107) {
      content[at] = 1;
      write(content);
      seen.add(await fileNumbering(name, "lines", 0));
      content[at] = 0;
    }
    expect(seen.size).toBe(Math.ceil(2 ** 20 / 13_107));
    expect(statSync(name).size).toBe(2 ** 20);
  });

  it("does not exist for what is no file", async () => {
    expect(await fileNumbering("/dev/null", "lines", 0)).toBeUndefined();
    expect(await fileNumbering(directory, "lines", 0)).toBeUndefined();
  });
});
