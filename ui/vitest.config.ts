import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.ts"],
    setupFiles: ["tests/setup.ts"],
    restoreMocks: true,
    coverage: {
      include: ["src/**"],
      exclude: ["src/lab/**", "src/anywidget.ts"], // glue, which the browser tests hold
      reporter: [["text", { skipFull: true }]],
      thresholds: { lines: 90 },
    },
  },
});
