/** The bar on top: which conversation, what can be done with it, its system prompt and parameters. */
import { composing, h, icon, iconButton } from "../dom";
import type { Found } from "./host";
import type { Store } from "./store";

const PAUSE = 150; // milliseconds without a key before it is searched
const OPTIONS = [
  { name: "temperature", label: "Temperature", limits: { min: 0, max: 2, step: "any" } },
  { name: "max_tokens", label: "Max tokens", limits: { min: 1, step: 1 } },
];

const EFFORTS = ["none", "low", "medium", "high", "max"];
const UNSET = "the model's own";

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
  private readonly results = h("div", { class: "ic-results", role: "list", "aria-label": "Turns found" });
  private readonly looked = h("input", {
    class: "ic-field",
    type: "search",
    placeholder: "Words of a question or an answer",
    "aria-label": "Search all conversations",
    oninput: () => this.look(),
  });
  private readonly finder = h(
    "div",
    {
      class: "ic-popup ic-finder",
      role: "search",
      hidden: true,
      onkeydown: (event: KeyboardEvent) => this.keyOfFinder(event),
    },
    this.looked,
    this.results,
  );
  private waiting: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly store: Store,
    private readonly done: () => void,
    private readonly find: (turn: string) => void,
  ) {
    this.select = h("select", {
      onfocus: () => store.act("titles"),
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
      this.item("Title …", () => this.ask("title", "Title")),
      this.item("Search …", () => this.search()),
      this.item("Export as a page", () => store.act("export", { form: "html" })),
      this.item("Export as Markdown", () => store.act("export", { form: "md" })),
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
      this.finder,
    );
    this.update();
  }
  update() {
    const { chat, chats, title } = this.store.info;
    const names = chats.includes(chat) ? chats : [...chats, chat];
    const titles: Record<string, string> = { ...this.store.titles, [chat]: title };
    const called = (name: string) => (titles[name] ? `${name} · ${titles[name]}` : name);
    this.select.replaceChildren(
      ...names.map((name) => h("option", { value: name, text: called(name), selected: name === chat })),
    );
    this.select.title = called(chat);
  }

  // -- searching

  private search() {
    this.finder.hidden = false;
    this.looked.focus();
    this.looked.select();
  }
  private look() {
    clearTimeout(this.waiting);
    const words = this.looked.value.trim();
    if (!words) return this.results.replaceChildren();
    this.waiting = setTimeout(() => this.store.act("search", { words }), PAUSE);
  }
  /** Lists the turns that were found. */
  show(words: string, turns: Found[]) {
    if (words !== this.looked.value.trim()) return; // typing went on
    const open = ({ chat, turn }: Found) => {
      this.toggle(false);
      if (chat !== this.store.info.chat) this.store.act("chat", { name: chat });
      this.find(turn);
    };
    this.results.replaceChildren(
      ...turns.map((one) =>
        h(
          "div",
          { role: "listitem" },
          h(
            "button",
            { type: "button", onclick: () => open(one) },
            h("span", { text: one.excerpt }),
            h("small", { text: `${one.chat} · ${new Date(one.at).toLocaleDateString()}` }),
          ),
        ),
      ),
      ...(turns.length ? [] : [h("small", { text: "No turn has these words.", role: "status" })]),
    );
  }
  private keyOfFinder(event: KeyboardEvent) {
    const places = [this.looked, ...this.results.querySelectorAll("button")];
    const at = places.indexOf(document.activeElement as HTMLButtonElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) places[(at + step + places.length) % places.length]?.focus();
    else if (event.key === "Enter" && at === 0) (places[1] as HTMLElement | undefined)?.click();
    else if (event.key === "Escape") {
      this.toggle(false);
      this.button.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
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
    this.finder.hidden = true;
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
    const { chat, chats, title } = this.store.info;
    const begins = { rename: chat, title }[kind] ?? another(chat, chats);
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
      value: begins,
      onblur: close,
      onkeydown: (event: KeyboardEvent) => {
        if (composing(event) || !["Enter", "Escape"].includes(event.key)) return;
        event.preventDefault();
        event.stopPropagation();
        const name = input.value.trim();
        close();
        this.done();
        if (event.key !== "Enter") return;
        if (kind === "title") this.store.act(kind, { text: name });
        else if (name) this.store.act(kind, { name });
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
  private readonly effort: HTMLSelectElement;
  /** Fields that were edited, and whose values are not sent yet. */
  private readonly edited = new Set<EventTarget | null>();

  constructor(private readonly store: Store) {
    const oninput = ({ target }: Event) => this.edited.add(target);
    this.system = h("textarea", {
      class: "ic-field",
      rows: 4,
      placeholder: "How the model should answer",
      oninput,
      onchange: () => {
        this.edited.delete(this.system);
        store.act("system", { text: this.system.value });
      },
    });
    const onchange = () => this.send();
    this.numbers = OPTIONS.map(({ name, label, limits }) => ({
      name,
      label,
      input: h("input", {
        class: "ic-field",
        type: "number",
        placeholder: UNSET,
        ...limits,
        oninput,
        onchange,
      }),
    }));
    this.effort = h(
      "select",
      { class: "ic-field", onchange },
      h("option", { value: "", text: UNSET }),
      ...EFFORTS.map((level) => h("option", { value: level, text: level })),
    );
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
        h("label", {}, "Effort", this.effort),
      ),
    );
    this.update();
  }
  private send() {
    for (const { input } of this.numbers) this.edited.delete(input);
    const set = this.numbers.filter(({ input }) => input.value !== "" && input.validity.valid);
    const options: Record<string, number | string> = Object.fromEntries(
      set.map(({ name, input }) => [name, input.valueAsNumber]),
    );
    if (this.effort.value) options.effort = this.effort.value;
    this.store.act("options", { options });
  }
  update() {
    const { system, options } = this.store.info;
    const fields: [HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement, string][] = [
      [this.system, system ?? ""],
      [this.effort, String(options.effort ?? "")],
      ...this.numbers.map(({ name, input }): [HTMLInputElement, string] => [
        input,
        String(options[name] ?? ""),
      ]),
    ];
    for (const [field, value] of fields)
      if (field !== document.activeElement && !this.edited.has(field)) field.value = value;
    this.el.toggleAttribute(
      "data-set",
      fields.some(([, value]) => value !== ""),
    );
  }
}
