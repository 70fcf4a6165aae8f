import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    environment: "jsdom",
    include: ["tests/**/*.test.ts"],
    restoreMocks: true,
    coverage: {
      include: ["src/**"],
      exclude: ["src/lab/**", "src/anywidget.ts"], // glue, which the browser tests hold
      reporter: ["text"],
    },
  },
});
