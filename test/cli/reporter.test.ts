import { describe, expect, it, vi } from "vitest";
import { LocalUsageError, RemoteProtocolError } from "../../src/base/errors.ts";
import { Reporter } from "../../src/cli/reporter.ts";
import { simProgress } from "../../src/cli/run-sim.ts";

class Stream {
  text = "";
  isTTY: boolean;
  columns = 20;
  constructor(isTTY: boolean) {
    this.isTTY = isTTY;
  }
  write(text: string): void {
    this.text += text;
  }
}

function reporter(options: { json?: boolean; quiet?: boolean; tty?: boolean }) {
  const out = new Stream(false);
  const error = new Stream(options.tty === true);
  const { json = false, quiet = false } = options;
  return { out, error, reporter: new Reporter({ command: "join", json, quiet }, out, error) };
}

const progress = () => ({ fields: { data: 7 }, sentence: "7 data, and a sentence that is long" });

describe("a reporter", () => {
  it("keeps standard output free for data", () => {
    const { out, error, reporter: it } = reporter({});
    it.note("joined", {}, 'joined "x"');
    expect(out.text).toBe("");
    expect(error.text).toBe('mp2p join: joined "x"\n');
    it.result("ready", {}, "ready");
    expect(out.text).toBe("ready\n");
  });

  it("says each event as one JSON object a line", () => {
    const { out, error, reporter: it } = reporter({ json: true });
    it.note("joined", { title: "x", missing: undefined }, "");
    it.warn("gap", { from: 1 }, "");
    expect(error.text).toBe('{"event":"joined","title":"x"}\n{"event":"gap","from":1}\n');
    it.result("ready", { port: 1 }, "");
    expect(out.text).toBe('{"event":"ready","port":1}\n');
  });

  it("says of wrong usage what exactly is wrong, and nothing before it", () => {
    const { error, reporter: it } = reporter({});
    it.error(new LocalUsageError("USAGE", { detail: "--title is missing" }));
    expect(error.text).toBe("mp2p join: error: USAGE: --title is missing\n");
  });

  it("says only warnings and errors when quiet", () => {
    const { error, reporter: it } = reporter({ quiet: true });
    it.note("joined", {}, "joined");
    it.warn("gap", {}, "a gap");
    expect(error.text).toBe("mp2p join: a gap\n");
  });

  it("shows one live line on a terminal, cut to its width, and clears it for a sentence", () => {
    vi.useFakeTimers();
    const { error, reporter: it } = reporter({ tty: true });
    const stop = it.follow(progress);
    vi.advanceTimersByTime(300);
    expect(error.text).toBe("\r\x1b[K7 data, and a sente");
    error.text = "";
    it.warn("gap", {}, "a gap");
    expect(error.text).toBe("\r\x1b[Kmp2p join: a gap\n");
    stop();
    error.text = "";
    vi.advanceTimersByTime(10_000);
    expect(error.text).toBe("");
    vi.useRealTimers();
  });

  it("shows of what others say no control of the terminal, and no line of its own", () => {
    vi.useFakeTimers();
    const { out, error, reporter: it } = reporter({ tty: true });
    const detail = "\x1b[2J\x1b]0;x\x07\r\x9bK\x7f\nmp2p join: done\u2028\u202e\u2066";
    const shown =
      "\\u001b[2J\\u001b]0;x\\u0007\\u000d\\u009bK\\u007f\\u000amp2p join: done\\u2028\\u202e\\u2066";
    it.note("joined", {}, `joined "${detail}"`);
    it.warn("gap", {}, detail);
    it.error(new RemoteProtocolError("OVERLOADED", { detail }));
    const lines = error.text.split("\n");
    expect(lines.slice(0, 2)).toEqual([`mp2p join: joined "${shown}"`, `mp2p join: ${shown}`]);
    expect(lines[2]).toContain(`(${shown})`);
    expect(lines.slice(3)).toEqual([""]);
    it.result("peer", {}, `a line\nand another \x1b[2J`);
    expect(out.text).toBe("a line\nand another \\u001b[2J\n");
    error.text = "";
    const stop = it.follow(() => ({ fields: {}, sentence: "\x1b[2J\n7" }));
    vi.advanceTimersByTime(300);
    stop();
    expect(error.text).toBe("\r\x1b[K\\u001b[2J\\u000a7\r\x1b[K");
    vi.useRealTimers();
  });

  it("says in JSON the same with escapes", () => {
    const { error, reporter: it } = reporter({ json: true });
    const title = "\x1b\x9b2J\x7f\u2028\u202e, gr\u00fcn";
    it.note("joined", { title }, "");
    expect(JSON.parse(error.text)).toEqual({ event: "joined", title });
    expect(error.text).toContain("\\u001b\\u009b2J\\u007f\\u2028\\u202e, gr\u00fcn");
  });

  it("writes a plain line every few seconds elsewhere", () => {
    vi.useFakeTimers();
    const { error, reporter: it } = reporter({});
    const stop = it.follow(progress);
    vi.advanceTimersByTime(10_000);
    stop();
    expect(error.text).toBe("mp2p join: 7 data, and a sentence that is long\n".repeat(2));
    vi.useRealTimers();
  });
});

describe("progress of whoever keeps the thread busy", () => {
  const told = (options: { json?: boolean; quiet?: boolean; tty?: boolean }, atMs: number[]) => {
    const { error, reporter: it } = reporter(options);
    let nowMs = 0;
    const tell = simProgress(it, () => nowMs);
    for (const ms of atMs) {
      nowMs = ms;
      tell(90_000, 1_234, 40);
    }
    return error.text;
  };

  it("is a line every ten seconds, an event with --json, and a live line on a terminal", () => {
    const said =
      "90.0 s of virtual time, 40 peers, 1,234 fragments received, 10.0 s on this machine";
    expect(told({}, [9_999])).toBe("");
    expect(told({}, [200, 10_000, 15_000])).toBe(`mp2p join: ${said}\n`);
    expect(told({}, [10_000, 15_000, 20_000]).split("\n").length).toBe(3);
    expect(JSON.parse(told({ json: true }, [10_000]))).toEqual({
      event: "progress",
      virtualMs: 90_000,
      received: 1_234,
      peers: 40,
      wallMs: 10_000,
    });
    expect(told({ tty: true }, [200])).toBe("");
    expect(told({ tty: true }, [300])).toContain("90.0 s of virtual");
    expect(told({ quiet: true }, [60_000])).toBe("");
  });
});
