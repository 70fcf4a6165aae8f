/** One turn: the question, the answer as it grows, and what can be done with it. */
import { drawFacts, type Fact, facts } from "../answer/footer";
import { Parts } from "../answer/parts";
import type { Part } from "../answer/payload";
import { interleaved } from "../answer/step";
import { copy } from "../clipboard";
import { composing, confirm, fit, h, icon, iconButton } from "../dom";
import type { Store, Turn } from "./store";

const ENDS: Record<string, string> = {
  length: "cut off at the length limit",
  content_filter: "cut off by a content filter",
};
const STATES: Record<string, string> = {
  stopped: "stopped",
  failed: "failed",
  lost: "the kernel ended before the answer did",
};
const CUT = { ...ENDS, max_answer: "" }; // by its finish, an answer that has more to say
const FOLDED = 1500; // characters of a question shown at first

/** What a turn's line says beyond an answer's. */
function allFacts(turn: Turn): Fact[] {
  const { model, seconds, tokens, cost, finish, state, at } = turn;
  const [name, took, ...rest] = facts({
    model,
    seconds: state === "running" ? 0 : seconds,
    ...(tokens && { tokens }),
    ...(cost != null && { cost }),
  });
  const all: Fact[] = name ? [name] : [];
  if (took && state !== "running" && seconds > 0)
    all.push([took[0], `asked ${new Date(at).toLocaleString()}`], ...rest);
  else all.push(...[took, ...rest].filter((fact) => !!fact));
  if (turn.cell) all.push(["asked in a cell"]);
  if (turn.stale) all.push(["stale", "a question before this one changed after it was answered", "ic-warn"]);
  const end = STATES[state];
  if (end) all.push([end, "", "ic-warn"]);
  else if (finish && finish !== "stop" && state !== "running")
    all.push([ENDS[finish] ?? finish, "how it ended", "ic-warn"]);
  return all;
}

export const fileChip = (name: string, detail?: string, ...more: HTMLElement[]) =>
  h(
    "span",
    { class: "ic-chip" },
    icon("file"),
    h("span", { text: name, title: name }),
    detail && h("small", { text: detail }),
    ...more,
  );

/** A question as it was typed. */
export function bubble(text: string, files: string[] = []): HTMLElement {
  const words = h("div", {
    class: "ic-words",
    text: text.length > FOLDED ? `${text.slice(0, FOLDED)} …` : text,
  });
  const showAll = () => {
    words.textContent = text;
    all.remove();
  };
  const all = h("button", { type: "button", class: "ic-link", text: "Show all", onclick: showAll });
  return h(
    "div",
    { class: "ic-question" },
    words,
    text.length > FOLDED && all,
    files.length > 0 && h("div", { class: "ic-chips" }, ...files.map((name) => fileChip(name))),
  );
}

export class TurnView {
  readonly el: HTMLElement;
  due = 0; // when it may be drawn again
  private told = "";
  private readonly asked = h("div", { class: "ic-asked" });
  private readonly parts = new Parts();
  private readonly notes = h("div", { class: "ic-notes" });
  private readonly facts = h("div", { class: "ic-facts" });
  private readonly again: HTMLButtonElement;
  private readonly editing: HTMLButtonElement;
  private readonly going: HTMLButtonElement;

  constructor(
    private readonly store: Store,
    readonly id: string,
  ) {
    const copying = iconButton("copy", "Copy answer", () => this.copy(copying));
    this.again = iconButton("again", "Ask again", () => store.act("again", { turn: id }));
    this.editing = iconButton("edit", "Edit the question", () => this.edit());
    const drop = iconButton("drop", "Drop this turn", () => store.act("drop", { turn: id }));
    this.going = iconButton("continue", "Continue the answer", () => store.act("continue"), { hidden: true });
    const tools = h(
      "div",
      { class: "ic-tools", role: "group", "aria-label": "Turn" },
      this.going,
      copying,
      this.again,
      this.editing,
      drop,
    );
    this.el = h(
      "div",
      { class: "ic-turn", role: "group", "aria-label": "Turn" },
      this.asked,
      this.parts.el,
      this.notes,
      h("div", { class: "ic-foot" }, tools, this.facts),
    );
    this.head();
  }
  private get turn() {
    return this.store.turns.get(this.id);
  }
  private async copy(button: HTMLElement) {
    const copied = await copy(this.turn?.text ?? "");
    confirm(button, copied ? "Copied" : "The browser forbids copying", copied ? "check" : "close");
  }
  /** Everything but the texts. */
  head() {
    const { turn } = this;
    if (!turn) return;
    this.el.dataset.state = turn.state;
    this.facts.replaceChildren(...drawFacts(allFacts(turn)));
    this.offerMore();
    this.notes.replaceChildren(...turn.notices.map((text) => h("div", { class: "ic-notice", text })));
    if (turn.error) this.notes.append(h("div", { class: "ic-error", text: turn.error }));
    const question = JSON.stringify([turn.question, turn.files]);
    if (question === this.told) return;
    this.told = question;
    this.asked.replaceChildren(bubble(turn.question, turn.files));
  }
  /** An answer that was cut off goes on, as long as nothing follows on it. */
  offerMore() {
    const { turn } = this;
    if (!turn) return;
    const isCut =
      turn.state === "done" ? turn.finish !== null && turn.finish in CUT : turn.state !== "running";
    this.going.hidden = !isCut || !turn.text.trim() || this.store.order.at(-1) !== this.id;
  }
  /** Draws what is new, until `deadline`; false if something is left. */
  draw(deadline: number): boolean {
    const { turn } = this;
    if (!turn) return true;
    const running = turn.state === "running";
    this.offerMore();
    this.el.toggleAttribute("data-thinking", running && !turn.text && !turn.steps);
    const parts: Part[] = turn.reasoning ? [{ type: "reasoning", text: turn.reasoning }] : [];
    parts.push(...interleaved(turn.text, turn.steps ?? []));
    return this.parts.draw(parts, !running, deadline);
  }
  private edit() {
    const before = this.asked.firstElementChild;
    if (!before || before.matches(".ic-edit")) return;
    const close = () => {
      form.replaceWith(before);
      this.editing.focus();
    };
    const send = () => {
      const text = area.value.trim();
      close();
      if (text) this.store.act("edit", { turn: this.id, text });
    };
    const area: HTMLTextAreaElement = h("textarea", {
      class: "ic-field",
      rows: 1,
      "aria-label": "Question",
      value: this.turn?.question,
      oninput: () => fit(area),
      onkeydown: (event: KeyboardEvent) => {
        if (composing(event)) return;
        if (event.key === "Enter" && !event.shiftKey) send();
        else if (event.key === "Escape") close();
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    const form = h(
      "div",
      { class: "ic-edit" },
      area,
      h(
        "div",
        { class: "ic-row" },
        h("small", { text: "Replaces this turn." }),
        h("button", { type: "button", class: "ic-button", text: "Cancel", onclick: close }),
        h("button", { type: "button", class: "ic-button ic-primary", text: "Ask", onclick: send }),
      ),
    );
    before.replaceWith(form);
    fit(area);
    area.focus();
  }
}
