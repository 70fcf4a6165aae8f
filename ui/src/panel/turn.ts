/** One turn: the question, the answer as it grows, and what can be done with it. */
import { Flow } from "../answer/flow";
import { Growing } from "../answer/growing";
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

const plural = (count: number, unit: string) => `${count.toLocaleString("en")} ${unit}`;

type Fact = [text: string, title?: string, kind?: string];

function facts(turn: Turn): HTMLElement[] {
  const { model, seconds, tokens, cost, finish, state, at } = turn;
  const all: Fact[] = [[model]];
  if (state !== "running" && seconds > 0)
    all.push([
      `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`,
      `asked ${new Date(at).toLocaleString()}`,
    ]);
  if (tokens)
    all.push([`${plural(tokens[0], "in")}, ${plural(tokens[1], "out")}`, "tokens read and written"]);
  if (cost != null) all.push([`$${cost < 0.1 ? cost.toPrecision(2) : cost.toFixed(2)}`, "estimated cost"]);
  if (turn.cell) all.push(["asked in a cell"]);
  if (turn.stale) all.push(["stale", "a question before this one changed after it was answered", "ic-warn"]);
  const end = STATES[state];
  if (end) all.push([end, "", "ic-warn"]);
  else if (finish && finish !== "stop") all.push([ENDS[finish] ?? finish, "how it ended", "ic-warn"]);
  return all.map(([text, title, kind]) => h("span", { text, title, class: kind }));
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
  private reasoned = 0;
  private told = "";
  private readonly asked = h("div", { class: "ic-asked" });
  private readonly thoughts = h("div", { class: "ic-thoughts" });
  private readonly thinking = h(
    "details",
    { class: "ic-thinking", hidden: true },
    h("summary", { text: "Reasoning" }),
    this.thoughts,
  );
  private readonly answer = h("div", { class: "ic-answer" });
  private readonly flow = new Flow(this.answer);
  private reasons = new Growing(this.thoughts);
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
      this.thinking,
      this.answer,
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
    this.facts.replaceChildren(...facts(turn));
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
    if (turn.reasoning.length < this.reasoned) {
      this.thoughts.replaceChildren();
      this.reasoned = 0;
      this.reasons = new Growing(this.thoughts);
    }
    this.reasons.append(turn.reasoning.slice(this.reasoned));
    this.reasoned = turn.reasoning.length;
    this.thinking.hidden = !turn.reasoning;
    this.offerMore();
    this.el.toggleAttribute("data-thinking", running && !turn.text);
    return this.flow.draw(turn.text, !running, deadline);
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
