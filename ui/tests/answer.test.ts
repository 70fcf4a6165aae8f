import { expect, test, vi } from "vitest";
import { AnswerView } from "../src/answer/answer";
import { facts } from "../src/answer/footer";
import { settled } from "../src/answer/markdown";
import { type Answer, parse } from "../src/answer/payload";
import { foreign, formula, prose } from "../src/answer/safe";
import { formula as typeset } from "../src/answer/tex";
import { copy } from "../src/clipboard";

const payload = (known: object) => ({ version: 1, state: "done", parts: [], ...known });

function answer(known: object): Answer {
  const parsed = parse(payload(known));
  if (!parsed) throw new Error("not known");
  return parsed;
}

const text = (words: string, at = 0) => ({ type: "text", text: words, at });
const draw = (view: AnswerView, known: object) => view.draw(answer(known), Infinity);

test.each([
  ["another version", payload({ version: 2 })],
  ["another state", payload({ state: "dreaming" })],
  ["no parts", payload({ parts: "all" })],
  ["a part without a type", payload({ parts: [{ text: "x" }] })],
  ["a list", [1]],
  ["nothing", null],
])("%s is not known", (_, known) => {
  expect(parse(known)).toBeNull();
});

test.each(["plan", "toString", "__proto__"])("a part of the type %s is not drawn", (type) => {
  expect(AnswerView.knows(answer({ parts: [{ type, text: "x" }] }))).toBe(false);
});

test("a part whose text is none is not drawn", () => {
  expect(AnswerView.knows(answer({ parts: [{ type: "text", text: { html: "<b>" } }] }))).toBe(false);
});

test("a footer says what is known", () => {
  const { footer } = answer({
    footer: {
      model: "a:b",
      seconds: 12.4,
      tokens: [1000, 5],
      cost: 0.5,
      ending: "cut off",
      status: ["5 s"],
      x: 1,
    },
  });
  expect(facts(footer ?? {}).map(([words]) => words)).toEqual([
    ...["a:b", "12 s", "1,000 in, 5 out", "$0.50", "5 s", "cut off"],
  ]);
  expect(answer({ footer: { model: 1, tokens: ["x"], seconds: "1" } }).footer).toEqual({});
});

test("an answer that grows in several outputs is one, and ends as it stands", () => {
  const view = new AnswerView();
  const live = { state: "streaming", live: "x", model: "a:b", footer: { status: ["1 s"] } };
  draw(view, { ...live, state: "waiting" });
  expect(view.el.textContent).toContain("a:b1 s");
  draw(view, { ...live, parts: [{ type: "reasoning", text: "Hm." }, text("One.\n\nTw")] });
  draw(view, { ...live, parts: [{ type: "reasoning", text: "", at: 3 }, text("One.\n\n")] });
  draw(view, { ...live, parts: [{ type: "reasoning", text: "", at: 3 }, text("Two.\n\nThr", 6)] });
  const first = view.el.querySelector(".ic-text p");
  const parts = [{ type: "reasoning", text: "Hm.", seconds: 2.5 }, text("One.\n\nTwo.\n\nThree.")];
  draw(view, { parts, footer: { model: "a:b" } });
  expect(view.el.querySelector(".ic-text p")).toBe(first);
  expect(view.el.querySelector("summary")?.textContent).toBe("Thought for 2.5 s");
  expect([...view.el.querySelectorAll(".ic-text p")].map((p) => p.textContent)).toEqual([
    "One.",
    "Two.",
    "Three.",
  ]);
  expect(view.el.querySelector(".ic-stranded")).toBeNull();
});

test("what broke off says so", () => {
  const view = new AnswerView();
  draw(view, { state: "streaming", parts: [text("Half")] });
  expect(view.el.querySelector(".ic-stranded")?.textContent).toContain("%chat_history");
});

test("parts that change are drawn anew, and only those", () => {
  const view = new AnswerView();
  draw(view, { parts: [{ type: "notice", text: "a" }, text("x")] });
  const said = () => view.el.querySelector(".ic-answer")?.textContent.replace(/\s/g, "");
  draw(view, { parts: [text("x"), { type: "notice", text: "b", level: "warning" }] });
  expect(said()).toBe("xb");
  draw(view, { parts: [text("y")] });
  expect(said()).toBe("y");
});

test("pictures and sources are shown, if their addresses are good", () => {
  const view = new AnswerView();
  const source = (address: unknown) => ({ type: "source", text: "A page", address, number: 1 });
  const image = (address: unknown) => ({ type: "image", text: "a dot", address });
  draw(view, { parts: [image("data:image/png;base64,AAAA"), source("https://x.example/")] });
  expect(view.el.querySelector("img")?.alt).toBe("a dot");
  expect(view.el.querySelector("a")?.href).toBe("https://x.example/");
  for (const bad of ["javascript:alert(1)", "data:image/svg+xml;base64,AAAA", { a: 1 }, undefined]) {
    draw(view, { parts: [image(bad), source(bad)] });
    expect(view.el.querySelector("img, a")).toBeNull();
    expect(view.el.textContent).toContain("1. A page");
  }
});

test("an answer is copied as it was written", async () => {
  const written = vi.fn(() => Promise.reject(new Error("no")));
  Object.defineProperty(navigator, "clipboard", { value: { writeText: written }, configurable: true });
  Object.defineProperty(document, "execCommand", { value: () => true, configurable: true });
  const view = new AnswerView();
  draw(view, { parts: [text("*x*")] });
  view.el.querySelector<HTMLElement>("[aria-label='Copy answer']")?.click();
  await vi.waitFor(() => expect(view.el.querySelector("[aria-label=Copied]")).toBeTruthy());
  expect(written).toHaveBeenCalledWith("*x*");
  expect(await copy("y")).toBe(true);
});

test.each([
  ["a $$x^2", "a "],
  ["a \\(x", "a "],
  ["see ![a](data:image/png;base64,AA", "see "],
  ["text\n``", "text"],
  ["text\n```pyth", "text"],
  ["| a | b |", ""],
  ["| a | b |\n|---|---|\n| 1 | 2", "| a | b |\n|---|---|\n"],
  ["`$$` and $5", "`$$` and $5"],
  ["```\n$$", "```\n$$"],
])("of %j that grows %j is drawn", (block, drawn) => {
  expect(settled(block).trimEnd()).toBe(drawn.trimEnd());
});

const HOSTILE = [
  "<img src=x onerror=alert(1)>",
  "<img src='data:image/svg+xml;base64,AAAA'>",
  "<a href='javascript:alert(1)'>x</a>",
  "<a href='data:image/png;base64,AAAA'>x</a>",
  "<iframe srcdoc='<script>1</script>'></iframe><form action=//x><input></form>",
  "<span style='background:url(//x.example)' class=jp-x onclick=alert(1)>x</span>",
  "<svg><use href='//x.example#a'/><image href='//x.example'/></svg>",
  "<math><mtext><mglyph><style><img src=x onerror=alert(1)></style></mglyph></mtext></math>",
  "<div id=x name=y data-code=insert>x</div><link rel=stylesheet href=//x.example><base href=//x.example>",
];

test.each(HOSTILE)("%s comes through no gate", (html) => {
  for (const gate of [prose, formula, foreign]) {
    const page = document.createElement("div");
    page.append(gate(html));
    expect(
      page.querySelector("script, iframe, form, input, use, image, style, link, base, [id], [data-code]"),
    ).toBeNull();
    for (const el of page.querySelectorAll("*"))
      for (const { name, value } of el.attributes) {
        expect(name).not.toMatch(/^on|srcset|xlink/);
        if (["href", "src", "style"].includes(name))
          expect(value).not.toMatch(/javascript|svg|url|x\.example/);
        if (name === "href") expect(value).toMatch(/^(https?:|mailto:)/);
      }
  }
});

test.each(["\\href{https://x.example}{x}", "\\includegraphics{x}", "\\frac{", "x".repeat(6000)])(
  "%s is not typeset",
  (tex) => {
    expect(typeset(tex, false)).toBeNull();
  },
);
