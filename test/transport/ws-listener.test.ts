/** Links that others open over WebSocket, on both back ends. */

import { once } from "node:events";
import { describe, expect, onTestFinished, test } from "vitest";
import { WebSocket } from "ws";
import { formatAddress } from "../../src/base/machine.ts";
import { WsListenerTransport } from "../../src/transport/ws-listener.ts";
import { Recorder } from "./contract.ts";
import { frameOf } from "./frames.ts";

const any = { transport: "ws", host: "127.0.0.1", port: 0 } as const;

describe.each(["uws", "ws"] as const)("on %s", (backend) => {
  async function listening() {
    const transport = new WsListenerTransport({ backend, maxInboundLinks: 3 });
    const recorder = new Recorder();
    transport.attach(recorder);
    onTestFinished(() => transport.shutdown());
    const { address } = await transport.listen(any);
    const dial = async (): Promise<WebSocket> => {
      const socket = new WebSocket(formatAddress(address));
      socket.on("error", () => undefined);
      onTestFinished(() => socket.terminate());
      await once(socket, "open");
      return socket;
    };
    return { transport, recorder, address, dial };
  }

  test("a binary message is a frame, of up to 256 KiB, both ways", async () => {
    const { transport, recorder, dial } = await listening();
    const socket = await dial();
    await recorder.until(() => recorder.up.length === 1);
    const linkId = recorder.up[0]?.linkId ?? 0;
    expect(linkId % 2).toBe(0);
    const [small, large] = [frameOf(100, 1), frameOf(262_144, 1)];
    socket.send(small);
    socket.send(large);
    await recorder.until(() => recorder.framesOf(linkId).length === 2);
    expect(recorder.framesOf(linkId).map((frame) => frame.length)).toEqual([100, 262_144]);
    const got = once(socket, "message");
    transport.send(linkId, small);
    expect(((await got)[0] as Buffer).length).toBe(100);
    await recorder.until(() => recorder.sentBytes.get(linkId) === 100);
    expect(transport.stats()).toMatchObject({ links: 1, accepted: 1, receivedBytes: 262_244 });
  });

  test("text and what is too large end the link; closing delivers what was sent before", async () => {
    const { transport, recorder, dial } = await listening();
    const texting = await dial();
    texting.send("hello");
    await recorder.until(() => recorder.down.length === 1);
    const shouting = await dial();
    shouting.send(Buffer.alloc(262_145));
    await recorder.until(() => recorder.down.length === 2);
    const socket = await dial();
    await recorder.until(() => recorder.up.length === 3);
    const linkId = recorder.up[2]?.linkId ?? 0;
    const got = once(socket, "message");
    transport.send(linkId, frameOf(50, 1));
    transport.close(linkId, false);
    expect(((await got)[0] as Buffer).length).toBe(50);
    await recorder.until(() => recorder.down.length === 3);
    transport.send(linkId, frameOf(50, 1));
    transport.close(linkId, true);
    expect(transport.stats().links).toBe(0);
  });

  test("says to a browser what it is, and dials nobody", async () => {
    const { transport, recorder, address } = await listening();
    const answer = await fetch(`http://${address.host}:${address.port}/`);
    expect(answer.status).toBe(426);
    expect(await answer.text()).toContain("WebSocket");
    transport.open(1, address);
    await recorder.until(() => recorder.down.length === 1);
    expect(recorder.down[0]).toMatchObject({ linkId: 1, code: "UNREACHABLE" });
  });
});
