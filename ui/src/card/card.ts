/** A call that waits for the user's decision: what would run, and the ways to decide. */
import { boxed, languageOf, verbatim } from "../answer/step";
import { useCode } from "../answer/use";
import { composing, fit, h, passSaving } from "../dom";
import type { Card, Decided } from "./cards";

const GRACE = 600; // milliseconds in which a key was meant for what had the focus before
const EDITABLE = "input, textarea, select, [contenteditable]:not([contenteditable='false'])";

export const titleOf = ({ tool }: Card) => `The model wants to run ${tool}`;

/** Whether the focus may go to something new in `around`: not while anything is typed into, or open. */
export function isFree(around: Element): boolean {
  const active = document.activeElement;
  if (!active || active === document.body) return true;
  return around.contains(active) && !active.closest(`${EDITABLE}, button, dialog, [role='dialog'], .ic-card`);
}

const alwaysOf = ({ tool }: Card) =>
  tool === "kernel.run"
    ? "Run it, and ask no more until the kernel ends"
    : "Run it, and ask no more about this tool in this notebook";

export class CardView {
  readonly el: HTMLElement;
  private readonly shown = h("div", { class: "ic-shown" });
  private readonly ways = h("div", { class: "ic-ways" });
  private readonly error = h("div", { class: "ic-error", role: "alert", hidden: true });
  private readonly said = h("div", { class: "ic-status", role: "status" });
  private focused = -Infinity;

  constructor(
    private readonly card: Card,
    private readonly decide: (decided: Decided) => Promise<string>,
    private readonly leave: () => void = () => undefined,
  ) {
    this.el = h(
      "div",
      {
        class: "ic-card",
        role: "group",
        tabindex: -1,
        "data-card": card.id,
        "aria-label": titleOf(card),
        "data-lm-suppress-shortcuts": "true", // JupyterLab's shortcuts stay out
        onkeydown: (event: KeyboardEvent) => this.key(event),
        onclick: (event: MouseEvent) => this.useCode(event),
      },
      h("div", { class: "ic-title" }, "The model wants to run ", h("code", { text: card.tool })),
      h("div", { class: "ic-notice" }, card.about && `${card.about} · `, `It runs in ${card.where}.`),
      this.shown,
      this.error,
      this.ways,
      this.said,
    );
    this.offer();
  }

  /** Takes the focus, without a key that is on its way to what has it now. */
  focus() {
    this.focused = performance.now();
    this.el.focus({ preventScroll: true });
  }

  /** Has the focus, as the user wants it. */
  enter() {
    this.focused = -Infinity;
    this.el.scrollIntoView({ block: "nearest" });
    this.el.focus({ preventScroll: true });
  }

  // -- what is shown

  private offer() {
    const { card } = this;
    const button = (text: string, key: string, title: string, onclick: () => void, primary = false) =>
      h(
        "button",
        {
          ...{ type: "button", class: primary ? "ic-button ic-primary" : "ic-button", title },
          ...{ "aria-keyshortcuts": key, onclick },
        },
        text,
        h("kbd", { "aria-hidden": "true", text: key }),
      );
    const code = card.code && boxed(card.code, languageOf(card.tool));
    if (code) code.querySelector("[data-code='insert']")?.remove();
    this.shown.replaceChildren(
      ...[code, card.arguments && verbatim("arguments", card.arguments)].filter((one) => !!one),
    );
    this.ways.replaceChildren(
      button("Once", "y", "Run it this time", () => this.make({ decision: "once" }), true),
      button("Always", "a", alwaysOf(card), () => this.make({ decision: "always" })),
      button("Edit", "e", "Change what runs", () => this.edit()),
      button("Refuse", "n", "Don't run it, and tell the model", () => this.refuse()),
    );
  }

  private edit() {
    const { card } = this;
    const area = (label: string, value: string): HTMLTextAreaElement =>
      h("textarea", {
        ...{ class: "ic-field", rows: 1, spellcheck: "false", "aria-label": label, value },
        oninput: (event: Event) => fit(event.target as HTMLTextAreaElement),
        onkeydown: (event: KeyboardEvent) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run();
        },
      });
    const code = card.code ? area("Code", card.code) : null;
    const rest = area("Arguments, as JSON", card.arguments || "{}");
    const run = () =>
      this.make({
        decision: "edited",
        arguments: { arguments: rest.value, ...(code && { code: code.value }) },
      });
    // without others, an empty object is no help
    const areas = [code, code && !card.arguments ? null : rest].filter((one) => one !== null);
    this.shown.replaceChildren(...areas);
    this.ways.replaceChildren(...this.pair("Run", "Run this instead (Ctrl+Enter)", run));
    areas.forEach(fit);
    areas[0]?.focus();
  }

  private refuse() {
    const field = h("input", {
      ...{ class: "ic-field", type: "text", placeholder: "because …", "aria-label": "Reason" },
      onkeydown: (event: KeyboardEvent) => {
        if (event.key === "Enter" && !composing(event)) refuse();
      },
    });
    const refuse = () => this.make({ decision: "refused", reason: field.value });
    this.ways.replaceChildren(field, ...this.pair("Refuse", "Don't run it (Enter)", refuse));
    field.focus();
  }

  private pair(name: string, hint: string, act: () => void) {
    return [
      h("button", { type: "button", class: "ic-button ic-primary", text: name, title: hint, onclick: act }),
      h("button", { type: "button", class: "ic-button", text: "Cancel", onclick: () => this.cancel() }),
    ];
  }

  private cancel() {
    this.fail("");
    this.offer();
    this.el.focus({ preventScroll: true });
  }

  private fail(error: string) {
    this.error.textContent = error;
    this.error.hidden = !error;
  }

  // -- deciding

  private make(decided: Decided) {
    if (!this.el.hasAttribute("aria-busy")) void this.tell(decided);
  }

  private async tell(decided: Decided) {
    this.fail("");
    this.busy(true);
    const error = await this.decide(decided);
    if (!error) return; // it goes when the kernel says so
    const had = this.el.contains(document.activeElement) || document.activeElement === document.body;
    this.busy(false);
    this.fail(error);
    if (had) (this.el.querySelector<HTMLElement>(".ic-field") ?? this.el).focus();
  }

  private busy(on: boolean) {
    // the card keeps the focus, which a disabled button loses
    if (on && this.el.contains(document.activeElement)) this.el.focus({ preventScroll: true });
    if (on) this.el.setAttribute("aria-busy", "true");
    else this.el.removeAttribute("aria-busy");
    for (const one of this.el.querySelectorAll<HTMLButtonElement>(".ic-ways button, .ic-field"))
      one.disabled = on;
    this.said.textContent = on ? "Decided." : "";
  }

  private key(event: KeyboardEvent) {
    if (event.key === "Escape" && !composing(event)) return this.escape(event);
    if (passSaving(event, this.el)) return;
    event.stopPropagation(); // or it would be the notebook's
    if ((event.target as Element).matches(EDITABLE) || event.repeat) return;
    if (event.ctrlKey || event.metaKey || event.altKey || this.el.hasAttribute("aria-busy")) return;
    const way = this.ways.querySelector<HTMLElement>(`[aria-keyshortcuts="${CSS.escape(event.key)}"]`);
    if (!way) return;
    event.preventDefault();
    if (performance.now() - this.focused > GRACE) way.click();
  }

  private escape(event: KeyboardEvent) {
    event.preventDefault();
    event.stopPropagation();
    if (this.ways.querySelector("[aria-keyshortcuts]")) this.leave();
    else this.cancel();
  }

  private useCode(event: MouseEvent) {
    event.stopPropagation();
    const say = (text: string) => (this.said.textContent = text);
    void useCode(event, { insert: () => false, say });
  }
}
