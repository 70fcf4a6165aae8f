/** What the model did: a line for each call, which opens to its code, its arguments and its result. */
import { h } from "../dom";
import { Code } from "./code";
import { time } from "./footer";
import type { Part, StepPart } from "./payload";
import { PICTURE } from "./safe";

const LINE = 200; // characters of the arguments in a line
const STATES: Record<string, string> = { failed: "failed", refused: "refused" };

const words = (value: unknown) => (typeof value === "string" ? value : "");

/** The language of a tool's code, as far as its name tells it. */
export const languageOf = (tool: string) => (tool.startsWith("mcp:") ? "" : "python");

/** Code in its box, as it ended. */
export function boxed(code: string, language: string): HTMLElement {
  const box = new Code(language);
  box.append(code);
  box.finish();
  return box.el;
}

/** Text as it came, under its name; it scrolls where it is long. */
export const verbatim = (name: string, text: string) =>
  h(
    "div",
    { class: "ic-code" },
    h("div", { class: "ic-bar" }, h("span", { class: "ic-language", text: name })),
    h("pre", { class: "ic-verbatim", tabindex: 0, role: "group", "aria-label": name, text }),
  );

function brief(code: string, rest: string): string {
  const [first = "", ...more] = code.trim().split("\n");
  const line = (first ? first + (more.length ? " …" : "") : rest).replace(/\s+/g, " ");
  return line.length > LINE ? `${line.slice(0, LINE)} …` : line;
}

function summary(part: StepPart): HTMLElement {
  const tool = words(part.tool) || "tool";
  const state = STATES[words(part.state)] ?? "";
  const said = words(part.said);
  const took = Number(part.seconds) > 0 ? time(Number(part.seconds)) : "";
  const facts = [said.startsWith(state) ? "" : state, took, said].filter((one) => !!one);
  return h(
    "summary",
    {},
    h("span", { class: "ic-call", text: `${tool}(${brief(words(part.code), words(part.arguments))})` }),
    ...facts.map((text) =>
      h("span", { class: text.startsWith(state) && state && "ic-end", text: ` · ${text}` }),
    ),
  );
}

function inside(part: StepPart): HTMLElement[] {
  const [code, rest, result] = [words(part.code), words(part.arguments), part.text];
  const pictures = Array.isArray(part.pictures) ? (part.pictures as unknown[]) : [];
  const shown = pictures.filter((one): one is string => typeof one === "string" && PICTURE.test(one));
  return [
    code && boxed(code, languageOf(words(part.tool))),
    rest && verbatim("arguments", rest),
    result && verbatim("result", result),
    ...shown.map((src, index) => h("img", { src, alt: `Picture ${index + 1} of the result` })),
  ].filter((one) => one instanceof HTMLElement);
}

export function step() {
  const el = h("details", { class: "ic-step" });
  let drawn = "";
  return {
    el,
    draw(part: StepPart) {
      const written = JSON.stringify(part);
      if (written === drawn) return true;
      const isFirst = !drawn;
      drawn = written;
      const shown = inside(part);
      el.dataset.state = words(part.state);
      el.replaceChildren(summary(part), h("div", { class: "ic-inside" }, ...shown));
      if (isFirst) el.open = shown.some((one) => one.matches("img"));
      return true;
    },
  };
}

/** A step and how much of the answer's text stands before it. */
export type Placed = StepPart & { at: number };

const trimmed = (text: string) => text.replace(/^\n+|\n+$/g, "");

/** The texts and the steps between them, in order. */
export function interleaved(text: string, steps: Placed[]): Part[] {
  const parts: Part[] = [];
  const say = (words: string) => words && parts.push({ type: "text", text: words });
  let before = 0;
  for (const { at, ...part } of steps) {
    say(trimmed(text.slice(before, at)));
    parts.push({ ...part });
    before = Math.max(before, at);
  }
  say(text.slice(before).replace(/^\n+/, ""));
  return parts;
}
