import { defineConfig } from "vitest/config";
import { ConformanceReporter } from "./test/conformance/reporter.ts";
import { importsAsConstants } from "./test/support/imports-as-constants.ts";

/**
 * Tests of rooms that touch nothing outside: their files share the modules of a worker, which spares
 * each of them half a second of a core. All others have a process of their own. Fewer workers:
 * VITEST_MAX_WORKERS=1 (of options of the command line, --maxWorkers does not reach projects).
 */
const SHARING = ["base", "protocol", "stream", "servers", "peer"].map(
  (room) => `test/${room}/**/*.test.ts`,
);

export default defineConfig({
  plugins: [importsAsConstants()],
  test: {
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ["default", new ConformanceReporter()],
    projects: [
      { extends: true, test: { name: "sharing", include: SHARING, isolate: false } },
      { extends: true, test: { name: "apart", include: ["test/**/*.test.ts"], exclude: SHARING } },
    ],
  },
});
