/** The chat panel: one store for a widget, a view of it wherever the widget is shown. */
import { canInsert, copy, harmless, insertCell } from "./cells.js";
import { Composer } from "./composer.js";
import { confirm, h, icon, iconButton } from "./dom.js";
import { Chats, Settings } from "./header.js";
import { Picker } from "./picker.js";
import { Store } from "./store.js";
import { bubble, TurnView } from "./turn.js";

const BUDGET = 8; // milliseconds of a frame for drawing
const SHELLS = ["bash", "sh", "shell", "zsh"]; // a cell runs these behind %%bash
const AT_END = 40; // pixels from the end that still count as the end
const WAITS = "Waiting for the kernel: it is running something. Interrupt it to stop that.";

class View {
  constructor(store, model, el) {
    Object.assign(this, { store, model, el, turns: new Map(), dirty: new Set(), pinned: true, frame: 0 });
    this.picker = new Picker(store, () => this.composer.focus());
    this.chats = new Chats(store, () => this.composer.focus());
    this.settings = new Settings(store);
    this.composer = new Composer(store, () => this.toEnd());
    this.list = h("div", { class: "ic-turns" });
    this.queue = h("div", { class: "ic-queue" });
    this.empty = h("div", { class: "ic-empty" }, h("strong", { text: "What shall we look at?" }), h("span", { text: "This panel and the %%chat cells share one conversation." }));
    this.log = h("div", { class: "ic-log", role: "log", tabindex: "0", "aria-label": "Messages", onscroll: () => this.scrolled(), onclick: (event) => this.useCode(event) },
      h("div", { class: "ic-column" }, this.empty, this.list, this.queue));
    this.jump = h("button", { type: "button", class: "ic-jump", "aria-label": "Jump to newest", title: "Jump to newest", hidden: true, onclick: () => this.toEnd() }, icon("down"));
    this.error = h("span", {});
    this.alert = h("div", { class: "ic-alert", role: "alert", hidden: true }, this.error, iconButton("close", "Dismiss", () => store.fail("")));
    this.status = h("div", { class: "ic-status", role: "status" });
    this.said = "";
    el.classList.add("ic-panel");
    el.dataset.lmSuppressShortcuts = "true"; // JupyterLab's shortcuts stay out
    el.append(
      h("div", { class: "ic-header" }, this.chats.el, this.settings.el, this.picker.el),
      h("div", { class: "ic-middle" }, this.log, this.jump),
      h("div", { class: "ic-bottom" }, this.status, this.alert, this.composer.el));
    const listeners = {
      keydown: (event) => this.key(event), keyup: (event) => event.stopPropagation(), keypress: (event) => event.stopPropagation(),
      dragover: (event) => this.drag(event, true), dragleave: (event) => this.drag(event, el.contains(event.relatedTarget)), drop: (event) => this.drop(event),
    };
    for (const [name, listener] of Object.entries(listeners)) el.addEventListener(name, listener);
    this.sizes = new ResizeObserver(() => this.follow());
    this.sizes.observe(this.log);
    this.changed = {
      all: () => this.reset(), order: () => this.order(), turn: (id) => this.head(id), text: (id) => this.grew(id), actions: () => this.waiting(),
      info: () => this.about(), models: () => this.picker.update(), error: () => this.failed(), refused: (question) => this.composer.restore(question),
    };
    this.listener = (what, detail) => this.changed[what](detail);
    store.views.add(this.listener);
    this.order();
    this.waiting();
    this.failed();
  }
  close() {
    this.store.views.delete(this.listener);
    this.sizes.disconnect();
    cancelAnimationFrame(this.frame);
  }

  // -- what the store tells

  reset() {
    this.turns.clear();
    this.dirty.clear();
    this.list.replaceChildren();
    this.pinned = true;
  }
  about() {
    this.chats.update();
    this.settings.update();
    this.picker.update();
    this.waiting();
  }
  order() {
    const { order, turns } = this.store;
    const present = order.filter((id) => turns.has(id));
    for (const [id, view] of this.turns) {
      if (present.includes(id)) continue;
      view.el.remove();
      this.turns.delete(id);
      this.dirty.delete(view);
    }
    // the newest turn, once it isn't any more, may be out of sight and not laid out: it stays as high as it was
    const newest = this.list.lastElementChild;
    if (newest?.offsetHeight) newest.style.containIntrinsicBlockSize = `auto ${newest.offsetHeight}px`;
    present.forEach((id, index) => {
      const { el } = this.view(id);
      if (this.list.children[index] !== el) this.list.insertBefore(el, this.list.children[index] ?? null);
    });
    this.about();
  }
  view(id) {
    let view = this.turns.get(id);
    if (!view) {
      this.turns.set(id, (view = new TurnView(this.store, id)));
      this.touch(view);
    }
    return view;
  }
  head(id) {
    const view = this.turns.get(id);
    if (!view) return;
    view.head();
    this.touch(view);
  }
  grew(id) {
    if (this.turns.has(id)) this.touch(this.turns.get(id));
  }
  /** What the kernel has not taken yet. */
  waiting() {
    const { store } = this;
    const late = [...store.actions.values()].filter((action) => action.late);
    const stop = late.some((action) => action.kind === "stop");
    const queued = (question, ...notes) => h("div", { class: "ic-turn ic-waiting" }, bubble(question.text, question.files.map((file) => file.name)), ...notes);
    const note = (text, ...more) => h("div", { class: "ic-notice" }, text, ...more);
    const takeBack = (question) => h("button", { type: "button", class: "ic-link", text: "Take it back", onclick: () => {
      store.held.splice(store.held.indexOf(question), 1);
      this.composer.restore(question);
      this.waiting();
    } });
    this.queue.replaceChildren(
      ...store.questions.map((question) => queued(question, question.late && note(WAITS))),
      ...store.held.map((question) => queued(question, note(question.chat === store.info.chat ? "Sent when this answer ends. " : `Waits for ${question.chat}. `, takeBack(question)))),
      ...(stop ? [h("div", { class: "ic-waiting" }, note(`Stop: ${WAITS}`))] : []));
    this.status.textContent = !stop && late.some((action) => action.kind !== "ask") ? WAITS : this.said;
    this.empty.hidden = this.list.childElementCount > 0 || store.questions.length > 0;
    this.log.setAttribute("aria-busy", String(store.busy));
    this.composer.update();
    this.follow();
  }
  failed() {
    this.error.textContent = this.store.error;
    this.alert.hidden = !this.store.error;
  }

  // -- drawing, once a frame

  touch(view) {
    this.dirty.add(view);
    this.schedule();
  }
  schedule() {
    if (this.frame) return;
    const wait = Math.min(...[...this.dirty].map(({ due }) => due)) - performance.now();
    this.frame = wait > 4 ? -setTimeout(() => { this.frame = requestAnimationFrame(() => this.draw()); }, wait) : requestAnimationFrame(() => this.draw());
  }
  /** What is read is what comes last. */
  newestFirst() {
    const views = [...this.dirty];
    if (views.length < 2) return views;
    const place = new Map(this.store.order.map((id, index) => [id, index]));
    return views.sort((one, other) => place.get(other.id) - place.get(one.id));
  }
  draw() {
    this.frame = 0;
    const began = performance.now();
    for (const view of this.newestFirst()) {
      const start = performance.now();
      if (start - began > BUDGET) break;
      if (view.due > start) continue;
      if (view.draw(began + BUDGET)) this.dirty.delete(view);
      const took = performance.now() - start;
      view.due = took > BUDGET + 4 ? start + Math.min(8 * took, 400) : 0; // a costly block is drawn more rarely
    }
    this.follow();
    if (this.dirty.size) this.schedule();
  }

  // -- the end in sight

  scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const left = scrollHeight - scrollTop - clientHeight;
    // a little upwards is enough to stay there; at the end it follows again
    if (left <= 1) this.pinned = true;
    else if (scrollTop < this.top) this.pinned = false;
    else if (left < AT_END) this.pinned = true;
    this.top = scrollTop;
    this.jump.hidden = this.pinned;
  }
  follow() {
    if (this.pinned) this.log.scrollTop = this.log.scrollHeight;
  }
  toEnd() {
    this.pinned = true;
    this.follow();
    this.jump.hidden = true;
    this.composer.focus();
  }

  // -- keys, code and files

  key(event) {
    event.stopPropagation(); // or dd would delete the notebook's cell
    if (event.key === "s" && (event.ctrlKey || event.metaKey) && this.el.parentElement) {
      event.preventDefault(); // the browser would save its page; the notebook is meant
      const { key, code, keyCode, ctrlKey, metaKey } = event;
      this.el.parentElement.dispatchEvent(new KeyboardEvent("keydown", { key, code, keyCode, ctrlKey, metaKey, bubbles: true, cancelable: true }));
      return;
    }
    if (event.key !== "Escape" || event.isComposing || !this.store.busy) return;
    event.preventDefault();
    this.store.act("stop");
  }
  /** Show what became of the last click on a code's button, until the next one. */
  say(text) {
    this.said = this.status.textContent = text;
  }
  async useCode(event) {
    const button = event.target.closest("[data-code]");
    if (!button) return;
    const block = button.closest(".ic-code");
    const written = block.querySelector("code").textContent.replace(/\n$/, "");
    const source = harmless(written);
    this.say(source === written ? "" : "The code held control characters; they were left out.");
    const shell = button.dataset.code === "insert" && SHELLS.includes(block.dataset.language) && !/^[%!]/.test(source);
    const code = shell ? `%%bash\n${source}` : source;
    if (button.dataset.code === "insert" && canInsert(this.model)) {
      insertCell(this.model, this.el, code);
      return confirm(button, "Inserted below");
    }
    const copied = await copy(code);
    confirm(button, copied ? "Copied" : "The browser forbids copying", copied ? "check" : "close");
    if (copied && button.dataset.code === "insert") this.say("No cell can be added from here, so the code was copied: paste it into a new cell.");
  }
  drag(event, over) {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    this.el.toggleAttribute("data-drop", over);
  }
  drop(event) {
    this.drag(event, false);
    if (event.dataTransfer.files.length) this.composer.add(event.dataTransfer.files);
  }
}

/** One call for each widget model, so that its views share the store. */
export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
      return () => store.close();
    },
    render({ model, el }) {
      const view = new View(store, model, el);
      return () => view.close();
    },
  };
};
