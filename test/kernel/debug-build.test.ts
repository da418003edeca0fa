/** The debug target: the same answers, and callers' mistakes trap. */

import asc from "assemblyscript/asc";
import { describe, expect, test } from "vitest";
import { kernelContract } from "./contract.ts";
import { HEAP, newWasmKernel } from "./kernels.ts";
import { haveAt, setUpTable, TABLE } from "./picker-table.ts";

const root = new URL("../../", import.meta.url).pathname;
let binary: Uint8Array<ArrayBuffer> | undefined;
const { error, stderr } = await asc.main(
  ["assembly/index.ts", "--target", "debug", "--baseDir", root, "--config", `${root}asconfig.json`],
  {
    writeFile: (name, contents) => {
      if (name.endsWith(".wasm")) binary = new Uint8Array(contents as Uint8Array);
    },
  },
);
if (error !== null) throw new Error(`${error.message}\n${stderr.toString()}`);
if (binary === undefined) throw new Error("asc wrote no module");
const debugModule = new WebAssembly.Module(binary);

kernelContract("wasm kernel, debug build", () => newWasmKernel(debugModule));

describe("the debug build traps", () => {
  const kernel = newWasmKernel(debugModule);
  const beyond = kernel.memoryBytes - 8;

  test("on maps that are not aligned", () => {
    expect(() => kernel.bitsCount(HEAP + 4, 0, 64)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.bitsToWire(HEAP + 1, 0, 64, HEAP)).toThrow(WebAssembly.RuntimeError);
  });

  test("on ranges beyond the memory", () => {
    expect(() => kernel.crc32c(beyond, 9)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.bitsSet(beyond, 0, 65)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.splitFragment(HEAP, 40, beyond, 1, HEAP)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.writeSlice(beyond, HEAP, 0, 0, 0, 0, 0, 0)).toThrow(
      WebAssembly.RuntimeError,
    );
    expect(() => kernel.copyBytes(HEAP, beyond, 9)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.writeDatum(beyond, HEAP, 0, 0, 0)).toThrow(WebAssembly.RuntimeError);
  });

  test("on bits beyond a picker's table", () => {
    setUpTable(kernel, 2);
    expect(kernel.pickerNext(TABLE, 0, 128)).toBe(128);
    expect(() => kernel.pickerNext(TABLE, 0, 129)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.pickerStored(TABLE, 128)).toThrow(WebAssembly.RuntimeError);
    expect(() => kernel.pickerAdvertise(TABLE, haveAt(0) + 4, 0, 1)).toThrow(
      WebAssembly.RuntimeError,
    );
    expect(() => kernel.pickerPick(TABLE, 0, 0, 0, 64, 9, 1, beyond)).toThrow(
      WebAssembly.RuntimeError,
    );
  });

  test("on a frame without room for its header", () => {
    kernel.u32.set([HEAP, 39], HEAP / 4 + 16);
    expect(() => kernel.checksumFragments(HEAP + 64, 1)).toThrow(WebAssembly.RuntimeError);
  });
});
