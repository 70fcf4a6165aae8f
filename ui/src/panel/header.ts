/** The bar on top: which conversation, what can be done with it, its system prompt and parameters. */
import { composing, h, icon, iconButton } from "../dom";
import type { Store } from "./store";

const OPTIONS = [
  { name: "temperature", label: "Temperature", limits: { min: 0, max: 2, step: "any" } },
  { name: "max_tokens", label: "Max tokens", limits: { min: 1, step: 1 } },
];

/** A name not taken yet: "main" → "main-2". */
function another(name: string, taken: string[]) {
  const stem = name.replace(/-\d+$/, "") || "chat";
  let count = 2;
  while (taken.includes(`${stem}-${count}`)) count++;
  return `${stem}-${count}`;
}

export class Chats {
  readonly el: HTMLElement;
  private readonly select: HTMLSelectElement;
  private readonly button: HTMLButtonElement;
  private readonly menu: HTMLElement;

  constructor(
    private readonly store: Store,
    private readonly done: () => void,
  ) {
    this.select = h("select", {
      class: "ic-field",
      "aria-label": "Conversation",
      onchange: () => store.act("chat", { name: this.select.value }),
    });
    this.button = iconButton("more", "Conversation actions", () => this.toggle(this.menu.hidden === true), {
      "aria-haspopup": "menu",
      "aria-expanded": "false",
    });
    this.menu = h(
      "div",
      {
        class: "ic-popup ic-menu",
        role: "menu",
        "aria-label": "Conversation actions",
        hidden: true,
        onkeydown: (event: KeyboardEvent) => this.key(event),
      },
      this.item("New conversation …", () => this.ask("chat", "Name of the new conversation")),
      this.item("Fork …", () => this.ask("fork", "Name of the fork")),
      this.item("Rename …", () => this.ask("rename", "New name")),
      this.item("Undo the last turn", () => store.act("undo")),
      this.item("Clear …", () => this.sure()),
    );
    this.el = h(
      "div",
      {
        class: "ic-chats",
        onfocusout: (event: FocusEvent) =>
          !this.el.contains(event.relatedTarget as Node | null) && this.toggle(false),
      },
      this.select,
      this.button,
      this.menu,
    );
    this.update();
  }
  update() {
    const { chat, chats } = this.store.info;
    const names = chats.includes(chat) ? chats : [...chats, chat];
    this.select.replaceChildren(
      ...names.map((name) => h("option", { value: name, text: name, selected: name === chat })),
    );
    this.select.title = chat;
  }
  private item(text: string, act: () => void) {
    const onclick = () => {
      this.toggle(false);
      this.button.focus();
      act();
    };
    return h("button", { type: "button", role: "menuitem", tabindex: -1, text, onclick });
  }
  /** What takes out every turn is asked twice. */
  private sure() {
    this.toggle(true);
    const turns = this.store.order.length;
    const item = this.item(`Take out ${turns === 1 ? "the turn" : `all ${turns} turns`}`, () =>
      this.store.act("new"),
    );
    const before = this.items.at(-1);
    if (!before) return;
    before.replaceWith(item);
    item.focus();
    item.addEventListener("blur", () => item.replaceWith(before), { once: true });
  }
  private get items() {
    return [...this.menu.children] as HTMLElement[];
  }
  private toggle(opened: boolean) {
    this.menu.hidden = !opened;
    this.button.setAttribute("aria-expanded", String(opened));
    if (opened) this.items[0]?.focus();
  }
  private key(event: KeyboardEvent) {
    const { items } = this;
    const at = items.indexOf(document.activeElement as HTMLElement);
    const targets: Record<string, HTMLElement | undefined> = {
      ArrowDown: items[(at + 1) % items.length],
      ArrowUp: items.at(at - 1),
      Home: items[0],
      End: items.at(-1),
      Escape: this.button,
    };
    const target = targets[event.key];
    if (!target) return;
    target.focus();
    if (event.key === "Escape") this.toggle(false);
    event.preventDefault();
    event.stopPropagation();
  }
  /** Asks for a name where the picker of conversations stands. */
  private ask(kind: string, label: string) {
    const { chat, chats } = this.store.info;
    let closed = false;
    const close = () => {
      if (closed) return; // taking the input away blurs it
      closed = true;
      input.replaceWith(this.select);
    };
    const input = h("input", {
      class: "ic-field",
      type: "text",
      "aria-label": label,
      title: label,
      spellcheck: "false",
      value: kind === "rename" ? chat : another(chat, chats),
      onblur: close,
      onkeydown: (event: KeyboardEvent) => {
        if (composing(event) || !["Enter", "Escape"].includes(event.key)) return;
        event.preventDefault();
        event.stopPropagation();
        const name = input.value.trim();
        close();
        this.done();
        if (event.key === "Enter" && name) this.store.act(kind, { name });
      },
    });
    this.select.replaceWith(input);
    input.focus();
    input.select();
  }
}

export class Settings {
  readonly el: HTMLDetailsElement;
  private readonly system: HTMLTextAreaElement;
  private readonly numbers: { name: string; label: string; input: HTMLInputElement }[];

  constructor(private readonly store: Store) {
    this.system = h("textarea", {
      class: "ic-field",
      rows: 4,
      placeholder: "How the model should answer",
      onchange: () => store.act("system", { text: this.system.value }),
    });
    const onchange = () => this.send();
    this.numbers = OPTIONS.map(({ name, label, limits }) => ({
      name,
      label,
      input: h("input", {
        class: "ic-field",
        type: "number",
        placeholder: "the model's own",
        ...limits,
        onchange,
      }),
    }));
    const words = "System prompt and parameters";
    const summary = h("summary", { class: "ic-ib", "aria-label": words, title: words }, icon("settings"));
    const close = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || !this.el.open) return;
      event.stopPropagation();
      this.el.open = false;
      summary.focus();
    };
    this.el = h(
      "details",
      { class: "ic-settings", onkeydown: close },
      summary,
      h(
        "div",
        { class: "ic-popup" },
        h("label", {}, "System prompt", this.system),
        ...this.numbers.map(({ label, input }) => h("label", {}, label, input)),
      ),
    );
    this.update();
  }
  private send() {
    const set = this.numbers.filter(({ input }) => input.value !== "" && input.validity.valid);
    const options = Object.fromEntries(set.map(({ name, input }) => [name, input.valueAsNumber]));
    this.store.act("options", { options });
  }
  update() {
    const { system, options } = this.store.info;
    const fields: [HTMLInputElement | HTMLTextAreaElement, string][] = [
      [this.system, system ?? ""],
      ...this.numbers.map(({ name, input }): [HTMLInputElement, string] => [
        input,
        String(options[name] ?? ""),
      ]),
    ];
    for (const [field, value] of fields) if (field !== document.activeElement) field.value = value;
    this.el.toggleAttribute(
      "data-set",
      fields.some(([, value]) => value !== ""),
    );
  }
}
