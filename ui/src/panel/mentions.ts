/** What of the notebook goes along with a question: found behind an @, shown as chips with its size. */
import { h, icon, iconButton, type IconName } from "../dom";
import { hasAll } from "./picker";
import type { Along } from "./host";
import { keyOf, type Store } from "./store";

const SHOWN = 40; // of what fits
const BEHIND = /(^|\s)@([\w.:/\-[\]]*)$/; // the cursor stands behind an @ and the beginning of a name
const ICONS: Record<Along["kind"], IconName> = {
  variable: "variable",
  cell: "cell",
  file: "file",
  resource: "file",
};
let lists = 0;

interface Choice {
  one: Along;
  about: string;
}

const characters = (size: number) => (size < 1000 ? `${size} characters` : `${(size / 1000).toFixed(1)} k`);

export class Mentions {
  readonly chips = h("div", { class: "ic-chips", hidden: true });
  readonly list: HTMLElement;
  along: Along[] = [];
  private readonly id = `ic-mentions-${++lists}`;
  private choices: Choice[] = [];
  private active = 0;
  private asked = false;

  constructor(
    private readonly store: Store,
    private readonly area: HTMLTextAreaElement,
    private readonly changed: () => void,
  ) {
    this.list = h("div", {
      id: this.id,
      role: "listbox",
      class: "ic-popup ic-mentions",
      "aria-label": "What goes along",
      hidden: true,
      onmousedown: (event: MouseEvent) => event.preventDefault(),
    });
    area.setAttribute("aria-controls", this.id);
    area.setAttribute("aria-autocomplete", "list");
  }
  private get opened() {
    return !this.list.hidden;
  }
  /** What was typed, or what the kernel knows, has changed. */
  update() {
    this.draw();
    const typed = this.typed;
    if (typed === null || document.activeElement !== this.area) return this.close();
    if (!this.asked) {
      this.asked = true; // values come and go: the kernel is asked anew for each @
      this.store.act("names");
    }
    const { files, host, names, resources } = this.store;
    const choices: Choice[] = [
      ...(names ?? []).map(({ name, about }) => ({ one: { kind: "variable" as const, name }, about })),
      ...(host.cells?.() ?? []).map((one) => ({ one, about: "cell" })),
      ...files.map((name) => ({ one: { kind: "file" as const, name }, about: "file" })),
      ...resources.map(({ name, about }) => ({ one: { kind: "resource" as const, name }, about })),
    ];
    this.choices = choices
      .filter(({ one }) => !typed || hasAll(`${one.name} ${one.kind}`, typed))
      .slice(0, SHOWN);
    this.active = Math.min(this.active, Math.max(this.choices.length - 1, 0));
    this.list.hidden = false;
    const note = names ? "Nothing of the notebook has this name." : "Asking the kernel …";
    this.list.replaceChildren(
      ...this.choices.map(({ one, about }, index) =>
        h(
          "div",
          {
            role: "option",
            id: `${this.id}-${index}`,
            class: `ic-option ic-mention${index === this.active ? " ic-active" : ""}`,
            "aria-selected": String(index === this.active),
            onclick: () => this.choose(one),
          },
          icon(ICONS[one.kind]),
          h("span", { text: one.name }),
          h("small", { text: about }),
        ),
      ),
      ...(this.choices.length
        ? []
        : [h("div", { role: "option", "aria-disabled": "true", class: "ic-group", text: note })]),
    );
    const active = this.list.querySelector(".ic-active");
    active?.scrollIntoView({ block: "nearest" });
    if (active) this.area.setAttribute("aria-activedescendant", active.id);
    else this.area.removeAttribute("aria-activedescendant");
  }
  close() {
    this.list.hidden = true;
    this.asked = false;
    this.active = 0;
    this.area.removeAttribute("aria-activedescendant");
  }
  /** Takes a key, where the list is open. */
  key(event: KeyboardEvent): boolean {
    if (!this.opened) return false;
    const one = this.choices[this.active]?.one;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.choices.length) {
      this.active = (this.active + step + this.choices.length) % this.choices.length;
      this.update();
    } else if (one && (event.key === "Enter" || event.key === "Tab")) this.choose(one);
    else if (event.key === "Escape") this.close();
    else return false;
    event.stopPropagation();
    return true;
  }
  /** What is typed behind the @ at the cursor; null where there is none. */
  private get typed() {
    const { value, selectionStart, selectionEnd } = this.area;
    if (selectionStart !== selectionEnd) return null;
    return BEHIND.exec(value.slice(0, selectionStart))?.[2] ?? null;
  }
  private choose(one: Along) {
    const { value, selectionStart } = this.area;
    const begin = selectionStart - (this.typed ?? "").length;
    const isNamed = one.kind === "variable" || one.kind === "resource"; // by its name alone
    const written = `${isNamed ? "" : `${one.kind}:`}${one.name} `;
    this.area.value = value.slice(0, begin) + written + value.slice(selectionStart).trimStart();
    this.area.setSelectionRange(begin + written.length, begin + written.length);
    this.close();
    this.add(one);
  }
  add(one: Along) {
    if (!this.along.some((other) => keyOf(other) === keyOf(one))) {
      this.along = [...this.along, one];
      this.store.act("weigh", { along: one });
    }
    this.draw();
    this.changed();
  }
  set(along: Along[]) {
    this.along = along;
    this.draw();
  }
  private draw() {
    this.chips.hidden = !this.along.length;
    this.chips.replaceChildren(
      ...this.along.map((one) => {
        const size = this.store.sizes.get(keyOf(one));
        const remove = iconButton("close", `Leave ${one.name} out`, () => {
          this.set(this.along.filter((other) => other !== one));
          this.changed();
          this.area.focus();
        });
        return h(
          "span",
          { class: "ic-chip", title: `${one.name} goes along` },
          icon(ICONS[one.kind]),
          h("span", { text: one.name }),
          size !== undefined && h("small", { text: characters(size) }),
          remove,
        );
      }),
    );
  }
}
