/** The way to the kernel of one notebook: a comm, held for as long as ipychat is loaded there. */
import type { NotebookPanel } from "@jupyterlab/notebook";
import type { Kernel } from "@jupyterlab/services";
import type { JSONObject } from "@lumino/coreutils";
import { Signal } from "@lumino/signaling";
import { type Card, Cards } from "../card/cards";
import type { Host, Told, Wanted } from "../panel/host";
import { along, insertBelow, runBelow } from "./cells";
import { CellCards } from "./decisions";
import { isBusy, make, remember } from "./subshell";

const TARGET = "ipychat";
const NEAR = 20; // cells that are offered
const PAGE = "ipychat:page";
// whether a comm has a subshell; JupyterLab before 4.4 knows no such thing
const OFF = { commsOverSubshells: "disabled" };
const ON = { commsOverSubshells: "perCommTarget" };

/** Which page this is, also after a reload. */
function page(): string {
  const known = sessionStorage.getItem(PAGE);
  if (known) return known;
  const made = crypto.randomUUID();
  sessionStorage.setItem(PAGE, made);
  return made;
}

type Message = Told | { kind: "ready" } | { kind: "show"; chat: string };

/** `opening` waits for the kernel's first word; `closed`: it does not know ipychat, or is not there. */
export type State = "closed" | "opening" | "open";

export class Connection implements Host {
  /** Its state has changed. */
  readonly changed = new Signal<this, State>(this);
  /** The kernel wants the panel to be shown, on a conversation. */
  readonly wanted = new Signal<this, string>(this);
  state: State = "closed";
  /** The calls that wait for the user, here or at the side. */
  readonly cards = new Cards((wanted) => this.send(wanted, []));
  readonly inCells: CellCards;
  private comm: Kernel.IComm | null = null;
  private hasSubshell = false; // of our own, which the comm keeps
  private told: ((message: Told) => void) | null = null;
  private lost: (() => void) | null = null;

  constructor(readonly notebook: NotebookPanel) {
    const { sessionContext } = notebook;
    this.inCells = new CellCards(notebook, this.cards);
    sessionContext.kernelChanged.connect(() => this.drop());
    sessionContext.statusChanged.connect((_, status) => {
      if (!["restarting", "autorestarting", "dead", "terminating"].includes(status)) return;
      const kernel = sessionContext.session?.kernel;
      if (kernel) remember(kernel.id, false);
      this.drop();
    });
    sessionContext.connectionStatusChanged.connect((_, status) => {
      // after a restart, where the user's configuration loads ipychat
      if (status === "connected" && this.state === "closed") void this.open();
    });
    notebook.disposed.connect(() => this.drop());
    void sessionContext.ready.then(() => this.open());
  }

  /** Asks the kernel whether it knows ipychat. */
  async open(): Promise<void> {
    const kernel = this.notebook.sessionContext.session?.kernel;
    if (!kernel || this.state !== "closed" || this.notebook.isDisposed) return;
    this.become("opening");
    const subshell = (await isBusy(kernel)) ? await make(kernel).catch(() => "") : "";
    if (!subshell) {
      const { language_info: language } = await kernel.info;
      if (language.name !== "python") return this.drop();
    }
    if (kernel.isDisposed) return this.drop();
    this.hasSubshell = !!subshell;
    const comm = (this.comm = kernel.createComm(TARGET));
    // A subshell only for a kernel that knows ipychat: JupyterLab would give a comm that is opened soon
    // after this one the subshell that it is about to delete, and what is sent there gets lost.
    Object.assign(comm, OFF, subshell && { _subshellId: subshell });
    comm.onMsg = ({ content }) => this.receive(content.data as unknown as Message);
    comm.onClose = () => {
      if (this.comm === comm) this.drop();
    };
    comm.open({ page: `${page()} ${this.notebook.id}` });
  }

  private receive(message: Message) {
    if (message.kind === "ready") this.greet();
    else if (message.kind === "show") this.wanted.emit(message.chat);
    else if (!this.cards.receive(message)) this.told?.(message);
  }

  /** The kernel knows ipychat: from now on it is heard while a cell runs, too. */
  private greet() {
    if (this.comm && !this.hasSubshell) Object.assign(this.comm, ON);
    const kernel = this.notebook.sessionContext.session?.kernel;
    if (kernel?.supportsSubshells) remember(kernel.id, true);
    this.become("open");
  }

  private drop() {
    const { comm } = this;
    this.comm = null;
    if (comm && !comm.isDisposed) comm.dispose();
    if (this.state === "closed") return;
    this.become("closed");
    this.cards.lose();
    this.lost?.();
  }

  private become(state: State) {
    this.state = state;
    this.notebook.node.classList.toggle("ipychat-loaded", state === "open");
    this.changed.emit(state);
  }

  // -- what the panel needs

  readonly known = { chat: "", model: "", busy: false };

  send(wanted: Wanted, buffers: Uint8Array[]) {
    if (!this.comm) throw new Error("The kernel is gone.");
    this.comm.send(wanted as JSONObject, undefined, buffers);
  }
  listen(told: (message: Told) => void, lost: () => void) {
    this.told = told;
    this.lost = lost;
    return () => (this.told = this.lost = null);
  }
  takes(card: Card) {
    return !this.inCells.takes(card);
  }
  insertCell(source: string) {
    insertBelow(this.notebook, source);
    return true;
  }
  cells() {
    const { widgets, activeCellIndex } = this.notebook.content;
    const near = [...widgets].filter(({ model }) => model.type === "code");
    const distance = (index: number) => Math.abs(index - activeCellIndex);
    near.sort((one, other) => distance(widgets.indexOf(one)) - distance(widgets.indexOf(other)));
    return near.slice(0, NEAR).map((cell) => along(this.notebook, cell));
  }
  leave() {
    this.notebook.activate();
  }
  again() {
    void runBelow(this.notebook, "%load_ext ipychat");
    return true;
  }
  writeTranscript() {
    // nothing of it is in the notebook
  }
}
