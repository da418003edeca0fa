/** Signalling with one server: every request ends, with an answer or a failure. */

import { describe, expect, it } from "vitest";
import { ServerClient, type ServerFailure } from "../../src/peer/session/server-client.ts";
import { QUERY_INDEX } from "../../src/protocol/r6.ts";
import { encodeAnswer } from "../../src/protocol/signalling.ts";

function client(): { client: ServerClient; sent: Uint8Array[]; closed: number[] } {
  const sent: Uint8Array[] = [];
  const closed: number[] = [];
  const made = new ServerClient(
    { transport: "ws", host: "h", port: 1 },
    {
      openLink: () => 1,
      transmit: (_linkId, bytes) => sent.push(bytes),
      closeLink: (linkId) => closed.push(linkId),
    },
    () => undefined,
  );
  return { client: made, sent, closed };
}
const query = { version: 0, title: "t", dataSourceId: "", dataId: "" };
const hand = (made: ServerClient, bytes: Uint8Array): void =>
  made.frames({
    kind: "frames",
    linkId: 1,
    memory: bytes,
    ranges: Uint32Array.of(0, bytes.length),
    count: 1,
  });

describe("ServerClient", () => {
  it("fails a request whose answer can not be used, and all others with it", () => {
    for (const broken of ["answer", "handler"] as const) {
      const { client: made, closed } = client();
      const failures: ServerFailure[] = [];
      const fail = (failure: ServerFailure): void => {
        failures.push(failure);
      };
      made.ask(
        QUERY_INDEX,
        query,
        (answer) => {
          QUERY_INDEX.answer.fromPositions([answer.files, "not a list"]);
        },
        fail,
      );
      made.ask(QUERY_INDEX, query, () => undefined, fail);
      made.linkUp();
      const good = encodeAnswer(QUERY_INDEX, 1, { files: [], gone: [], more: false });
      if (broken === "handler") hand(made, good);
      else hand(made, Uint8Array.of(0x93, good[1] ?? 0, good[2] ?? 0, 1, 0xc3));
      expect(failures.length).toBe(2);
      expect(failures[0]?.code).toBe("MESSAGE_MALFORMED");
      expect(closed).toEqual([1]);
    }
  });

  it("fails what is not answered in time, and what is open when the link goes down", () => {
    const { client: made } = client();
    const codes: string[] = [];
    made.setTime(0);
    made.ask(
      QUERY_INDEX,
      query,
      () => undefined,
      ({ code }) => codes.push(code),
    );
    made.setTime(8_000);
    made.expire();
    expect(codes).toEqual(["TIMEOUT"]);
    made.ask(
      QUERY_INDEX,
      query,
      () => undefined,
      ({ code }) => codes.push(code),
    );
    made.linkDown("LINK_RESET", "");
    expect(codes).toEqual(["TIMEOUT", "LINK_RESET"]);
    expect(made.deadlineMs).toBe(Number.POSITIVE_INFINITY);
  });
});
