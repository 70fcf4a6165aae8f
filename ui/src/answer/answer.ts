/** A whole answer, as a cell shows it: its parts, and below them who wrote it and how it ended. */
import { copy } from "../clipboard";
import { confirm, h, iconButton } from "../dom";
import { drawFacts, facts } from "./footer";
import { grown, known, Parts } from "./parts";
import type { Answer, Part, StepPart, TextPart } from "./payload";
import { interleaved, type Placed } from "./step";

const STRANDED = "The kernel ended before this answer did: %chat_history shows what was kept.";
const ENDED = new Set(["done", "stopped", "failed", "cut off"]);

export class AnswerView {
  readonly el: HTMLElement;
  private readonly parts = new Parts();
  private readonly facts = h("div", { class: "ic-facts" });
  private readonly status = h("div", { class: "ic-status", role: "status" });
  private readonly stranded = h("div", { class: "ic-notice ic-warn ic-stranded", text: STRANDED });
  private told = "";
  private text = "";
  private whole = ""; // of an answer that grows: its text so far,
  private readonly steps = new Map<number, Placed>(); // and its steps, each of which is told once

  constructor() {
    const copying = iconButton("copy", "Copy answer", async () => {
      const copied = await copy(this.text);
      confirm(copying, copied ? "Copied" : "The browser forbids copying", copied ? "check" : "close");
    });
    const tools = h("div", { class: "ic-tools", role: "group", "aria-label": "Answer" }, copying);
    const foot = h("div", { class: "ic-foot" }, tools, this.facts, this.status);
    this.el = h("div", { class: "ic-cell", role: "group", "aria-label": "Answer" }, this.parts.el, foot);
  }

  /** Whether an answer has only parts that can be drawn here. */
  static knows(answer: Answer): boolean {
    return known(answer.parts);
  }

  /** Says what became of a click. */
  say(text: string) {
    this.status.textContent = text;
  }

  /** Draws what changed, until `deadline`; false if something is left. */
  draw(answer: Answer, deadline: number): boolean {
    const done = ENDED.has(answer.state);
    this.el.dataset.state = done ? "done" : "running";
    this.el.setAttribute("aria-busy", String(!done));
    const footer = { ...(answer.model !== undefined && { model: answer.model }), ...answer.footer };
    this.stranded.remove();
    // its style hides it for some seconds after each redraw: it is read where none comes any more
    if (!done) this.el.append(this.stranded);
    const written = JSON.stringify(footer);
    if (written !== this.told) {
      this.told = written;
      this.facts.replaceChildren(...drawFacts(facts(footer)));
    }
    if (done)
      this.text = answer.parts
        .filter(({ type }) => type === "text")
        .map(({ text }) => String(text))
        .join("\n\n");
    const parts = answer.live === undefined ? answer.parts : this.gathered(answer.parts);
    return this.parts.draw(parts, done, deadline);
  }

  /** The parts of an answer that grows, with the steps that were told before these. */
  private gathered(parts: Part[]): Part[] {
    const isSaid = ({ type }: Part) => type === "text" || type === "step";
    for (const part of parts.filter(isSaid)) {
      if (part.type === "step") this.note(part as unknown as StepPart);
      else this.whole = grown(this.whole, part as unknown as TextPart);
    }
    if (!this.steps.size) return parts;
    const steps = [...this.steps].sort(([one], [other]) => one - other).map(([, step]) => step);
    const first = parts.findIndex(isSaid);
    const place = first < 0 ? parts.length : first;
    const rest = parts.slice(place).filter((part) => !isSaid(part));
    return [...parts.slice(0, place), ...interleaved(this.whole, steps), ...rest];
  }

  private note({ number, at, ...step }: StepPart) {
    if (typeof number === "number" && typeof at === "number") this.steps.set(number, { ...step, at });
  }
}
