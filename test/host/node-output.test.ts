/** Where received data go: what a file held before is kept until there is something new. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fileSink } from "../../src/host/node-output.ts";

const folder = mkdtempSync(join(tmpdir(), "mp2p-output-"));
afterAll(() => rmSync(folder, { recursive: true }));

function fileWithCopy(name: string): string {
  const path = join(folder, name);
  writeFileSync(path, "the copy of yesterday");
  return path;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a file that received data go to", () => {
  it("keeps what it holds as long as nothing came", () => {
    const path = fileWithCopy("kept");
    fileSink(path);
    expect(readFileSync(path, "utf8")).toBe("the copy of yesterday");
  });

  it("holds what came and nothing else", async () => {
    const path = fileWithCopy("replaced");
    const sink = fileSink(path);
    await sink.write(bytes("new "));
    await sink.write(bytes("data"));
    await sink.close();
    expect(readFileSync(path, "utf8")).toBe("new data");
  });

  it("is empty after a session without data", async () => {
    const path = fileWithCopy("emptied");
    await fileSink(path).close();
    expect(readFileSync(path, "utf8")).toBe("");
  });

  it("that can not be written is refused at once", () => {
    expect(() => fileSink(join(folder, "none", "at all"))).toThrow("OUTPUT_FAILED");
  });
});
