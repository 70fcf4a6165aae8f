/** The chat panel: a view of a store, wherever it stands. */
import { useCode } from "../answer/use";
import { Shown } from "../card/shown";
import { h, icon, iconButton, passSaving } from "../dom";
import { Composer } from "./composer";
import { Chats, Settings } from "./header";
import type { Along } from "./host";
import { Picker } from "./picker";
import type { Held, Store, Watcher } from "./store";
import { bubble, TurnView } from "./turn";

const BUDGET = 8; // milliseconds of a frame for drawing
const AT_END = 40; // pixels from the end that still count as the end
const STARTERS = [
  "What does the last cell do?",
  "What could I look at in this data?",
  "Write a test for this function",
];
const WAITS = "Waiting for the kernel: it is running something. Interrupt it to stop that.";

export class View {
  private readonly turns = new Map<string, TurnView>();
  private readonly dirty = new Set<TurnView>();
  private pinned = true;
  private top = 0;
  private frame = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private said = "";
  private looked = ""; // a turn that is to be shown, and is not there yet
  private readonly picker: Picker;
  private readonly chats: Chats;
  private readonly settings: Settings;
  private readonly composer: Composer;
  private readonly list = h("div", { class: "ic-turns" });
  private readonly queue = h("div", { class: "ic-queue" });
  private readonly waitingCards = h("div", { class: "ic-cards" });
  private readonly cards: Shown;
  private readonly empty: HTMLElement;
  private readonly log: HTMLElement;
  private readonly jump: HTMLElement;
  private readonly error = h("span");
  private readonly alert: HTMLElement;
  private readonly again: HTMLElement;
  private readonly status = h("div", { class: "ic-status", role: "status" });
  private readonly sizes = new ResizeObserver(() => this.follow());
  private readonly watcher: Watcher;

  constructor(
    private readonly store: Store,
    private readonly el: HTMLElement,
  ) {
    this.picker = new Picker(store, () => this.composer.focus());
    this.chats = new Chats(
      store,
      () => this.composer.focus(),
      (turn) => this.find(turn),
    );
    this.settings = new Settings(store);
    this.composer = new Composer(store, () => this.toEnd());
    const starter = (text: string) =>
      h("button", {
        type: "button",
        class: "ic-button",
        text,
        onclick: () => this.begin(text, [], false),
      });
    this.empty = h(
      "div",
      { class: "ic-empty" },
      h("strong", { text: "What shall we look at?" }),
      h("span", { text: "This panel and the %%chat cells share one conversation." }),
      h("div", { class: "ic-starters" }, ...STARTERS.map(starter)),
    );
    this.again = h("button", {
      type: "button",
      class: "ic-button",
      text: "Run it again",
      hidden: true,
      onclick: () => {
        if (!store.host.again(el)) store.fail("Run the panel's cell again: it can't be done from here.");
      },
    });
    this.log = h(
      "div",
      {
        class: "ic-log",
        role: "log",
        tabindex: 0,
        "aria-label": "Messages",
        onscroll: () => this.scrolled(),
        onclick: (event: MouseEvent) =>
          useCode(event, {
            insert: (source) => store.host.insertCell(source, el),
            say: (text) => this.say(text),
          }),
      },
      h("div", { class: "ic-column" }, this.empty, this.list, this.waitingCards, this.queue),
    );
    this.jump = h(
      "button",
      {
        type: "button",
        class: "ic-jump",
        "aria-label": "Jump to newest",
        title: "Jump to newest",
        hidden: true,
        onclick: () => this.toEnd(),
      },
      icon("down"),
    );
    this.alert = h(
      "div",
      { class: "ic-alert", role: "alert", hidden: true },
      this.error,
      this.again,
      iconButton("close", "Dismiss", () => store.fail("")),
    );
    el.classList.add("ic-panel");
    el.dataset.lmSuppressShortcuts = "true"; // JupyterLab's shortcuts stay out
    el.append(
      h("div", { class: "ic-header" }, this.chats.el, this.settings.el, this.picker.el),
      h("div", { class: "ic-middle" }, this.log, this.jump),
      h("div", { class: "ic-bottom" }, this.status, this.alert, this.composer.el),
    );
    el.addEventListener("keydown", (event) => this.key(event));
    el.addEventListener("keyup", (event) => event.stopPropagation());
    el.addEventListener("keypress", (event) => event.stopPropagation());
    el.addEventListener("dragover", (event) => this.drag(event, true));
    el.addEventListener("dragleave", (event) =>
      this.drag(event, el.contains(event.relatedTarget as Node | null)),
    );
    el.addEventListener("drop", (event) => this.drop(event));
    this.sizes.observe(this.log);
    this.watcher = {
      all: () => this.reset(),
      order: () => this.order(),
      turn: (id) => this.head(id),
      text: (id) => this.grew(id),
      actions: () => this.waiting(),
      info: () => this.about(),
      models: () => this.picker.update(),
      names: () => this.composer.mentions.update(),
      titles: () => this.chats.update(),
      found: (words, turns) => this.chats.show(words, turns),
      error: () => this.failed(),
      refused: (question) => this.composer.restore(question),
    };
    store.watchers.add(this.watcher);
    this.cards = new Shown(store.host.cards, {
      around: el,
      takes: (card) => store.holds(card) || !!store.host.takes?.(card),
      put: (_, card) => {
        this.waitingCards.append(card);
        this.follow();
      },
      leave: () => this.focus(),
    });
    this.order();
    this.waiting();
    this.failed();
  }
  focus() {
    this.composer.focus();
  }
  /** Begins a question for the user, or asks it. */
  begin(text: string, along: Along[], sends: boolean) {
    this.composer.begin(text, along, sends);
  }
  /** Shows the cards that wait: the panel has come into sight. */
  look() {
    this.cards.draw();
  }
  /** Goes to the card that has waited longest. */
  toCard(): boolean {
    const { first } = this.cards;
    first?.enter();
    return first !== undefined;
  }
  close() {
    this.cards.close();
    this.store.watchers.delete(this.watcher);
    this.sizes.disconnect();
    clearTimeout(this.timer);
    cancelAnimationFrame(this.frame);
  }

  // -- what the store tells

  private reset() {
    this.turns.clear();
    this.dirty.clear();
    this.list.replaceChildren();
    this.pinned = true;
  }
  private about() {
    this.chats.update();
    this.settings.update();
    this.picker.update();
    this.waiting();
  }
  private order() {
    const { order, turns } = this.store;
    const present = order.filter((id) => turns.has(id));
    for (const [id, view] of this.turns) {
      if (present.includes(id)) continue;
      view.el.remove();
      this.turns.delete(id);
      this.dirty.delete(view);
    }
    // the newest turn, once it isn't any more, may be out of sight and not laid out: it stays as high as it was
    const newest = this.list.lastElementChild as HTMLElement | null;
    if (newest?.offsetHeight) newest.style.containIntrinsicBlockSize = `auto ${newest.offsetHeight}px`;
    present.forEach((id, index) => {
      const { el } = this.view(id);
      const there = this.list.children[index];
      if (there !== el) this.list.insertBefore(el, there ?? null);
    });
    for (const view of this.turns.values()) view.offerMore();
    if (this.looked) this.find(this.looked);
    this.look();
    this.about();
  }
  private view(id: string) {
    let view = this.turns.get(id);
    if (!view) {
      this.turns.set(id, (view = new TurnView(this.store, id)));
      this.touch(view);
    }
    return view;
  }
  private head(id: string) {
    const view = this.turns.get(id);
    if (!view) return;
    view.head();
    this.touch(view);
  }
  private grew(id: string) {
    const view = this.turns.get(id);
    if (view) this.touch(view);
  }
  /** What the kernel has not taken yet. */
  private waiting() {
    const { store } = this;
    const late = [...store.actions.values()].filter((action) => action.late);
    const stop = late.some((action) => action.kind === "stop");
    const note = (text: string, ...more: HTMLElement[]) => h("div", { class: "ic-notice" }, text, ...more);
    const queued = (question: Held, ...notes: (HTMLElement | false)[]) =>
      h(
        "div",
        { class: "ic-turn ic-waiting" },
        bubble(
          question.text,
          question.files.map((file) => file.name),
        ),
        ...notes,
      );
    const takeBack = (question: Held) => {
      const onclick = () => {
        store.held.splice(store.held.indexOf(question), 1);
        this.composer.restore(question);
        this.waiting();
      };
      return h("button", { type: "button", class: "ic-link", text: "Take it back", onclick });
    };
    const when = ({ chat }: Held) =>
      chat === store.info.chat ? "Sent when this answer ends. " : `Waits for ${chat}. `;
    this.queue.replaceChildren(
      ...store.questions.map((question) => queued(question, question.late && note(WAITS))),
      ...store.held.map((question) => queued(question, note(when(question), takeBack(question)))),
      ...(stop ? [h("div", { class: "ic-waiting" }, note(`Stop: ${WAITS}`))] : []),
    );
    this.status.textContent = !stop && late.some((action) => action.kind !== "ask") ? WAITS : this.said;
    this.empty.hidden = this.list.childElementCount > 0 || store.questions.length > 0;
    this.log.setAttribute("aria-busy", String(store.busy));
    this.composer.update();
    this.follow();
  }
  private failed() {
    this.error.textContent = this.store.error;
    this.alert.hidden = !this.store.error;
    this.again.hidden = !this.store.isGone;
  }

  // -- drawing, once a frame

  private touch(view: TurnView) {
    this.dirty.add(view);
    this.schedule();
  }
  private schedule() {
    if (this.frame || this.timer !== undefined) return;
    const wait = Math.min(...[...this.dirty].map(({ due }) => due)) - performance.now();
    const frame = () => {
      this.timer = undefined;
      this.frame = requestAnimationFrame(() => this.draw());
    };
    if (wait > 4) this.timer = setTimeout(frame, wait);
    else frame();
  }
  /** What is read is what comes last. */
  private newestFirst() {
    const views = [...this.dirty];
    if (views.length < 2) return views;
    const place = new Map(this.store.order.map((id, index) => [id, index]));
    return views.sort((one, other) => (place.get(other.id) ?? 0) - (place.get(one.id) ?? 0));
  }
  private draw() {
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

  private scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const left = scrollHeight - scrollTop - clientHeight;
    // a little upwards is enough to stay there; at the end it follows again
    if (left <= 1) this.pinned = true;
    else if (scrollTop < this.top) this.pinned = false;
    else if (left < AT_END) this.pinned = true;
    this.top = scrollTop;
    this.jump.hidden = this.pinned;
  }
  private follow() {
    if (this.pinned) this.log.scrollTop = this.log.scrollHeight;
  }
  /** Brings a turn into sight, when it has come. */
  private find(id: string) {
    const { el } = this.turns.get(id) ?? {};
    if (!el) return void (this.looked = id);
    this.looked = "";
    this.pinned = false;
    el.scrollIntoView({ block: "start" });
    el.tabIndex = -1;
    el.focus({ preventScroll: true });
  }
  private toEnd() {
    this.pinned = true;
    this.follow();
    this.jump.hidden = true;
    this.composer.focus();
  }

  // -- keys, code and files

  private key(event: KeyboardEvent) {
    event.stopPropagation(); // or dd would delete the notebook's cell
    if (passSaving(event, this.el)) return;
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    if (this.store.busy) this.store.act("stop");
    else this.store.host.leave?.();
  }
  /** Shows what became of the last click on a code's button, until the next one. */
  private say(text: string) {
    this.said = this.status.textContent = text;
  }
  private drag(event: DragEvent, over: boolean) {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    event.stopPropagation();
    this.el.toggleAttribute("data-drop", over);
  }
  private drop(event: DragEvent) {
    this.drag(event, false);
    if (event.dataTransfer?.files.length) this.composer.add(event.dataTransfer.files);
  }
}
