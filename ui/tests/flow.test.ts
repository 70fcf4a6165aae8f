import { describe, expect, test } from "vitest";
import { Flow } from "../src/answer/flow";

const HEAD = "| a | b |\n|---|--:|\n";
const ANSWERS = {
  prose: "# Title\n\nSome *words* and `code`.\n\n- one\n- two\n\n> quoted\n",
  code: "Before\n\n```python\nprint('x')\n\nprint('y')\n```\n\nafter\n",
  table: `${HEAD}${"| one | 1 |\n".repeat(8)}`,
  links: "See [this][1] and [that][2].\n\nMore.\n\n[1]: https://example.org\n[2]: javascript:alert(1)\n",
};

function drawn(text: string, ...cuts: number[]) {
  const el = document.createElement("div");
  const flow = new Flow(el);
  for (const cut of cuts) flow.draw(text.slice(0, cut), false, Infinity);
  flow.draw(text, true, Infinity);
  el.querySelector(".ic-live")?.remove();
  return el;
}

describe.each(Object.entries(ANSWERS))("an answer with %s", (_, text) => {
  test("is the same however it came", () => {
    const everywhere = Array.from(text, (_, index) => index);
    expect(drawn(text, ...everywhere).innerHTML).toBe(drawn(text).innerHTML);
  });
});

test("a link that leads nowhere good is text", () => {
  const links = [...drawn(ANSWERS.links).querySelectorAll("a")];
  expect(links.map((link) => link.href)).toEqual(["https://example.org/"]);
});

test("what a model writes as HTML stays text", () => {
  const el = drawn("<script>alert(1)</script> <img src=x onerror=alert(1)>\n\n<b>bold</b>\n");
  expect(el.querySelector("script, img, b")).toBeNull();
  expect(el.textContent).toContain("<script>alert(1)</script>");
});
