/** One turn: the question, the answer as it grows, and what can be done with it. */
import { composing, confirm, fit, h, icon, iconButton } from "./dom.js";
import { copy } from "./cells.js";
import { Flow, Growing } from "./markdown.js";

const ENDS = { length: "cut off at the length limit", content_filter: "cut off by a content filter" };
const STATES = { stopped: "stopped", failed: "failed", lost: "the kernel ended before the answer did" };
const FOLDED = 1500; // characters of a question shown at first

const plural = (count, unit) => `${count.toLocaleString("en")} ${unit}`;

function facts(turn) {
  const { model, seconds, tokens, cost, finish, state, at } = turn;
  const when = new Date(at);
  return [
    [model],
    state !== "running" && seconds > 0 && [`${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`, `asked ${when.toLocaleString()}`],
    tokens && [`${plural(tokens[0], "in")}, ${plural(tokens[1], "out")}`, "tokens read and written"],
    cost != null && [`$${cost < 0.1 ? cost.toPrecision(2) : cost.toFixed(2)}`, "estimated cost"],
    turn.cell && ["asked in a cell"],
    turn.stale && ["stale", "a question before this one changed after it was answered", "ic-warn"],
    STATES[state] && [STATES[state], "", "ic-warn"],
    !STATES[state] && finish && finish !== "stop" && [ENDS[finish] ?? finish, "how it ended", "ic-warn"],
  ].filter(Boolean).map(([text, title, kind]) => h("span", { text, title, class: kind }));
}

export const fileChip = (name, detail, ...more) =>
  h("span", { class: "ic-chip" }, icon("file"), h("span", { text: name, title: name }), detail && h("small", { text: detail }), ...more);

/** A question as it was typed. */
export function bubble(text, files = []) {
  const words = h("div", { class: "ic-words", text: text.length > FOLDED ? `${text.slice(0, FOLDED)} …` : text });
  const all = text.length > FOLDED && h("button", { type: "button", class: "ic-link", text: "Show all", onclick: () => { words.textContent = text; all.remove(); } });
  return h("div", { class: "ic-question" }, words, all, files.length > 0 && h("div", { class: "ic-chips" }, ...files.map((name) => fileChip(name))));
}

export class TurnView {
  constructor(store, id) {
    Object.assign(this, { store, id, reasoned: 0, told: "", due: 0 });
    this.asked = h("div", { class: "ic-asked" });
    this.thoughts = h("div", { class: "ic-thoughts" });
    this.thinking = h("details", { class: "ic-thinking", hidden: true }, h("summary", { text: "Reasoning" }), this.thoughts);
    this.answer = h("div", { class: "ic-answer" });
    this.flow = new Flow(this.answer);
    this.notes = h("div", { class: "ic-notes" });
    this.facts = h("div", { class: "ic-facts" });
    this.tools = h("div", { class: "ic-tools", role: "group", "aria-label": "Turn" },
      iconButton("copy", "Copy answer", (event) => this.copy(event.currentTarget)),
      iconButton("again", "Ask again", () => store.act("again", { turn: id })),
      iconButton("edit", "Edit the question", () => this.edit()),
      iconButton("drop", "Drop this turn", () => store.act("drop", { turn: id })));
    this.el = h("div", { class: "ic-turn", role: "group", "aria-label": "Turn" },
      this.asked, this.thinking, this.answer, this.notes, h("div", { class: "ic-foot" }, this.tools, this.facts));
    this.head();
  }
  get turn() {
    return this.store.turns.get(this.id);
  }
  async copy(button) {
    const copied = await copy(this.turn.text);
    confirm(button, copied ? "Copied" : "The browser forbids copying", copied ? "check" : "close");
  }
  /** Everything but the texts. */
  head() {
    const { turn } = this;
    this.el.dataset.state = turn.state;
    this.facts.replaceChildren(...facts(turn));
    this.notes.replaceChildren(
      ...(turn.notices ?? []).map((text) => h("div", { class: "ic-notice", text })),
      ...(turn.error ? [h("div", { class: "ic-error", text: turn.error })] : []));
    const question = JSON.stringify([turn.question, turn.files]);
    if (question === this.told) return;
    this.told = question;
    this.asked.replaceChildren(bubble(turn.question, turn.files));
  }
  draw(deadline) {
    const { turn } = this;
    if (!turn) return true;
    const running = turn.state === "running";
    if (turn.reasoning.length < this.reasoned) {
      this.thoughts.replaceChildren();
      this.reasoned = 0;
    }
    if (!this.reasoned) this.reasons = new Growing(this.thoughts);
    this.reasons.append(turn.reasoning.slice(this.reasoned));
    this.reasoned = turn.reasoning.length;
    this.thinking.hidden = !turn.reasoning;
    this.el.toggleAttribute("data-thinking", running && !turn.text);
    return this.flow.draw(turn.text, !running, deadline);
  }
  edit() {
    const before = this.asked.firstChild;
    const close = () => {
      form.replaceWith(before);
      this.tools.querySelector("button:nth-child(3)").focus();
    };
    const send = () => {
      const text = area.value.trim();
      close();
      if (text) this.store.act("edit", { turn: this.id, text });
    };
    const area = h("textarea", {
      class: "ic-field", rows: "1", "aria-label": "Question", value: this.turn.question,
      oninput: () => fit(area),
      onkeydown: (event) => {
        if (composing(event)) return;
        if (event.key === "Enter" && !event.shiftKey) send();
        else if (event.key === "Escape") close();
        else return;
        event.preventDefault();
        event.stopPropagation();
      },
    });
    const form = h("div", { class: "ic-edit" }, area, h("div", { class: "ic-row" },
      h("small", { text: "Replaces this turn." }),
      h("button", { type: "button", class: "ic-button", text: "Cancel", onclick: close }),
      h("button", { type: "button", class: "ic-button ic-primary", text: "Ask", onclick: send })));
    if (before.matches(".ic-edit")) return;
    before.replaceWith(form);
    fit(area);
    area.focus();
  }
}
