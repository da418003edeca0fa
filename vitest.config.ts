import { defineConfig } from "vitest/config";
import { ConformanceReporter } from "./test/conformance/reporter.ts";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 30_000,
    reporters: ["default", new ConformanceReporter()],
  },
});
