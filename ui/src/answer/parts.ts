/** The parts of an answer, one below the other: a drawing function for each type. */
import { h } from "../dom";
import { Flow } from "./flow";
import { time } from "./footer";
import { Growing } from "./growing";
import type { ImagePart, NoticePart, Part, ReasoningPart, SourcePart, TextPart } from "./payload";
import { ADDRESS, PICTURE } from "./safe";
import { step } from "./step";

/** One part on the page. `draw` shows it as it is now, until `deadline`; false if something is left. */
export interface Drawn<P> {
  readonly el: HTMLElement;
  draw(part: P, done: boolean, deadline: number): boolean;
}

/** What a text has become that is told from `at` on. */
export const grown = (before: string, { text, at = 0 }: { text: string; at?: number }) =>
  at > before.length ? `${before}${before && "\n…\n"}${text}` : before.slice(0, at) + text;

function text(): Drawn<TextPart> {
  const el = h("div", { class: "ic-text" });
  const flow = new Flow(el);
  let whole = "";
  return {
    el,
    draw(part, done, deadline) {
      whole = grown(whole, part);
      return flow.draw(whole, done, deadline);
    },
  };
}

function reasoning(): Drawn<ReasoningPart> {
  const summary = h("summary");
  const thoughts = h("div", { class: "ic-thoughts" });
  const el = h("details", { class: "ic-thinking" }, summary, thoughts);
  let growing = new Growing(thoughts);
  let whole = "";
  return {
    el,
    draw(part, done) {
      const text = grown(whole, part);
      if (!text.startsWith(whole)) {
        thoughts.replaceChildren();
        growing = new Growing(thoughts);
        whole = "";
      }
      growing.append(text.slice(whole.length));
      whole = text;
      el.hidden = !text;
      const took = part.seconds !== undefined && part.seconds > 0 && `Thought for ${time(part.seconds)}`;
      const words = took || (done ? "Reasoning" : "Thinking …");
      if (summary.textContent !== words) summary.textContent = words;
      return true;
    },
  };
}

function notice(): Drawn<NoticePart> {
  const el = h("div", { class: "ic-notice" });
  return {
    el,
    draw({ text, level }) {
      if (el.textContent !== text) el.textContent = text;
      el.classList.toggle("ic-warn", level === "warning");
      return true;
    },
  };
}

function image(): Drawn<ImagePart> {
  const el = h("p", { class: "ic-text" });
  return {
    el,
    draw({ text, address }) {
      const shown = typeof address === "string" && PICTURE.test(address);
      el.replaceChildren(shown ? h("img", { src: address, alt: text }) : text);
      return true;
    },
  };
}

function source(): Drawn<SourcePart> {
  const el = h("div", { class: "ic-notice ic-source" });
  return {
    el,
    draw({ text, address, number }) {
      const leads = typeof address === "string" && ADDRESS.test(address);
      const link = {
        href: String(address),
        title: String(address),
        target: "_blank",
        rel: "noopener noreferrer",
      };
      el.replaceChildren(`${Number(number)}. `, leads ? h("a", link, text) : text);
      return true;
    },
  };
}

/** By type; what else an answer may have adds a line here. */
const KINDS: Record<string, (() => Drawn<never>) | undefined> = {
  ...{ text, reasoning, notice, image, source, step },
};

/** Whether each can be drawn: of a known type, and with a text. */
export const known = (parts: Part[]): boolean =>
  parts.every((part) => Object.hasOwn(KINDS, part.type) && typeof part.text === "string");

export class Parts {
  readonly el = h("div", { class: "ic-answer" });
  private readonly drawn: { type: string; view: Drawn<Part> }[] = [];

  /** Draws what changed, until `deadline`; false if something is left. */
  draw(parts: Part[], done: boolean, deadline: number): boolean {
    for (const { view } of this.drawn.splice(parts.length)) view.el.remove();
    let all = true;
    parts.forEach((part, index) => {
      let entry = this.drawn[index];
      if (entry?.type !== part.type) {
        const made = KINDS[part.type];
        if (!made) return;
        const view = made() as unknown as Drawn<Part>;
        const before = entry?.view.el ?? null;
        if (before) before.replaceWith(view.el);
        else this.el.append(view.el);
        this.drawn[index] = entry = { type: part.type, view };
      }
      // what comes after it has ended it
      const ended = done || (part.type === "reasoning" && index < parts.length - 1);
      if (!entry.view.draw(part, ended, deadline)) all = false;
    });
    return all;
  }
}
