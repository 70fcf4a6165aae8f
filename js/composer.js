/** The prompt: text, files, Send and Stop. */
import { fileChip } from "./turn.js";
import { composing, fit, h, icon, iconButton } from "./dom.js";

const LARGEST = 8 * 1024 * 1024; // bytes in one message; servers refuse longer ones

const size = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

export class Composer {
  constructor(store, sent) {
    Object.assign(this, { store, sent, files: [], recalled: -1 });
    this.area = h("textarea", {
      class: "ic-prompt", rows: "1", placeholder: "Ask anything", "aria-label": "Prompt",
      oninput: () => {
        this.recalled = -1;
        this.update();
      },
      onkeydown: (event) => this.key(event),
      onpaste: (event) => this.paste(event),
    });
    this.chips = h("div", { class: "ic-chips", hidden: true });
    this.chooser = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files", onchange: () => this.choose() });
    this.button = h("button", { type: "button", class: "ic-send", onclick: () => (store.busy ? store.act("stop") : this.send()) });
    this.hint = h("span", { class: "ic-hint", "aria-hidden": "true" });
    this.el = h("div", { class: "ic-composer", onclick: (event) => event.target === this.el && this.focus() },
      this.chips, this.area,
      h("div", { class: "ic-row" }, iconButton("attach", "Add files or images", () => this.chooser.click()), this.chooser, this.hint, this.button));
    this.update();
  }
  focus() {
    this.area.focus({ preventScroll: true });
  }
  update() {
    const { busy } = this.store;
    const label = busy ? "Stop" : "Send";
    if (this.button.title !== label) {
      this.button.replaceChildren(icon(label.toLowerCase()));
      this.button.title = label;
      this.button.setAttribute("aria-label", label);
    }
    this.button.setAttribute("aria-disabled", String(!busy && !this.ready));
    this.hint.textContent = [this.ready && (busy ? "Enter sends when this answer ends" : "Enter sends, Shift+Enter breaks the line"), busy && "Esc stops"].filter(Boolean).join(" · ");
    fit(this.area);
  }
  get ready() {
    return !!this.area.value.trim() || this.files.length > 0;
  }
  async send() {
    if (!this.ready) return;
    const [text, files] = [this.area.value.trim(), this.files];
    if (new Blob([text]).size > LARGEST) return this.store.fail(`A question has at most ${size(LARGEST)}: send the rest as a file.`);
    this.fill("", []);
    try {
      const contents = await Promise.all(files.map((file) => file.arrayBuffer()));
      this.store.ask({ text, files, buffers: contents.map((bytes) => new Uint8Array(bytes)) });
    } catch (error) {
      this.fill(text, []);
      this.store.fail(`A file could not be read: ${error.message}`);
    }
    this.sent();
  }
  fill(text, files = this.files) {
    this.area.value = text;
    this.files = files;
    this.recalled = -1;
    this.drawFiles();
    this.update();
  }
  /** A question that was not taken, or is taken back, is there again, before what was begun. */
  restore({ text, files }) {
    this.fill([text, this.area.value].filter(Boolean).join("\n\n"), [...files, ...this.files]);
  }
  key(event) {
    if (composing(event)) return;
    if (event.key === "Enter" && !event.shiftKey) this.send();
    else if (!(event.key === "ArrowUp" && this.recall(1)) && !(event.key === "ArrowDown" && this.recall(-1))) return;
    event.preventDefault();
  }
  /** Earlier questions: from an empty prompt, then on from one that was recalled and not changed. */
  recall(step) {
    if (this.recalled < 0 && (this.area.value || step < 0)) return false;
    const questions = [...new Set(this.store.order.map((id) => this.store.turns.get(id)?.question).filter(Boolean).reverse())];
    const next = Math.min(this.recalled + step, questions.length - 1);
    this.fill(questions[next] ?? "");
    this.recalled = next;
    return true;
  }
  choose() {
    this.add(this.chooser.files);
    this.chooser.value = "";
    this.focus();
  }
  paste(event) {
    const { clipboardData: data } = event;
    if (!data.files.length || data.types.includes("text/plain")) return; // a spreadsheet puts a picture beside its text
    event.preventDefault();
    this.add(data.files);
  }
  add(files) {
    const all = [...this.files, ...files];
    const bytes = all.reduce((sum, file) => sum + file.size, 0);
    if (bytes > LARGEST) return this.store.fail(`These files are ${size(bytes)} together; ${size(LARGEST)} fit into one question.`);
    this.files = all;
    this.drawFiles();
    this.update();
  }
  drawFiles() {
    this.chips.hidden = !this.files.length;
    this.chips.replaceChildren(...this.files.map((file) =>
      fileChip(file.name, size(file.size), iconButton("close", `Remove ${file.name}`, () => {
        this.fill(this.area.value, this.files.filter((other) => other !== file));
        this.focus();
      }))));
  }
}
