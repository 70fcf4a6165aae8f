/** The model picker: an ARIA combobox over a list grouped by provider; several words narrow it down ("gem fl"). */
import { composing, h, icon } from "./dom.js";

const SHOWN = 300; // options at a time
let pickers = 0;

export class Picker {
  constructor(store, done) {
    const id = `ic-models-${++pickers}`;
    Object.assign(this, { store, done, id, active: -1, shown: [], typed: false });
    this.input = h("input", {
      type: "text", role: "combobox", class: "ic-field", autocomplete: "off", spellcheck: "false", placeholder: "Choose a model",
      "aria-label": "Model", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list", "aria-haspopup": "listbox",
      onclick: () => this.open(),
      oninput: () => this.filter(),
      onkeydown: (event) => this.key(event),
      onblur: () => this.close(),
    });
    this.list = h("div", { id, role: "listbox", class: "ic-popup ic-models", "aria-label": "Models", hidden: true, onmousedown: (event) => event.preventDefault() });
    this.el = h("div", { class: "ic-picker" }, this.input, icon("choose"), this.list);
    this.close();
  }
  get opened() {
    return !this.list.hidden;
  }
  /** The chosen model or the list of models changed. */
  update() {
    if (this.opened) this.draw();
    else this.close();
  }
  open() {
    if (this.opened) return;
    this.store.act("models");
    this.typed = false;
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.select();
    this.active = -1;
    this.draw();
  }
  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    this.input.value = this.input.title = this.store.info.model;
  }
  choose(model) {
    if (model !== this.store.info.model) this.store.act("model", { name: model });
    this.close();
    this.done();
  }
  filter() {
    this.open();
    this.typed = true;
    this.active = -1;
    this.draw();
  }
  draw() {
    const typed = this.typed ? this.input.value.trim() : "";
    const words = typed.toLowerCase().split(/\s+/);
    const models = (this.store.models ?? []).filter((model) => words.every((word) => `${model.id} ${model.name}`.toLowerCase().includes(word)));
    const ready = models.filter((model) => !model.missing);
    const readyFirst = [...ready, ...models.filter((model) => model.missing)];
    const groups = Map.groupBy(readyFirst.slice(0, SHOWN), (model) => model.provider);
    this.shown = [...groups.values()].flat().map((model) => model.id);
    let count = 0;
    const rows = [...groups].map(([provider, members]) => {
      // what all of them lack is said once
      const common = members.every(({ missing }) => missing === members[0].missing) && members[0].missing;
      return h("div", { role: "group", "aria-label": [provider, common].filter(Boolean).join(", ") },
        h("div", { class: "ic-group", "aria-hidden": "true" }, provider, common && h("small", { text: common })),
        ...members.map((model) => this.option(count++, model.id, model.name, model.missing, common)));
    });
    if (typed.includes(":") && !this.shown.includes(typed)) {
      rows.push(this.option(count, typed, `Use “${typed}”`));
      this.shown.push(typed);
    }
    const more = models.length - SHOWN;
    const note = !this.store.models ? "Asking the kernel …" : !rows.length ? "No model has these words." : more > 0 ? `${more} more: type to narrow it down.` : "";
    if (note) rows.push(h("div", { role: "option", "aria-disabled": "true", class: "ic-group", text: note }));
    this.list.replaceChildren(...rows);
    const first = this.typed ? 0 : this.shown.indexOf(this.store.info.model);
    this.move(this.active < 0 ? first : Math.min(this.active, this.shown.length - 1));
  }
  option(index, model, name, missing, said) {
    return h("div", { role: "option", id: `${this.id}-${index}`, class: "ic-option", "data-missing": missing, "aria-selected": String(model === this.store.info.model), onclick: () => this.choose(model) },
      h("span", { text: name }), missing && missing !== said && h("small", { text: missing }));
  }
  move(index) {
    this.list.querySelector(".ic-active")?.classList.remove("ic-active");
    this.active = index;
    const option = this.list.querySelector(`#${this.id}-${index}`);
    if (!option) return this.input.removeAttribute("aria-activedescendant");
    option.classList.add("ic-active");
    this.input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }
  key(event) {
    if (composing(event)) return;
    const last = this.shown.length - 1;
    const moves = { ArrowDown: this.active < last ? this.active + 1 : 0, ArrowUp: this.active > 0 ? this.active - 1 : last, Home: 0, End: last, PageDown: Math.min(this.active + 8, last), PageUp: Math.max(this.active - 8, 0) };
    if (event.key in moves && !event.shiftKey && (this.opened || event.key.startsWith("Arrow"))) {
      if (this.opened) this.move(moves[event.key]);
      else this.open();
    } else if (event.key === "Enter" && this.opened) {
      if (this.shown[this.active]) this.choose(this.shown[this.active]);
    } else if (event.key === "Escape" && this.opened) {
      this.close();
      this.done();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
