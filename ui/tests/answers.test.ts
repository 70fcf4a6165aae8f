import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { AnswerView } from "../src/answer/answer";
import { parse } from "../src/answer/payload";
import { Store } from "../src/panel/store";
import { TurnView } from "../src/panel/turn";
import { FakeHost, head } from "./host";

interface Case {
  name: string;
  text: string;
  html: string;
}

const CASES = JSON.parse(readFileSync("../tests/answers.json", "utf8")) as Case[];

function inCell(text: string): Element {
  const view = new AnswerView();
  const answer = parse({ version: 1, state: "done", parts: [{ type: "text", text }] });
  if (!answer) throw new Error("not known");
  expect(view.draw(answer, Infinity)).toBe(true);
  return found(view.el);
}

/** As it comes, in pieces. */
function inPanel(text: string): Element {
  const host = new FakeHost();
  const store = new Store(host);
  host.tell({ kind: "sync", all: true, order: ["a"], turns: [head({ id: "a", state: "running" })] });
  const view = new TurnView(store, "a");
  const characters = Array.from(text);
  for (let at = 0; at < characters.length; at += 7) {
    const deltas = [{ id: "a", at, text: characters.slice(at, at + 7).join("") }];
    host.tell({ kind: "sync", deltas });
    view.draw(Infinity);
  }
  host.tell({ kind: "sync", turns: [head({ id: "a" })] });
  expect(view.draw(Infinity)).toBe(true);
  store.close();
  return found(view.el);
}

function found(el: Element): Element {
  const answer = el.querySelector(".ic-answer");
  if (!answer) throw new Error("no answer");
  return answer;
}

/** What both forms have to say alike. */
function content(root: Element) {
  const copy = root.cloneNode(true) as Element;
  for (const bar of copy.querySelectorAll(".ic-bar")) bar.remove();
  for (const math of copy.querySelectorAll(".katex")) {
    const mark = math.parentElement?.matches(".katex-display") ? "$$" : "$";
    math.replaceWith(`${mark}${math.querySelector("annotation")?.textContent ?? ""}${mark}`);
  }
  const words = (element: Element) => element.textContent.replace(/\s+/g, " ").trim();
  const side = (cell: HTMLElement) => cell.getAttribute("align") ?? cell.style.textAlign;
  return {
    text: words(copy),
    boxes: [...copy.querySelectorAll("pre")].map((pre) => pre.textContent.trimEnd()),
    tables: [...copy.querySelectorAll("tr")].map((row) =>
      [...row.querySelectorAll<HTMLElement>("th, td")].map((cell) => [words(cell), side(cell)]),
    ),
    links: [...copy.querySelectorAll("a")].map((link) => link.getAttribute("href")),
    pictures: [...copy.querySelectorAll("img")].map((image) => [image.getAttribute("src"), image.alt]),
  };
}

test("there are sixty", () => expect(CASES.length).toBe(60));

describe.each(CASES)("$name", ({ text, html }) => {
  test("is drawn alike in a cell and in the panel", () => {
    expect(inPanel(text).innerHTML.replace(/<div class="ic-live"><\/div>/g, "")).toBe(
      inCell(text).innerHTML.replace(/<div class="ic-live"><\/div>/g, ""),
    );
  });
  test("says the same where only its HTML is shown", () => {
    const page = document.createElement("div");
    page.innerHTML = html;
    expect(content(page)).toEqual(content(inCell(text)));
  });
});
