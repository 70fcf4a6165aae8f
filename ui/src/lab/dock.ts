/** The panel at the side: the store and the view of each open notebook, of which that in front is shown. */
import type { NotebookPanel } from "@jupyterlab/notebook";
import { LabIcon } from "@jupyterlab/ui-components";
import type { Message } from "@lumino/messaging";
import { Widget } from "@lumino/widgets";
import { h } from "../dom";
import type { Along } from "../panel/host";
import { Store } from "../panel/store";
import { View } from "../panel/view";
import { runBelow } from "./cells";
import { Connection } from "./connection";

export const icon = new LabIcon({
  name: "ipychat:chat",
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M4 3h16a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2h-8l-5 4v-4H4a2 2 0 0 1-2-2V5c0-1.1.9-2 2-2zm3 5v2h10V8zm0 4v2h7v-2z"/></svg>',
});

/** What the side has of one notebook. */
class Desk {
  readonly node = h("div", { class: "ipychat-desk" });
  private store: Store | null = null;
  private view: View | null = null;

  constructor(readonly connection: Connection) {
    connection.changed.connect(() => this.draw());
    this.draw();
  }

  /** Shows the panel, or why there is none. A panel whose kernel has gone stays readable. */
  draw() {
    const { connection } = this;
    if (!this.node.isConnected) return;
    if (connection.state === "open" && (!this.view || this.store?.isGone)) {
      this.close();
      const el = h("div");
      this.node.replaceChildren(el);
      this.store = new Store(connection);
      this.view = new View(this.store, el);
    } else if (!this.view) this.node.replaceChildren(this.notice());
    this.view?.look();
  }

  private notice() {
    const { notebook, state } = this.connection;
    if (state === "opening")
      return h("div", { class: "ipychat-notice", role: "status", text: "Waiting for the kernel …" });
    const load = () => void runBelow(notebook, "%load_ext ipychat");
    return h(
      "div",
      { class: "ipychat-notice" },
      h("p", { text: "This notebook has not loaded ipychat. Run this in a cell:" }),
      h("code", { text: "%load_ext ipychat" }),
      h("button", { type: "button", class: "ipychat-load", text: "Insert and run it", onclick: load }),
    );
  }

  ask(text: string, along: Along[], { sends = false } = {}) {
    this.draw();
    this.view?.begin(text, along, sends);
  }
  follow(chat: string) {
    this.draw();
    if (this.store?.info.chat !== chat) this.store?.act("chat", { name: chat });
  }
  /** A decision that waits comes before a question that could be asked. */
  focus() {
    if (this.view?.toCard()) return;
    if (this.view) this.view.focus();
    else this.node.querySelector<HTMLElement>("button")?.focus();
  }
  close() {
    this.view?.close();
    this.store?.close();
    this.view = this.store = null;
  }
}

export class Dock extends Widget {
  private readonly desks = new Map<NotebookPanel, Desk>();
  private readonly empty = h("div", { class: "ipychat-notice", text: "Open a notebook to chat in it." });
  private current: NotebookPanel | null = null;

  constructor() {
    super();
    this.id = "ipychat-dock";
    this.title.icon = icon;
    this.title.caption = "Chat";
    this.addClass("ipychat-dock");
    this.node.setAttribute("role", "complementary");
    this.node.setAttribute("aria-label", "Chat");
  }

  /** Takes a notebook in, which has been opened. */
  add(connection: Connection) {
    const { notebook } = connection;
    this.desks.set(notebook, new Desk(connection));
    notebook.disposed.connect(() => {
      this.desks.get(notebook)?.close();
      this.desks.delete(notebook);
      if (this.current === notebook) this.follow(null);
    });
    if (this.current === notebook) this.follow(notebook);
  }

  /** Shows what belongs to a notebook. */
  follow(notebook: NotebookPanel | null) {
    this.current = notebook;
    const desk = this.desk;
    if (!this.isVisible) return;
    this.node.replaceChildren(desk?.node ?? this.empty);
    desk?.draw();
  }

  get desk(): Desk | undefined {
    return this.current ? this.desks.get(this.current) : undefined;
  }

  protected override onAfterShow(message: Message) {
    super.onAfterShow(message);
    for (let around = this.parent; around; around = around.parent) around.fit(); // it is wider than others
    this.follow(this.current);
  }
  protected override onActivateRequest(message: Message) {
    super.onActivateRequest(message);
    this.follow(this.current);
    this.desk?.focus();
  }
}
