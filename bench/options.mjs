// The options of the benchmarks, which are the same for all of them.

import { parseArgs } from "node:util";

const FLAGS = `
  --quick        a smoke run: one short run a case
  --runs <n>     runs of each case, the median is told (default 5)
  --only <text>  cases whose name holds the text
  --out <file>   the report as JSON
  --floors       exit 1 when a floor has fallen
  -h, --help

Needs dist/ and build/ (npm run build). Exit codes: 0 done, 1 wrong contents or a fallen floor, 2 wrong
usage. A run beside other work is marked noisy.
`;

/** What the command line says; ends the process on --help and on wrong flags. */
export function readOptions(command) {
  try {
    const { values } = parseArgs({
      options: {
        quick: { type: "boolean", default: false },
        runs: { type: "string" },
        only: { type: "string", default: "" },
        out: { type: "string" },
        floors: { type: "boolean", default: false },
        help: { type: "boolean", short: "h", default: false },
      },
    });
    if (values.help) {
      process.stdout.write(`Usage: ${command} [options]\n${FLAGS}`);
      process.exit(0);
    }
    const runs = Number(values.runs ?? (values.quick ? 1 : 5));
    if (!Number.isInteger(runs) || runs < 1) throw new Error("--runs is a count of 1 or more");
    return { ...values, runs };
  } catch (error) {
    return usage(command, error.message);
  }
}

export function usage(command, message) {
  process.stderr.write(`${message}\n\nUsage: ${command} [options]\n${FLAGS}`);
  process.exit(2);
}
