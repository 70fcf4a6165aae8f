import { expect, test } from "vitest";
import { marked } from "../src/lab/marks";

const words = (source: string) => marked(source)?.map(({ from, to, kind }) => [kind, source.slice(from, to)]);

test("a question's flags, expressions and mentions stand out", () => {
  expect(
    words("%%chat -m gpt --with {{name}} --x\nWhat is {{df.shape}} of @df, a -b and me@example.org?"),
  ).toEqual([
    ["magic", "%%chat"],
    ["flag", "-m"],
    ["flag", "--with"],
    ["expression", "{{name}}"],
    ["flag", "--x"],
    ["expression", "{{df.shape}}"],
    ["mention", "@df"],
  ]);
});

test("no other cell is a question", () => {
  for (const source of [
    "x = 1",
    " %%chat",
    "%%chatty\nx",
    "%chat hi",
    "%%bash\n--flag",
    `%%chat\n${"x".repeat(60_000)}`,
  ])
    expect(marked(source)).toBeNull();
});

test("a mention within an expression is none", () => {
  expect(words("%%chat\n{{ f( @x ) }}")).toEqual([
    ["magic", "%%chat"],
    ["expression", "{{ f( @x ) }}"],
  ]);
});
