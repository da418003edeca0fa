import { describe, expect, it } from "vitest";
import { WaitedFor } from "../../src/cli/run-kit.ts";

describe("a wait for servers that came to nothing", () => {
  const cause = new Error("aborted");

  it("is UNREACHABLE when nobody answered", () => {
    const waited = new WaitedFor("at ws://127.0.0.1:1 within 5 ms");
    waited.failed({ code: "UNREACHABLE", detail: "connection refused" });
    waited.failed({ code: "TIMEOUT", detail: "no answer from the server" });
    expect(waited.error(cause)).toMatchObject({
      code: "UNREACHABLE",
      detail: "no server at ws://127.0.0.1:1 within 5 ms",
      cause,
    });
  });

  it("is what the server refused it with last, whatever became of the link after that", () => {
    const waited = new WaitedFor("at ws://127.0.0.1:1 within 5 ms");
    waited.failed({ code: "OVERLOADED", detail: "" });
    waited.failed({ code: "STORE_FULL", detail: "no space left" });
    waited.failed({ code: "LINK_CLOSED", detail: "" });
    expect(waited.error(cause)).toMatchObject({
      code: "STORE_FULL",
      detail: "no space left at ws://127.0.0.1:1 within 5 ms",
    });
  });
});
