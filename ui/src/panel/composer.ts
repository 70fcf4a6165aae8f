/** The prompt: text, files, Send and Stop. */
import { composing, fit, h, icon, iconButton } from "../dom";
import type { Along } from "./host";
import { Mentions } from "./mentions";
import type { Question, Store } from "./store";
import { fileChip } from "./turn";

const LARGEST = 8 * 1024 * 1024; // bytes in one message; servers refuse longer ones

const size = (bytes: number) =>
  bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

export class Composer {
  readonly el: HTMLElement;
  private readonly area: HTMLTextAreaElement;
  private readonly chips = h("div", { class: "ic-chips", hidden: true });
  private readonly chooser: HTMLInputElement;
  private readonly button: HTMLButtonElement;
  private readonly hint = h("span", { class: "ic-hint", "aria-hidden": "true" });
  readonly mentions: Mentions;
  private files: File[] = [];
  private recalled = -1;

  constructor(
    private readonly store: Store,
    private readonly sent: () => void,
  ) {
    this.area = h("textarea", {
      class: "ic-prompt",
      rows: 1,
      placeholder: "Ask anything; @ for values",
      "aria-label": "Prompt",
      oninput: () => {
        this.recalled = -1;
        this.update();
        this.mentions.update();
      },
      onblur: () => this.mentions.close(),
      onkeydown: (event: KeyboardEvent) => this.key(event),
      onpaste: (event: ClipboardEvent) => this.paste(event),
    });
    this.mentions = new Mentions(store, this.area, () => this.update());
    this.chooser = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      "aria-label": "Files",
      onchange: () => this.choose(),
    });
    this.button = h("button", {
      type: "button",
      class: "ic-send",
      onclick: () => (store.busy ? store.act("stop") : this.send()),
    });
    const attach = iconButton("attach", "Add files or images", () => this.chooser.click());
    this.el = h(
      "div",
      { class: "ic-composer", onclick: (event: MouseEvent) => event.target === this.el && this.focus() },
      this.mentions.list,
      this.mentions.chips,
      this.chips,
      this.area,
      h("div", { class: "ic-row" }, attach, this.chooser, this.hint, this.button),
    );
    this.update();
  }
  focus() {
    this.area.focus({ preventScroll: true });
  }
  update() {
    const { busy } = this.store;
    const label = busy ? "Stop" : "Send";
    if (this.button.title !== label) {
      this.button.replaceChildren(icon(busy ? "stop" : "send"));
      this.button.title = label;
      this.button.setAttribute("aria-label", label);
    }
    this.button.setAttribute("aria-disabled", String(!busy && !this.ready));
    const values = this.area.value.includes("{{") && "Values go along by @name here";
    const hints = [
      values,
      !values &&
        this.ready &&
        (busy ? "Enter sends when this answer ends" : "Enter sends, Shift+Enter breaks the line"),
      busy && "Esc stops",
    ];
    this.hint.textContent = hints.filter(Boolean).join(" · ");
    fit(this.area);
  }
  private get ready() {
    return !!this.area.value.trim() || this.files.length > 0 || this.mentions.along.length > 0;
  }
  private async send() {
    if (!this.ready) return;
    const [text, files, along] = [this.area.value.trim(), this.files, this.mentions.along];
    if (new Blob([text]).size > LARGEST)
      return this.store.fail(`A question has at most ${size(LARGEST)}: send the rest as a file.`);
    this.fill("", [], []);
    try {
      const contents = await Promise.all(files.map((file) => file.arrayBuffer()));
      this.store.ask({ text, files, buffers: contents.map((bytes) => new Uint8Array(bytes)), along });
    } catch (error) {
      this.fill(text, [], along);
      this.store.fail(`A file could not be read: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.sent();
  }
  private fill(text: string, files = this.files, along = this.mentions.along) {
    this.area.value = text;
    this.files = files;
    this.mentions.set(along);
    this.recalled = -1;
    this.drawFiles();
    this.update();
  }
  /** A question that was not taken, or is taken back, is there again, before what was begun. */
  restore({ text, files, along }: Question) {
    const written = [text, this.area.value].filter(Boolean).join("\n\n");
    this.fill(written, [...files, ...this.files], [...along, ...this.mentions.along]);
  }
  /** Begins a question for the user, or asks it. */
  begin(text: string, along: Along[], sends: boolean) {
    if (text) this.fill(text);
    for (const one of along) this.mentions.add(one);
    if (sends) void this.send();
    else this.focus();
  }
  private key(event: KeyboardEvent) {
    if (composing(event)) return;
    if (this.mentions.key(event)) return event.preventDefault();
    if (event.key === "Enter" && !event.shiftKey) void this.send();
    else if (!(event.key === "ArrowUp" && this.recall(1)) && !(event.key === "ArrowDown" && this.recall(-1)))
      return;
    event.preventDefault();
  }
  /** Earlier questions: from an empty prompt, then on from one that was recalled and not changed. */
  private recall(step: number) {
    if (this.recalled < 0 && (this.area.value || step < 0)) return false;
    const asked = this.store.order.map((id) => this.store.turns.get(id)?.question).filter((text) => !!text);
    const questions = [...new Set(asked.reverse())];
    const next = Math.min(this.recalled + step, questions.length - 1);
    this.fill(questions[next] ?? "");
    this.recalled = next;
    return true;
  }
  private choose() {
    this.add(this.chooser.files ?? []);
    this.chooser.value = "";
    this.focus();
  }
  private paste(event: ClipboardEvent) {
    const data = event.clipboardData;
    if (!data?.files.length || data.types.includes("text/plain")) return; // a spreadsheet puts a picture beside its text
    event.preventDefault();
    this.add(data.files);
  }
  add(files: Iterable<File>) {
    const all = [...this.files, ...files];
    const bytes = all.reduce((sum, file) => sum + file.size, 0);
    if (bytes > LARGEST)
      return this.store.fail(
        `These files are ${size(bytes)} together; ${size(LARGEST)} fit into one question.`,
      );
    this.files = all;
    this.drawFiles();
    this.update();
  }
  private drawFiles() {
    this.chips.hidden = !this.files.length;
    this.chips.replaceChildren(
      ...this.files.map((file) => {
        const remove = iconButton("close", `Remove ${file.name}`, () => {
          this.fill(
            this.area.value,
            this.files.filter((other) => other !== file),
          );
          this.focus();
        });
        return fileChip(file.name, size(file.size), remove);
      }),
    );
  }
}
