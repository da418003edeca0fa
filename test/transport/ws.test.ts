import http from "node:http";
import net from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import type { ErrorCode } from "../../src/base/errors.ts";
import type { Address } from "../../src/base/machine.ts";
import { WsClientTransport } from "../../src/transport/ws-client.ts";
import {
  type HttpRequest,
  type HttpResponse,
  startWsServer,
  type WsBackend,
  type WsServerHandler,
  type WsServerOptions,
} from "../../src/transport/ws-server/ws-server.ts";
import { Recorder } from "./contract.ts";

class ServerRecorder implements WsServerHandler {
  readonly up: { linkId: number; remote: Address }[] = [];
  readonly messages: { linkId: number; bytes: Uint8Array }[] = [];
  readonly down: { linkId: number; code: ErrorCode }[] = [];
  readonly requests: HttpRequest[] = [];
  onMessage: ((linkId: number, bytes: Uint8Array) => void) | undefined;
  answer: (request: HttpRequest) => Promise<HttpResponse> = async () => ({
    status: 200,
    contentType: "text/plain",
    body: "ok",
  });
  #nextLinkId = 0;
  #waiting: { until: () => boolean; resolve: () => void }[] = [];
  allocateLinkId(): number {
    this.#nextLinkId += 2;
    return this.#nextLinkId;
  }
  linkUp(linkId: number, remote: Address): void {
    this.up.push({ linkId, remote });
    this.#wake();
  }
  message(linkId: number, bytes: Uint8Array): void {
    this.messages.push({ linkId, bytes: bytes.slice() });
    this.onMessage?.(linkId, bytes);
    this.#wake();
  }
  linkDown(linkId: number, code: ErrorCode): void {
    this.down.push({ linkId, code });
    this.#wake();
  }
  request(request: HttpRequest): Promise<HttpResponse> {
    this.requests.push(request);
    this.#wake();
    return this.answer(request);
  }
  until(condition: () => boolean): Promise<void> {
    if (condition()) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ until: condition, resolve }));
  }
  #wake(): void {
    for (const waiter of this.#waiting.filter((each) => each.until())) {
      this.#waiting = this.#waiting.filter((each) => each !== waiter);
      waiter.resolve();
    }
  }
}

describe.each<WsBackend>(["uws", "ws"])("signalling over the back end %s", (backend) => {
  const start = async (options: Partial<WsServerOptions> = {}) => {
    const handler = new ServerRecorder();
    const server = await startWsServer({
      host: "127.0.0.1",
      port: 0,
      backend,
      handler,
      ...options,
    });
    onTestFinished(() => server.shutdown(100));
    return { server, handler, base: `http://127.0.0.1:${server.address.port}` };
  };
  const client = () => {
    const transport = new WsClientTransport({ connectTimeoutMs: 2000, closeTimeoutMs: 500 });
    const recorder = new Recorder();
    transport.attach(recorder);
    onTestFinished(() => transport.shutdown());
    return { transport, recorder };
  };
  const pair = async (options: Partial<WsServerOptions> = {}) => {
    const { server, handler } = await start(options);
    const { transport, recorder } = client();
    transport.open(1, server.address);
    await recorder.until(() => recorder.up.length === 1);
    await handler.until(() => handler.up.length === 1);
    return { server, handler, transport, recorder, inbound: handler.up[0]?.linkId ?? 0 };
  };

  test("messages pass whole and in order, both ways, from 1 byte to the limit", async () => {
    const { server, handler, transport, recorder, inbound } = await pair();
    expect(server.backend).toBe(backend);
    expect(handler.up[0]?.remote.host).toBe("127.0.0.1");
    const messages = [1, 2, 125, 126, 65_535, 65_536].map((n) => new Uint8Array(n).fill(n));
    for (const message of messages) {
      transport.send(1, message.slice());
      server.send(inbound, message.slice());
    }
    await handler.until(() => handler.messages.length === 6);
    await recorder.until(() => recorder.framesOf(1).length === 6);
    expect(
      handler.messages.map(({ bytes }) => Buffer.compare(bytes, messages[0] ?? bytes)),
    ).toEqual(messages.map((message) => Buffer.compare(message, messages[0] ?? message)));
    expect(recorder.framesOf(1).map((frame) => frame.length)).toEqual(
      messages.map((m) => m.length),
    );
    const total = messages.reduce((sum, message) => sum + message.length, 0);
    await recorder.until(() => recorder.sentBytes.get(1) === total);
  });

  test("a message over the limit closes the link", async () => {
    const { handler, transport, recorder } = await pair();
    transport.send(1, new Uint8Array(65_537));
    await recorder.until(() => recorder.down.length === 1);
    await handler.until(() => handler.down.length === 1);
    expect(handler.messages).toEqual([]);
    expect(handler.down[0]?.code).toBe("FRAME_TOO_LARGE");
  });

  test("a text message closes the link", async () => {
    const { server, handler } = await start();
    const socket = new WebSocket(`ws://127.0.0.1:${server.address.port}`);
    socket.on("open", () => socket.send("text"));
    const code = await new Promise((resolve) => socket.on("close", resolve));
    expect(code).toBe(1003);
    expect(handler.messages).toEqual([]);
  });

  test("a close from either side ends both ends once; later calls do nothing", async () => {
    const { server, handler, transport, recorder, inbound } = await pair();
    server.send(inbound, new Uint8Array([7]));
    server.close(inbound, false);
    expect(handler.down).toEqual([]);
    await recorder.until(() => recorder.down.length === 1);
    await handler.until(() => handler.down.length === 1);
    expect(recorder.framesOf(1)).toHaveLength(1);
    expect(recorder.down[0]?.code).toBe("LINK_CLOSED");
    server.send(inbound, new Uint8Array([7]));
    server.close(inbound, true);
    transport.open(3, server.address);
    await recorder.until(() => recorder.up.length === 2);
    transport.close(3, false);
    await handler.until(() => handler.down.length === 2);
    expect(handler.down.map(({ code }) => code)).toEqual(["LINK_CLOSED", "LINK_CLOSED"]);
  });

  test("an abort is seen as a reset", async () => {
    const { server, recorder, inbound } = await pair();
    server.close(inbound, true);
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("LINK_RESET");
  });

  test("a link may be closed from within its own message", async () => {
    const { server, handler, transport, recorder } = await pair();
    handler.onMessage = (linkId) => {
      server.close(linkId, true);
      server.send(linkId, new Uint8Array(10));
    };
    transport.send(1, new Uint8Array(3));
    transport.send(1, new Uint8Array(3));
    await recorder.until(() => recorder.down.length === 1);
    await handler.until(() => handler.down.length === 1);
  });

  test("a client that does not read is closed at the queue limit", async () => {
    const { server, handler } = await start({ maxQueuedBytes: 100_000 });
    const socket = new WebSocket(`ws://127.0.0.1:${server.address.port}`);
    onTestFinished(() => socket.terminate());
    await new Promise((resolve) => socket.on("open", resolve));
    socket.pause();
    await handler.until(() => handler.up.length === 1);
    // Nothing is ever lost in between: it is sent, or the link is closed.
    while (handler.down.length === 0) {
      server.send(2, new Uint8Array(60_000));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(handler.down[0]?.code).toBe("LINK_SLOW");
    expect(server.stats().slowClosed).toBe(1);
  });

  test("nobody listening is UNREACHABLE, a server that speaks no WebSocket too", async () => {
    const { server } = await start();
    const { transport, recorder } = client();
    const { address } = server;
    await server.shutdown(100);
    transport.open(1, address);
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]?.code).toBe("UNREACHABLE");
    const other = http.createServer((_, response) => response.end("no"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      other.closeAllConnections();
      other.close();
    });
    const { port } = other.address() as net.AddressInfo;
    transport.open(3, { ...address, port });
    await recorder.until(() => recorder.down.length === 2);
    expect(recorder.down[1]?.code).toBe("UNREACHABLE");
  });

  test("a port in use is ADDRESS_IN_USE, a foreign address ADDRESS_UNAVAILABLE", async () => {
    const { server, handler } = await start();
    const taken = { host: "127.0.0.1", port: server.address.port, backend, handler };
    await expect(startWsServer(taken)).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    await expect(startWsServer({ ...taken, host: "192.0.2.1", port: 0 })).rejects.toMatchObject({
      code: "ADDRESS_UNAVAILABLE",
    });
  });

  test("a second process on the port is refused, whichever back end it has", async () => {
    const handler = new ServerRecorder();
    const { server } = await start();
    for (const other of ["uws", "ws"] as const) {
      const same = { host: "127.0.0.1", port: server.address.port, backend: other, handler };
      await expect(startWsServer(same)).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
    }
    // The same for a port that was asked for by number.
    const { port } = server.address;
    await server.shutdown(100);
    await start({ port });
    await expect(
      startWsServer({ host: "127.0.0.1", port, backend, handler }),
    ).rejects.toMatchObject({ code: "ADDRESS_IN_USE" });
  });

  test("IPv6: a client over [::1] reaches a dual-stack server, and so does IPv4", async () => {
    const { server, handler } = await start({ host: "::" });
    const { transport, recorder } = client();
    transport.open(1, { ...server.address, host: "::1" });
    transport.open(3, { ...server.address, host: "127.0.0.1" });
    await recorder.until(() => recorder.up.length === 2);
    await handler.until(() => handler.up.length === 2);
    expect(handler.up.map(({ remote }) => remote.host).sort()).toEqual(["127.0.0.1", "::1"]);
  });

  test("shutdown closes links with 1001 and leaves nothing open", async () => {
    const { server, recorder, handler } = await pair();
    const keptAlive = new http.Agent({ keepAlive: true });
    await new Promise((resolve) =>
      http.get({ port: server.address.port, agent: keptAlive }, (response) => {
        response.resume().on("end", resolve);
      }),
    );
    await server.shutdown();
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]).toMatchObject({ code: "LINK_CLOSED", detail: "close code 1001" });
    expect(handler.down).toEqual([]);
    expect(server.stats().links).toBe(0);
    keptAlive.destroy();
  });

  test("GET and POST reach the handler with path, type and body", async () => {
    const { base, handler } = await start();
    expect(await (await fetch(`${base}/healthz?x=1`)).text()).toBe("ok");
    handler.answer = async ({ body }) => ({
      status: 429,
      contentType: "application/msgpack",
      body,
      retryAfterSeconds: 3,
    });
    const body = new Uint8Array(65_536).fill(5);
    const response = await fetch(`${base}/r5/join`, {
      method: "POST",
      headers: { "content-type": "Application/JSON; charset=utf-8" },
      body,
    });
    expect(response.status).toBe(429);
    expect(response.headers.get("retry-after")).toBe("3");
    expect(response.headers.get("content-type")).toBe("application/msgpack");
    expect(Buffer.compare(new Uint8Array(await response.arrayBuffer()), body)).toBe(0);
    expect(handler.requests.map(({ method, path }) => `${method} ${path}`)).toEqual([
      "GET /healthz",
      "POST /r5/join",
    ]);
    expect(handler.requests[1]?.contentType).toBe("application/json");
  });

  test("a body over the limit is 413, another method 405, a failed handler 500", async () => {
    const { base, handler, server } = await start();
    const large = await fetch(`${base}/x`, { method: "POST", body: new Uint8Array(65_537) });
    expect([large.status, ((await large.json()) as { code: string }).code]).toEqual([
      413,
      "FRAME_TOO_LARGE",
    ]);
    const put = await fetch(`${base}/x`, { method: "PUT" });
    expect(put.status).toBe(405);
    expect(handler.requests).toEqual([]);
    handler.answer = () => Promise.reject(new Error("broken"));
    const failed = await fetch(`${base}/x`);
    expect([failed.status, await failed.json()]).toEqual([
      500,
      { code: "INTERNAL", detail: "broken" },
    ]);
    expect(server.stats()).toMatchObject({ httpRefused: 2, httpRequests: 1 });
  });

  test("a large body without a length is cut at the limit", async () => {
    const { server } = await start();
    const socket = net.connect(server.address.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    for (let i = 0; i < 20; i++) socket.write(`1000\r\n${"x".repeat(4096)}\r\n`);
    socket.resume();
    await new Promise((resolve) => socket.once("close", resolve));
    expect(server.stats().httpRequests).toBe(0);
  });

  test("a request that drips in is cut at its deadline", async () => {
    const { server } = await start({ requestTimeoutMs: 200 });
    const socket = net.connect(server.address.port, "127.0.0.1");
    socket.on("error", () => undefined);
    socket.resume();
    socket.write("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    const drip = setInterval(() => socket.write("x"), 20);
    await new Promise((resolve) => socket.once("close", resolve));
    clearInterval(drip);
    expect(server.stats()).toMatchObject({ httpRequests: 0 });
  });

  test("connections over the limit are turned away before they speak", async () => {
    const { server, base, handler } = await start({ maxConnections: 2 });
    const { transport, recorder } = client();
    transport.open(1, server.address);
    transport.open(3, server.address);
    await recorder.until(() => recorder.up.length === 2);
    await expect(fetch(`${base}/healthz`)).rejects.toThrow();
    expect(server.stats().refused).toBeGreaterThan(0);
    transport.close(1, false);
    await handler.until(() => handler.down.length === 1);
    while (server.stats().connections > 1) await new Promise((resolve) => setImmediate(resolve));
    expect((await fetch(`${base}/healthz`)).status).toBe(200);
  });

  test("a client that leaves during its request hurts nobody", async () => {
    const { server, handler, base } = await start();
    let release: (() => void) | undefined;
    handler.answer = () =>
      new Promise((resolve) => {
        release = () => resolve({ status: 200, contentType: "text/plain", body: "late" });
      });
    const socket = net.connect(server.address.port, "127.0.0.1");
    socket.write("GET /x HTTP/1.1\r\nhost: x\r\n\r\n");
    await handler.until(() => handler.requests.length === 1);
    socket.destroy();
    while (server.stats().connections > 0) await new Promise((resolve) => setImmediate(resolve));
    release?.();
    handler.answer = async () => ({ status: 204, contentType: "text/plain", body: "" });
    expect((await fetch(`${base}/y`)).status).toBe(204);
  });
});

test("without a choice the server says which back end it took", async () => {
  const handler = new ServerRecorder();
  const server = await startWsServer({ host: "127.0.0.1", port: 0, handler });
  onTestFinished(() => server.shutdown(100));
  expect(server.backend).toBe("uws");
});
