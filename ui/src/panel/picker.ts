/** The model picker: an ARIA combobox over a list grouped by provider; several words narrow it down ("gem fl"). */
import { composing, h, icon } from "../dom";
import type { Offer } from "./host";
import type { Store } from "./store";

const SHOWN = 300; // options at a time
let pickers = 0;

export class Picker {
  readonly el: HTMLElement;
  private readonly id = `ic-models-${++pickers}`;
  private readonly input: HTMLInputElement;
  private readonly list: HTMLElement;
  private active = -1;
  private shown: string[] = [];
  private typed = false;

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
    if (this.opened) this.draw();
    else this.close();
  }
  private open() {
    if (this.opened) return;
    this.store.act("models");
    this.typed = false;
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.select();
    this.active = -1;
    this.draw();
  }
  private close() {
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
    this.draw();
  }
  private draw() {
    const typed = this.typed ? this.input.value.trim() : "";
    const words = typed.toLowerCase().split(/\s+/);
    const models = (this.store.models ?? []).filter(({ id, name }) =>
      words.every((word) => `${id} ${name}`.toLowerCase().includes(word)),
    );
    const ready = models.filter((model) => !model.missing);
    const groups = new Map<string, Offer[]>();
    for (const model of [...ready, ...models.filter(({ missing }) => missing)].slice(0, SHOWN))
      groups.set(model.provider, [...(groups.get(model.provider) ?? []), model]);
    this.shown = [...groups.values()].flat().map((model) => model.id);
    let count = 0;
    const rows = [...groups].map(([provider, members]) => {
      // what all of them lack is said once
      const common = members.every(({ missing }) => missing === members[0]?.missing)
        ? (members[0]?.missing ?? "")
        : "";
      return h(
        "div",
        { role: "group", "aria-label": [provider, common].filter(Boolean).join(", ") },
        h(
          "div",
          { class: "ic-group", "aria-hidden": "true" },
          provider,
          common && h("small", { text: common }),
        ),
        ...members.map(({ id, name, missing }) => this.option(count++, id, name, missing, common)),
      );
    });
    if (typed.includes(":") && !this.shown.includes(typed)) {
      rows.push(this.option(count, typed, `Use “${typed}”`));
      this.shown.push(typed);
    }
    const note = this.note(rows.length, models.length - SHOWN);
    if (note) rows.push(h("div", { role: "option", "aria-disabled": "true", class: "ic-group", text: note }));
    this.list.replaceChildren(...rows);
    const first = this.typed ? 0 : this.shown.indexOf(this.store.info.model);
    this.move(this.active < 0 ? first : Math.min(this.active, this.shown.length - 1));
  }
  private note(rows: number, more: number) {
    if (!this.store.models) return "Asking the kernel …";
    if (!rows) return "No model has these words.";
    return more > 0 ? `${more} more: type to narrow it down.` : "";
  }
  private option(index: number, model: string, name: string, missing = "", said = "") {
    return h(
      "div",
      {
        role: "option",
        id: `${this.id}-${index}`,
        class: "ic-option",
        "data-missing": missing || null,
        "aria-selected": String(model === this.store.info.model),
        onclick: () => this.choose(model),
      },
      h("span", { text: name }),
      missing && missing !== said && h("small", { text: missing }),
    );
  }
  private move(index: number) {
    this.list.querySelector(".ic-active")?.classList.remove("ic-active");
    this.active = index;
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
    } else if (event.key === "Escape" && this.opened) {
      this.close();
      this.done();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
