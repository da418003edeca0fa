/** The error table: codes are a contract, sentences are for people. */

import { describe, expect, test } from "vitest";
import { AssertionError, assert, unreachable } from "../../src/base/assert.ts";
import {
  ERRORS,
  type ErrorCode,
  isErrorCode,
  LocalUsageError,
  Mp2pError,
  OperationError,
  RemoteProtocolError,
} from "../../src/base/errors.ts";

const CODES = Object.keys(ERRORS) as ErrorCode[];

describe("table", () => {
  test.each(CODES)("%s is upper snake case with a sentence that a person can act on", (code) => {
    expect(code).toMatch(/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$/);
    const { sentence } = ERRORS[code];
    expect(sentence).toMatch(/^[A-Z].*\.$/);
    expect(sentence.length).toBeGreaterThan(15);
    expect(sentence).not.toMatch(/undefined|TODO/);
  });

  test("isErrorCode knows the table's own codes only", () => {
    for (const code of CODES) expect(isErrorCode(code)).toBe(true);
    for (const other of ["", "usage", "toString", "__proto__", "constructor", 5, null, undefined]) {
      expect(isErrorCode(other)).toBe(false);
    }
  });
});

describe("errors", () => {
  test("carry code, retryable, detail and cause", () => {
    const cause = new Error("ECONNREFUSED");
    const error = new OperationError("UNREACHABLE", { detail: "tcp://127.0.0.1:1", cause });
    expect(error).toBeInstanceOf(Mp2pError);
    expect(error.name).toBe("OperationError");
    expect(error.code).toBe("UNREACHABLE");
    expect(error.retryable).toBe(true);
    expect(error.detail).toBe("tcp://127.0.0.1:1");
    expect(error.cause).toBe(cause);
    expect(error.message).toBe(`UNREACHABLE: ${ERRORS.UNREACHABLE.sentence} (tcp://127.0.0.1:1)`);
  });

  test("say whose fault it is by their class", () => {
    const usage = new LocalUsageError("USAGE");
    const remote = new RemoteProtocolError("FRAME_MALFORMED");
    expect(usage).not.toBeInstanceOf(RemoteProtocolError);
    expect(remote).not.toBeInstanceOf(LocalUsageError);
    expect(usage.message).toBe(`USAGE: ${ERRORS.USAGE.sentence}`);
    expect(usage.detail).toBeUndefined();
    expect("cause" in usage).toBe(false);
    expect(remote.retryable).toBe(false);
  });
});

describe("assertions", () => {
  test("throw AssertionError with the message, or nothing", () => {
    expect(() => assert(true, "fine")).not.toThrow();
    expect(() => assert(false, "window is empty")).toThrow(AssertionError);
    expect(() => assert(false, "window is empty")).toThrow("window is empty");
    expect(() => unreachable("state" as never)).toThrow('unreachable: "state"');
  });

  test("are no error of the table: a bug of ours is never blamed on others", () => {
    expect(new AssertionError("x")).not.toBeInstanceOf(Mp2pError);
    expect(isErrorCode(new AssertionError("x").code)).toBe(false);
  });
});
