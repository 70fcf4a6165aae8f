/**
 * The model picker: an ARIA combobox over a list in the kernel's order; several words narrow it down ("gem fl"),
 * whatever stands between letters and digits ("gpt5" finds gpt-5.5).
 */
import { composing, h, icon } from "../dom";
import type { Offer } from "./host";
import type { Store } from "./store";

const SHOWN = 300; // options at a time
const NAMED: Record<string, string> = { current: "In use", recent: "Recent" }; // what is no provider's group
let pickers = 0;

const bare = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");

/** Whether a name has all the words that are typed; the kernel completes by the same rule. */
export const hasAll = (name: string, typed: string): boolean =>
  typed.split(/\s+/).every((word) => {
    const looked = bare(word);
    return name.toLowerCase().includes(word.toLowerCase()) || (looked !== "" && bare(name).includes(looked));
  });

/** What must be known of a model before it is chosen. */
const noteOf = ({ rank, missing, state }: Offer) => missing ?? (rank === "emulated" ? state : "");

export class Picker {
  readonly el: HTMLElement;
  private readonly id = `ic-models-${++pickers}`;
  private readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private active = -1;
  private shown: string[] = [];
  private typed = false;
  private chosen = ""; // what is marked, while the list may change around it
  private waits = false; // whether Enter was pressed before the list came

  constructor(
    private readonly store: Store,
    private readonly done: () => void,
  ) {
    this.input = h("input", {
      type: "text",
      role: "combobox",
      class: "ic-field",
      autocomplete: "off",
      spellcheck: "false",
      placeholder: "Choose a model",
      "aria-label": "Model",
      "aria-expanded": "false",
      "aria-controls": this.id,
      "aria-autocomplete": "list",
      "aria-haspopup": "listbox",
      onclick: () => this.open(),
      oninput: () => this.filter(),
      onkeydown: (event: KeyboardEvent) => this.key(event),
      onblur: () => this.close(),
    });
    this.list = h("div", {
      id: this.id,
      role: "listbox",
      class: "ic-popup ic-models",
      "aria-label": "Models",
      hidden: true,
      onmousedown: (event: MouseEvent) => event.preventDefault(),
    });
    this.el = h("div", { class: "ic-picker" }, this.input, icon("choose"), this.list);
    this.close();
  }
  private get opened() {
    return !this.list.hidden;
  }
  /** The chosen model or the list of models changed. */
  update() {
    if (!this.opened) return this.close();
    this.draw();
    const model = this.shown[this.active];
    if (this.waits && this.store.models && model) this.choose(model);
  }
  private open() {
    if (this.opened) return;
    this.store.act("models");
    this.typed = false;
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.select();
    this.active = -1;
    this.chosen = "";
    this.draw();
  }
  private close() {
    this.waits = false;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.input.title = this.store.info.model;
  }
  private choose(model: string) {
    if (model !== this.store.info.model) this.store.act("model", { name: model });
    this.close();
    this.done();
  }
  private filter() {
    this.open();
    this.typed = true;
    this.active = -1;
    this.chosen = "";
    this.waits = false;
    this.draw();
  }
  private draw() {
    const typed = this.typed ? this.input.value.trim() : "";
    const models = (this.store.models ?? []).filter(({ id }) => hasAll(id, typed));
    const groups = new Map<string, Offer[]>();
    for (const model of models.slice(0, SHOWN)) {
      const group = NAMED[model.rank] ?? model.provider;
      groups.set(group, [...(groups.get(group) ?? []), model]);
    }
    this.shown = [...groups.values()].flat().map((model) => model.id);
    let count = 0;
    const rows = [...groups].map(([group, members]) => {
      // what is to be said of all of them is said once
      const said = members.map(noteOf);
      const common = said.every((one) => one === said[0]) ? (said[0] ?? "") : "";
      return h(
        "div",
        { role: "group", "aria-label": [group, common].filter(Boolean).join(", ") },
        h("div", { class: "ic-group", "aria-hidden": "true" }, group, common && h("small", { text: common })),
        ...members.map((model) => this.option(count++, model, model.rank in NAMED, common)),
      );
    });
    if (typed.includes(":") && !this.shown.includes(typed)) {
      const used: Offer = {
        id: typed,
        provider: "",
        name: `Use “${typed}”`,
        rank: "ready",
        missing: "",
        state: "",
      };
      rows.push(this.option(count, used, false, ""));
      this.shown.push(typed);
    }
    const note = this.note(rows.length, models.length - SHOWN);
    if (note) rows.push(h("div", { role: "option", "aria-disabled": "true", class: "ic-group", text: note }));
    const { scrollTop } = this.list;
    this.list.replaceChildren(...rows);
    this.list.scrollTop = scrollTop; // a list that comes anew keeps its place
    const first = this.typed ? 0 : this.shown.indexOf(this.store.info.model);
    const before = this.chosen ? this.shown.indexOf(this.chosen) : -1;
    this.move(before < 0 ? first : before);
  }
  private note(rows: number, more: number) {
    if (!this.store.models) return "Asking the kernel …";
    if (!rows) return "No model has these words.";
    return more > 0 ? `${more} more: type to narrow it down.` : "";
  }
  private option(index: number, model: Offer, whole: boolean, said: string) {
    const note = noteOf(model);
    return h(
      "div",
      {
        role: "option",
        id: `${this.id}-${index}`,
        class: "ic-option",
        "data-missing": note || null,
        "aria-selected": String(model.id === this.store.info.model),
        onclick: () => this.choose(model.id),
      },
      h("span", { text: whole ? model.id : model.name }),
      note && note !== said && h("small", { text: note }),
    );
  }
  private move(index: number) {
    this.list.querySelector(".ic-active")?.classList.remove("ic-active");
    this.active = index;
    this.chosen = this.shown[index] ?? "";
    const option = this.list.querySelector(`#${this.id}-${index}`);
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.classList.add("ic-active");
    this.input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }
  private key(event: KeyboardEvent) {
    if (composing(event)) return;
    const last = this.shown.length - 1;
    const moves: Record<string, number> = {
      ArrowDown: this.active < last ? this.active + 1 : 0,
      ArrowUp: this.active > 0 ? this.active - 1 : last,
      Home: 0,
      End: last,
      PageDown: Math.min(this.active + 8, last),
      PageUp: Math.max(this.active - 8, 0),
    };
    const move = moves[event.key];
    if (move !== undefined && !event.shiftKey && (this.opened || event.key.startsWith("Arrow"))) {
      if (this.opened) this.move(move);
      else this.open();
    } else if (event.key === "Enter" && this.opened) {
      const model = this.shown[this.active];
      if (model) this.choose(model);
      else if (!this.store.models) this.waits = true; // for the list
    } else if (event.key === "Escape" && this.opened) {
      this.close();
      this.done();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
