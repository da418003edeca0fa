import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import net from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { parseAddress } from "../../src/base/machine.ts";
import { EngineMemory } from "../../src/kernel/engine-memory.ts";
import { createKernelMemory, createWasmKernel } from "../../src/kernel/wasm-kernel.ts";
import { TcpTransport } from "../../src/transport/tcp.ts";
import { Recorder, transportContract, turns } from "./contract.ts";
import { CONTROL_TYPE, DATA_TYPE, frameOf } from "./frames.ts";
import { PlainArena } from "./plain-arena.ts";

transportContract("tcp", {
  any: { transport: "tcp", host: "127.0.0.1", port: 0 },
  make: (arena) => new TcpTransport(arena),
});

transportContract("tcp over the engine's memory", {
  any: { transport: "tcp", host: "127.0.0.1", port: 0 },
  make: (arena) => new TcpTransport(arena),
  arena: () => {
    const memory = createKernelMemory(8);
    const wasm = readFileSync(new URL("../../build/kernel.wasm", import.meta.url));
    return new EngineMemory(createWasmKernel({ wasm: new Uint8Array(wasm), memory }));
  },
});

const any = { transport: "tcp", host: "127.0.0.1", port: 0 } as const;

function make(options: ConstructorParameters<typeof TcpTransport>[1] = {}, shared = false) {
  const transport = new TcpTransport(new PlainArena(256 * 1024, 4, shared), options);
  const recorder = new Recorder();
  transport.attach(recorder);
  onTestFinished(() => transport.shutdown());
  return { transport, recorder };
}

/** A bare socket connected to `port`; its bytes are read and dropped unless `paused`. */
async function bareSocket(port: number, options: { paused?: boolean; halfOpen?: boolean } = {}) {
  const socket = net.connect({ host: "127.0.0.1", port, allowHalfOpen: options.halfOpen === true });
  socket.on("error", () => undefined);
  onTestFinished(() => {
    socket.destroy();
  });
  if (options.paused !== true) socket.resume();
  await new Promise((resolve) => socket.once("connect", resolve));
  return socket;
}

/** The port of a process that listens and never accepts. */
async function deafListener(): Promise<number> {
  const child = spawn(process.execPath, [
    "-e",
    `const server = require("node:net").createServer();
    server.listen({ host: "127.0.0.1", port: 0, backlog: 1 }, () => {
      require("node:fs").writeSync(1, String(server.address().port) + "\\n");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`,
  ]);
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  return new Promise((resolve) => child.stdout.once("data", (text) => resolve(Number(text))));
}

describe("tcp", () => {
  test("reads land in shared memory, accepted and opened alike", async () => {
    const a = make({}, true);
    const b = make({}, true);
    const { address } = await a.transport.listen(any);
    b.transport.open(1, address);
    await a.recorder.until(() => a.recorder.up.length === 1);
    a.transport.send(2, frameOf(5000, 1));
    b.transport.send(1, frameOf(6000, 2));
    await a.recorder.until(() => a.recorder.framesOf(2).length === 1);
    await b.recorder.until(() => b.recorder.framesOf(1).length === 1);
    expect(a.recorder.framesOf(2)).toEqual([frameOf(6000, 2)]);
    expect(b.recorder.framesOf(1)).toEqual([frameOf(5000, 1)]);
  });

  test.each(["::", "::1"])(
    "IPv6 literal %s works; IPv4 reaches a dual-stack listener",
    async (host) => {
      const a = make();
      const b = make();
      const { address } = await a.transport.listen({ transport: "tcp", host, port: 0 });
      b.transport.open(1, parseAddress(`tcp://[::1]:${address.port}`) ?? any);
      await a.recorder.until(() => a.recorder.up.length === 1);
      expect(a.recorder.up[0]?.remote.host).toBe("::1");
      if (host === "::1") return;
      b.transport.open(3, { ...any, port: address.port });
      await a.recorder.until(() => a.recorder.up.length === 2);
      expect(a.recorder.up[1]?.remote.host).toBe("127.0.0.1");
    },
  );

  test("a foreign address can't be listened on", async () => {
    const { transport } = make();
    await expect(
      transport.listen({ transport: "tcp", host: "192.0.2.1", port: 0 }),
    ).rejects.toMatchObject({ code: "ADDRESS_UNAVAILABLE" });
  });

  test("an unanswered connect is UNREACHABLE after its time", async () => {
    const { transport, recorder } = make({ connectTimeoutMs: 200 });
    const port = await deafListener();
    // Its queue takes the first few; after that no SYN is answered.
    for (let linkId = 1; linkId < 20; linkId += 2) transport.open(linkId, { ...any, port });
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("UNREACHABLE");
    expect(recorder.down[0]?.detail).toContain("within 200 ms");
  });

  test("a name that does not resolve is UNREACHABLE", async () => {
    const { transport, recorder } = make({ connectTimeoutMs: 2000 });
    transport.open(1, { transport: "tcp", host: "no-such-host.invalid", port: 9 });
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("UNREACHABLE");
  });

  test("a slow reader bounds what is sent, and progress follows it", async () => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port, { paused: true });
    await recorder.until(() => recorder.up.length === 1);
    const frames = 2048;
    for (let i = 0; i < frames; i++) {
      transport.send(2, frameOf(16_384, i, CONTROL_TYPE));
      if (i % 16 === 15) await turns(1);
    }
    await turns(50);
    const before = recorder.sentBytes.get(2) ?? 0;
    expect(before).toBeLessThan((frames * 16_384) / 2);
    socket.resume();
    await recorder.until(() => recorder.sentBytes.get(2) === frames * 16_384);
  });

  test("a reset of the other side is LINK_RESET", async () => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port);
    await recorder.until(() => recorder.up.length === 1);
    socket.resetAndDestroy();
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("LINK_RESET");
  });

  test("an end inside a frame says so", async () => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port);
    socket.end(frameOf(100, 1).subarray(0, 60));
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]).toMatchObject({ code: "LINK_CLOSED" });
    expect(recorder.down[0]?.detail).toContain("inside a frame");
  });

  test("a link costs no segment before its first frame is whole, however it is cut", async () => {
    const arena = new PlainArena(256 * 1024, 3);
    const transport = new TcpTransport(arena);
    const recorder = new Recorder();
    transport.attach(recorder);
    onTestFinished(() => transport.shutdown());
    const { address } = await transport.listen(any);
    const silent = await bareSocket(address.port);
    const half = await bareSocket(address.port);
    const third = await bareSocket(address.port);
    await recorder.until(() => recorder.up.length === 3);
    const frame = frameOf(3000, 1);
    half.write(frame.subarray(0, 2999));
    while (transport.stats().receivedBytes < 2999) await turns(1);
    third.write(frame);
    await recorder.until(() => recorder.framesOf(6).length === 1);
    expect(recorder.framesOf(6)).toEqual([frame]);
    // Only the third link may have one, for what it reads next.
    expect(arena.freeSegments).toBeGreaterThanOrEqual(2);
    half.write(Buffer.concat([frame.subarray(2999), frameOf(200_000, 2, DATA_TYPE)]));
    await recorder.until(() => recorder.framesOf(4).length === 2);
    expect(recorder.framesOf(4)).toEqual([frame, frameOf(200_000, 2, DATA_TYPE)]);
    silent.write(frameOf(200_000, 3, DATA_TYPE));
    await recorder.until(() => recorder.framesOf(2).length === 1);
    expect(recorder.framesOf(2)).toEqual([frameOf(200_000, 3, DATA_TYPE)]);
  });

  test.each([
    ["FRAME_MALFORMED", Uint8Array.of(1, 0, 0, 0)],
    ["FRAME_TOO_LARGE", frameOf(16_384 + 1, 1, CONTROL_TYPE).subarray(0, 16)],
  ])("a first frame that can't be is %s at its header", async (code, bytes) => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port);
    socket.write(bytes);
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe(code);
  });

  test("a side that ends without closing holds no link", async () => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port, { halfOpen: true });
    socket.end(frameOf(20, 1));
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.framesOf(2)).toHaveLength(1);
    expect(recorder.down[0]?.code).toBe("LINK_CLOSED");
  });

  test("a close that is never answered ends as LINK_HALF_OPEN", async () => {
    const { transport, recorder } = make({ closeTimeoutMs: 50 });
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port, { halfOpen: true });
    await recorder.until(() => recorder.up.length === 1);
    transport.close(2, false);
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("LINK_HALF_OPEN");
    expect(socket.destroyed).toBe(false);
  });

  test("inbound links over the limit are refused and counted; a free place is used again", async () => {
    const { transport, recorder } = make({ maxInboundLinks: 2 });
    const { address } = await transport.listen(any);
    const first = await bareSocket(address.port);
    await bareSocket(address.port);
    await recorder.until(() => recorder.up.length === 2);
    const refused = await bareSocket(address.port);
    await new Promise((resolve) => refused.once("close", resolve));
    expect(transport.stats()).toMatchObject({ links: 2, refused: 1 });
    first.destroy();
    await recorder.until(() => recorder.down.length === 1);
    await bareSocket(address.port);
    await recorder.until(() => recorder.up.length === 3);
  });

  test("many small frames of one turn leave in few writes", async () => {
    const { transport, recorder } = make();
    const { address } = await transport.listen(any);
    const socket = await bareSocket(address.port, { paused: true });
    await recorder.until(() => recorder.up.length === 1);
    let reports = 0;
    const sent = recorder.sent.bind(recorder);
    recorder.sent = (linkId, totalBytes) => {
      reports++;
      sent(linkId, totalBytes);
    };
    for (let i = 0; i < 500; i++) transport.send(2, frameOf(20, i));
    await recorder.until(() => recorder.sentBytes.get(2) === 10_000);
    expect(reports).toBe(1);
    let chunks = 0;
    let bytes = 0;
    await new Promise<void>((resolve) => {
      socket.on("data", (chunk) => {
        chunks++;
        bytes += chunk.length;
        if (bytes === 10_000) resolve();
      });
    });
    expect(chunks).toBe(1);
  });
});
