import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LocalUsageError, OperationError } from "../../src/base/errors.ts";
import type { JoinOptions } from "../../src/cli/join-command.ts";
import { type Actions, runProgram } from "../../src/cli/program.ts";
import { runJoin, withFlags } from "../../src/cli/run-join.ts";
import { runSource } from "../../src/cli/run-source.ts";
import { runStatus } from "../../src/cli/run-status.ts";
import type { SourceOptions } from "../../src/cli/source-command.ts";
import type { StatusCommandOptions } from "../../src/cli/status-command.ts";
import { dataIdOf } from "../../src/host/data-id.ts";

class Lines {
  text = "";
  write(text: string): void {
    this.text += text;
  }
}

interface Outcome {
  readonly code: number;
  readonly command: string | undefined;
  readonly options: Readonly<Record<string, unknown>>;
  readonly out: string;
  readonly error: string;
}

/** Runs a command line whose commands only note with which options they would run. */
async function run(line: string, fail?: Error): Promise<Outcome> {
  const out = new Lines();
  const error = new Lines();
  let command: string | undefined;
  let options: Readonly<Record<string, unknown>> = {};
  const note = (name: string) => async (given: object) => {
    command = name;
    options = { ...given };
    if (fail !== undefined) throw fail;
    return 0 as const;
  };
  const actions: Actions = {
    serve: note("serve"),
    source: note("source"),
    feed: note("feed"),
    join: note("join"),
    cache: note("cache"),
    demo: note("demo"),
    demoPeer: note("demoPeer"),
    key: note("key"),
    sim: note("sim"),
    status: note("status"),
  };
  const args = line === "" ? [] : line.split(" ");
  const code = await runProgram(args, actions, { version: "1.2.3", out, error });
  return { code, command, options, out: out.text, error: error.text };
}

let directory = "";
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "mp2p-cli-"));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
  for (const name of Object.keys(process.env)) {
    if (name.startsWith("MP2P_")) delete process.env[name];
  }
});

function configuration(values: unknown): string {
  const file = path.join(directory, "mp2p.json");
  writeFileSync(file, typeof values === "string" ? values : JSON.stringify(values));
  return file;
}

describe("options", () => {
  it("have defaults", async () => {
    const { code, command, options } = await run("source --server ws://h:1 --title t");
    expect({ code, command }).toEqual({ code: 0, command: "source" });
    expect(options).toMatchObject({
      server: "ws://h:1",
      title: "t",
      sourceId: "source",
      format: "lines",
      fragmentBytes: 16_384,
      delivery: "complete",
      integrity: "checksum",
      listen: { host: "127.0.0.1", port: 0 },
      json: false,
    });
    expect((await run("serve")).options).toMatchObject({
      roles: ["oms", "pams", "ixs"],
      host: "127.0.0.1",
      port: 7900,
      dataDir: "mp2p-data",
      memory: false,
    });
  });

  it("are turned into values", async () => {
    const { options } = await run(
      "join --server h:1 --source-id a,b --listen [::1]:5 --advertise h:6,[::2]:7 --wait-ms 10",
    );
    expect(options).toMatchObject({
      server: "ws://h:1",
      sourceId: ["a", "b"],
      listen: { host: "::1", port: 5 },
      advertise: [
        { host: "h", port: 6 },
        { host: "::2", port: 7 },
      ],
      waitMs: 10,
    });
  });

  it.each([
    ["4096", 4_096],
    ["500k", 500_000],
    ["500K", 500_000],
    ["2M", 2_000_000],
    ["1.5MB", 1_500_000],
    ["1Ki", 1_024],
    ["1MiB", 1_048_576],
    ["2GiB/s", 2 ** 31],
    ["64kB/s", 64_000],
  ])("read the rate %s", async (text, bytesPerSecond) => {
    const line = `--upload-limit ${text} --download-limit ${text}`;
    const rates = { uploadLimit: bytesPerSecond, downloadLimit: bytesPerSecond };
    expect((await run(`join ${line}`)).options).toMatchObject(rates);
    expect((await run(`source ${line}`)).options).toMatchObject(rates);
  });

  it("come from the flag before the environment before the file before the default", async () => {
    const file = configuration({ port: 1, host: "file", "admin-port": 3, "data-dir": "file" });
    process.env.MP2P_PORT = "2";
    process.env.MP2P_HOST = "environment";
    const { options } = await run(`serve --config ${file} --host flag`);
    expect(options).toMatchObject({ host: "flag", port: 2, adminPort: 3, dataDir: "file" });
  });

  it("of a command's own part of the file go before the common part", async () => {
    const file = configuration({ server: "h:1", title: "all", join: { title: "mine" } });
    expect((await run(`join --config ${file}`)).options).toMatchObject({
      server: "ws://h:1",
      title: "mine",
    });
    expect((await run(`source --config ${file}`)).options).toMatchObject({ title: "all" });
  });

  it.each([
    ["an unknown key", { titel: "x" }, "titel: no command has such an option"],
    ["an unknown key of the command", { join: { port: 1 } }, "join has no such option"],
    ["a wrong value", { "wait-ms": "soon" }, "Give a whole number"],
    ["a wrong flag", { json: "yes" }, "true or false"],
    ["a number for a text", { join: { title: 7 } }, "join.title: a text, in quotation marks"],
    ["a list for one value", { title: ["a"] }, "title: one value, no list"],
    ["a wrong value for another command", { serve: { port: -1 } }, "serve.port: Give"],
    ["a wrong value that only others take", { port: "x" }, "port: Give"],
    ["no object", [1], "no JSON object"],
    ["no JSON", "{", "is no JSON"],
  ])("of a file with %s are refused", async (_what, values, words) => {
    const { code, error } = await run(`join --config ${configuration(values)}`);
    expect(code).toBe(2);
    expect(error).toContain(words);
  });

  it("of a file are checked also where a flag goes before them", async () => {
    const { code, error } = await run(`serve --config ${configuration({ port: 70000 })} --port 1`);
    expect(code).toBe(2);
    expect(error).toContain("mp2p.json: port: Give a whole number");
  });

  it("in a file that does not exist are a failure", async () => {
    const { code, error } = await run(`join --config ${path.join(directory, "none")}`);
    expect(code).toBe(1);
    expect(error).toContain("FILE_NOT_FOUND");
  });
});

describe("wrong usage is exit 2 with the cure", () => {
  it.each([
    ["srve", "Did you mean serve?"],
    ["join --titel x", "Did you mean --title?"],
    ["join extra", "too many arguments"],
    ["source input.txt", "--file NAME"],
    ["feed input.txt", "--file NAME"],
    ["serve --memory --data-dir d", "cannot be used with option '--data-dir <dir>'"],
    ["join --server h", "Give a URL like ws://127.0.0.1:7900."],
    ["join --server tcp://h:1", "Give a URL like"],
    ["join --from middle", "Allowed choices are oldest, live, start."],
    ["join --listen h", "Give HOST:PORT"],
    ["join --dial abc", "64 hex digits"],
    ["sim --minutes 1 --fragments 5", "cannot be used with option '--fragments <n>'"],
    ["join --advertise h:0", "can not be 0"],
    ["source --format xml", "Allowed choices are lines, ndjson, csv, raw, framed."],
    ["join --upload-limit fast", "Give bytes a second, e.g. 500k, 2M, 1Mi or 2MB/s."],
    ["join --upload-limit 500kb", "Give bytes a second"],
    ["join --download-limit 2m", "Give bytes a second"],
    ["source --download-limit -1", "Give bytes a second"],
    ["source --upload-limit 1023", "Give 1Ki to 12.5G"],
    ["source --upload-limit 13G", "Give 1Ki to 12.5G"],
    ["join --max-links 0", "from 1 to 4096"],
    ["source --fragment-bytes 1023", "from 1024 to 262144"],
    ["source --rate 0", "above 0"],
    ["source --title", "argument missing"],
    ["serve --roles oms,cs", "Give some of oms, pams, ixs"],
    ["serve --port 65536", "from 0 to 65535"],
    ["serve --roles oms --pams tcp://h:1", "Give a URL like"],
    ["demo --peers 2", "from 3 to 50"],
    ["demo --speed fast", "above 0"],
    ["key", "missing required argument"],
  ])("%s", async (line, words) => {
    const { code, command, error } = await run(line);
    expect({ code, command }).toEqual({ code: 2, command: undefined });
    expect(error).toContain(words);
  });

  it("in the environment is named", async () => {
    process.env.MP2P_PORT = "abc";
    const { code, error } = await run("serve");
    expect(code).toBe(2);
    expect(error).toContain("MP2P_PORT");
  });

  it("is one JSON object with --json", async () => {
    const { code, error } = await run("join --json --foo");
    expect(code).toBe(2);
    expect(JSON.parse(error)).toMatchObject({ event: "error", code: "USAGE" });
  });

  it("without any command shows the help", async () => {
    const { code, error } = await run("");
    expect(code).toBe(2);
    expect(error).toContain("First steps");
  });
});

describe("errors of commands", () => {
  it.each([
    [new LocalUsageError("INTEGRITY_UNSUPPORTED"), 2],
    [new OperationError("TITLE_AMBIGUOUS", { detail: "a/b, c/d" }), 2],
    [new OperationError("UNREACHABLE"), 1],
    [new OperationError("OUTPUT_FAILED"), 1],
    [new OperationError("SESSION_LOST"), 3],
    [new OperationError("START_GONE"), 3],
    [new Error("a bug"), 1],
  ])("%s is exit %i", async (fault, code) => {
    expect((await run("serve", fault)).code).toBe(code);
  });

  it("are told with code, sentence and detail", async () => {
    const fault = new OperationError("TITLE_AMBIGUOUS", { detail: "a/b, c/d" });
    expect((await run("join", fault)).error).toBe(
      "mp2p join: error: TITLE_AMBIGUOUS: The title names several overlays; " +
        "name data source id and data id. (a/b, c/d)\n",
    );
    expect(JSON.parse((await run("join --json", fault)).error)).toMatchObject({
      event: "error",
      code: "TITLE_AMBIGUOUS",
      detail: "a/b, c/d",
    });
  });
});

describe("help", () => {
  it.each(["serve", "source", "join", "demo", "sim", "key"])(
    "of %s teaches by examples",
    async (name) => {
      const { code, out } = await run(`${name} --help`);
      expect(code).toBe(0);
      expect(out).toMatch(new RegExp(`Examples:\n(.*\n)*  mp2p ${name}`));
      expect(out).toContain("Exit codes:");
    },
  );

  it("does not offer the inner command of the demo", async () => {
    expect((await run("--help")).out).not.toContain("demo-peer");
  });

  it("tells the version", async () => {
    expect(await run("--version")).toMatchObject({ code: 0, out: "1.2.3\n" });
  });
});

describe("sim", () => {
  it("draws nothing that was given", async () => {
    const { options } = await run("sim --peers 12 --seed 9 --fan-out 3-7 --upload 2 --churn 0.5");
    expect(options).toMatchObject({
      peers: 12,
      seed: 9,
      fanOut: [3, 7],
      upload: [2, 2],
      churn: 0.5,
    });
  });

  it.each(["--churn -1", "--mass-leave 1.5", "--fan-out x", "--upload 0", "--delivery most"])(
    "refuses %s",
    async (flags) => {
      expect((await run(`sim ${flags}`)).code).toBe(2);
    },
  );
});

describe("the churn of sim", () => {
  it("is a share, and says so where it looks like a percentage", async () => {
    const { code, error } = await run("sim --churn 10");
    expect(code).toBe(2);
    expect(error).toContain("0.1 = 10 % a minute");
    expect((await run("sim --help")).out).toMatch(
      /are\s+replaced;\s+0.1\s+=\s+10\s+%\s+a\s+minute/,
    );
    expect((await run("sim --churn 1")).options).toMatchObject({ churn: 1 });
  });
});

describe("the data id of a source", () => {
  it("is the title unless given: two titles never claim the same index file", () => {
    expect(dataIdOf("A")).toBe("A");
    const long = "ä".repeat(120);
    expect(dataIdOf(`${long}1`)).toMatch(/^[0-9a-f]{64}$/);
    expect(dataIdOf(`${long}1`)).not.toBe(dataIdOf(`${long}2`));
  });

  it("is documented", async () => {
    const { out } = await run("source --help");
    expect(out).toContain("(default: the title)");
    expect(out.replace(/\s+/g, " ")).toContain("for ids that another key holds");
  });
});

describe("data sources on other machines", () => {
  it("source --accept takes ports, addresses and WebSocket URLs", async () => {
    const { options } = await run("source --title t --accept 7950,0.0.0.0:7951,ws://[::1]:7952");
    expect(options).toMatchObject({
      accept: [
        { transport: "tcp", host: "127.0.0.1", port: 7950 },
        { transport: "tcp", host: "0.0.0.0", port: 7951 },
        { transport: "ws", host: "::1", port: 7952 },
      ],
      end: "last",
      waitSources: 1,
    });
    expect((await run("source --accept nowhere")).code).toBe(2);
    expect((await run("source --accept 1 --end whenever")).code).toBe(2);
  });

  it("source refuses flags that would do nothing, before it does anything", async () => {
    for (const [flags, said] of [
      ["--delivery live --hold-ms 5", "--hold-ms is about --delivery complete"],
      ["--max-lag-ms 5", "--max-lag-ms is about --delivery live"],
      ["--wait-sources 2", "--wait-sources is about data sources"],
      ["--end owner", "--end is about data sources"],
      ["--accept 0 --format ndjson", "--format is about an input of this process"],
      ["--accept 0 --rate 5", "--rate is about an input of this process"],
    ]) {
      const { options } = await run(`source --server ws://127.0.0.1:1 --title t ${flags}`);
      const refused = runSource(options as unknown as SourceOptions);
      await expect(refused).rejects.toMatchObject({
        code: "USAGE",
        detail: expect.stringContaining(said as string),
      });
    }
  });

  it("join --relay refuses what is about an output", async () => {
    for (const flag of ["--out file", "--format ndjson"]) {
      const { options } = await run(`join --server ws://127.0.0.1:1 --title t --relay ${flag}`);
      await expect(runJoin(options as unknown as JoinOptions)).rejects.toMatchObject({
        code: "USAGE",
        detail: `--relay writes nothing: leave ${flag.split(" ")[0]} away`,
      });
    }
  });

  it("join names the flags that tell sessions of one title apart", () => {
    const fault = new OperationError("TITLE_AMBIGUOUS", { detail: "a/b, c/d" });
    expect(withFlags(fault)).toMatchObject({
      code: "TITLE_AMBIGUOUS",
      detail: "a/b, c/d: add --source-id or --data-id",
    });
    const other = new OperationError("UNREACHABLE");
    expect(withFlags(other)).toBe(other);
  });

  it("source waits for no more peers than it can be linked to", async () => {
    for (const [flags, said] of [
      ["--wait-peers 4 --max-links 3", "--max-links 4 or more, and it is 3"],
      ["--wait-peers 65", "--max-links 65 or more, and it is 64"],
    ]) {
      const { options } = await run(`source --server ws://127.0.0.1:1 --title t ${flags}`);
      await expect(runSource(options as unknown as SourceOptions)).rejects.toMatchObject({
        code: "USAGE",
        detail: expect.stringContaining(said as string),
      });
    }
    const help = (await run("source --help")).out.replaceAll(/\s+/g, " ");
    expect(help).toContain("who is behind others does not count");
  });

  it("an example of two lines is two lines, in every help", async () => {
    for (const command of ["source", "feed", "join", "serve", "cache", "status", "key", "sim"]) {
      const { out } = await run(`${command} --help`);
      const examples = out.split("\n").filter((line) => /^ {2}.*mp2p /.test(line));
      for (const line of examples) expect(line, command).not.toMatch(/\S {3,}--/);
    }
    expect((await run("source --help")).out).toContain("--allow-plaintext \\\n");
  });

  it("a key that is not there is asked for by the flag that names it", async () => {
    const named = { serviceKeyFile: "/none/service.key", server: "ws://127.0.0.1:1" };
    const { options } = await run("status --server ws://127.0.0.1:1");
    await expect(
      runStatus({ ...options, ...named } as unknown as StatusCommandOptions),
    ).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      detail: expect.stringContaining("--service-key-file"),
    });
    const source = await run("source --server ws://127.0.0.1:1 --title t --identity /none/key");
    await expect(runSource(source.options as unknown as SourceOptions)).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
      detail: "/none/key, the key of --identity: mp2p key /none/key makes one",
    });
    expect((await run("status --help")).out).toContain("until its second");
  });

  it("limits name every unit that they take", async () => {
    expect((await run("join --help")).out).toContain("500k, 2M, 1Mi, 2MB/s");
    expect((await run("join --upload-limit 2MB/s")).options).toMatchObject({
      uploadLimit: 2_000_000,
    });
  });

  it("--linger-ms tells its default", async () => {
    for (const command of ["source", "join"]) {
      expect((await run(`${command} --help`)).out.replaceAll(/\s+/g, " ")).toContain(
        "stay for others after the end, at most (default 10000)",
      );
    }
  });

  it("feed takes an address of either kind, and nothing else", async () => {
    const { options } = await run("feed --to 192.0.2.1:7950 --source-id a --end-session");
    expect(options).toMatchObject({
      to: "tcp://192.0.2.1:7950",
      sourceId: "a",
      format: "lines",
      endSession: true,
      keepOpen: false,
      append: false,
    });
    expect((await run("feed --to ws://h:1")).options).toMatchObject({ to: "ws://h:1" });
    for (const wrong of ["h", "h:0", "memory://h:1", "http://h:1"]) {
      expect((await run(`feed --to ${wrong}`)).code, wrong).toBe(2);
    }
  });

  it("feed --help says how a killed feed goes on", async () => {
    const { out } = await run("feed --help");
    expect(out).toContain("goes on behind what the source peer has");
    expect(out).toContain("--keep-open");
  });
});
