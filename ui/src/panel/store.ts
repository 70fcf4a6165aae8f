/** What the page knows of one panel's conversation, for all its views, and what it asked the kernel to do. */
import type { Card } from "../card/cards";
import { h } from "../dom";
import type { Along, Delta, Found, Head, Host, Info, Named, Offer, Sync, Told } from "./host";

const LATE = 300; // milliseconds after which an unanswered action is shown to wait
const GONE = "The kernel no longer knows this panel.";

export const keyOf = ({ kind, name }: Along) => `${kind} ${name}`;

/** Lets the browser keep a text as a file. */
function download(name: string, text: string) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = h("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export interface Question {
  text: string;
  files: File[];
  buffers: Uint8Array[];
  along: Along[];
}

export interface Held extends Question {
  chat: string;
}

interface Action {
  kind: string;
  id: number;
  question: Held | null;
  late: boolean;
  taken: boolean;
  timer: ReturnType<typeof setTimeout>;
}

export interface Turn extends Head {
  text: string;
  reasoning: string;
  /** How many characters the text has, as Python counts them. */
  points: number;
  missed?: boolean;
}

/** What a view is told when something changes. */
export interface Watcher {
  all(): void;
  order(): void;
  turn(id: string): void;
  text(id: string): void;
  actions(): void;
  info(): void;
  models(): void;
  names(): void;
  titles(): void;
  found(words: string, turns: Found[]): void;
  error(): void;
  refused(question: Question): void;
}

export class Store {
  readonly host: Host;
  readonly info: Info;
  readonly turns = new Map<string, Turn>();
  readonly watchers = new Set<Watcher>();
  readonly actions = new Map<number, Action>(); // what was asked and not yet taken
  readonly held: Held[] = []; // questions asked while an answer is coming
  order: string[] = [];
  models: Offer[] | null = null;
  names: Named[] | null = null; // variables
  resources: Named[] = []; // of MCP servers that run
  files: string[] = []; // of the kernel's folder
  titles: Record<string, string> = {};
  readonly sizes = new Map<string, number>(); // of what goes along, by its kind and name
  error = "";
  private last = 0;
  private gone = false;
  private readonly leave: () => void;

  constructor(host: Host) {
    this.host = host;
    this.info = { chats: [], title: "", system: null, options: {}, ...host.known };
    this.leave = host.listen(
      (message) => this.receive(message),
      () => this.lose(),
    );
    this.act("hello");
  }

  close() {
    this.leave();
    for (const action of this.actions.values()) clearTimeout(action.timer);
  }

  private tell(what: (watcher: Watcher) => void) {
    for (const watcher of this.watchers) what(watcher);
  }

  /** The kernel was restarted or has closed the panel: what is here stays readable. */
  lose() {
    this.gone = true;
    this.info.busy = false;
    for (const turn of this.turns.values()) {
      if (turn.state !== "running") continue;
      turn.state = "lost";
      this.tell((view) => view.turn(turn.id));
    }
    for (const { id } of [...this.actions.values()]) this.acknowledge(id, GONE);
    for (const question of this.held.splice(0)) this.tell((view) => view.refused(question));
    this.fail(GONE);
    this.tell((view) => view.actions());
  }

  fail(error: string) {
    this.error = error;
    this.tell((view) => view.error());
  }

  /** Whether the kernel has ended, or has closed the panel. */
  get isGone(): boolean {
    return this.gone;
  }

  /** Whether a card is of a question in this conversation. */
  holds({ cell }: Card): boolean {
    return cell !== null && [...this.turns.values()].some(({ place }) => place === cell);
  }

  get busy(): boolean {
    return this.info.busy || this.questions.length > 0;
  }

  /** Questions on their way, which are no turns yet. */
  get questions() {
    return [...this.actions.values()].flatMap(({ question, late }) =>
      question ? [{ ...question, late }] : [],
    );
  }

  ask(question: Question) {
    this.held.push({ ...question, chat: this.info.chat });
    this.askNext();
    this.tell((view) => view.actions());
  }

  private askNext() {
    const at = this.held.findIndex(({ chat }) => chat === this.info.chat); // others wait for theirs
    if (this.busy || at < 0) return;
    for (const question of this.held.splice(at, 1)) {
      const files = question.files.map(({ name, type }) => ({ name, type }));
      const { text, along } = question;
      this.act("ask", { text, files, along }, question.buffers, question);
    }
  }

  act(
    kind: string,
    fields: Record<string, unknown> = {},
    buffers: Uint8Array[] = [],
    question: Held | null = null,
  ) {
    const id = ++this.last;
    const timer = setTimeout(() => {
      action.late = true;
      this.tell((view) => view.actions());
    }, LATE);
    const action: Action = { kind, id, question, late: false, taken: false, timer };
    if (kind !== "hello" && this.error) this.fail("");
    this.actions.set(id, action);
    if (this.gone) return this.lose();
    try {
      this.host.send({ ...fields, kind, id }, buffers);
    } catch {
      return this.lose();
    }
    this.tell((view) => view.actions());
  }

  private receive(message: Told) {
    this.gone = false;
    switch (message.kind) {
      case "ack":
        return this.acknowledge(message.id, message.error);
      case "sync":
        return this.sync(message);
      case "models":
        this.models = message.models;
        return this.tell((view) => view.models());
      case "names":
        this.names = message.variables;
        this.files = message.files;
        this.resources = message.resources;
        return this.tell((view) => view.names());
      case "weight":
        this.sizes.set(keyOf(message.of), message.size);
        return this.tell((view) => view.names());
      case "titles":
        this.titles = message.titles;
        return this.tell((view) => view.titles());
      case "found":
        return this.tell((view) => view.found(message.words, message.found));
      case "file":
        return download(message.name, message.text);
      case "transcript":
        return this.host.writeTranscript(message);
    }
  }

  private acknowledge(id: number, error?: string) {
    const action = this.actions.get(id);
    if (!action) return;
    clearTimeout(action.timer);
    action.late = false;
    action.taken = true;
    // a question stays in sight until its turn arrives
    if (error || !action.question) this.actions.delete(id);
    else action.timer = setTimeout(() => this.forget(id), 1000);
    if (error) {
      this.fail(error);
      const { question } = action;
      if (question) this.tell((view) => view.refused(question));
    }
    this.tell((view) => view.actions());
  }

  private forget(id: number) {
    this.actions.delete(id);
    this.askNext();
    this.tell((view) => view.actions());
  }

  private sync({ all, info, order, turns = [], deltas = [] }: Sync) {
    if (all) {
      this.turns.clear();
      this.order = [];
      this.tell((view) => view.all());
    }
    if (info) {
      Object.assign(this.info, info);
      this.tell((view) => view.info());
    }
    for (const head of turns) this.head(head);
    if (order) {
      this.order = order;
      for (const id of this.turns.keys()) if (!order.includes(id)) this.turns.delete(id);
      for (const { id, question, taken } of [...this.actions.values()])
        if (question && taken) this.forget(id);
    }
    if (order || all) this.tell((view) => view.order());
    for (const delta of deltas) this.grow(delta);
    this.askNext();
  }

  private head(head: Head) {
    const known = this.turns.get(head.id);
    const anew = !known || (head.state === "running" && known.state !== "running"); // asked again
    this.turns.set(head.id, { text: "", reasoning: "", points: 0, ...(anew ? null : known), ...head });
    this.tell((view) => view.turn(head.id));
  }

  private grow({ id, at, text = "", reasoning }: Delta) {
    const turn = this.turns.get(id);
    if (!turn) return;
    if (text && reasoning === undefined && at !== turn.points) {
      if (at === 0) Object.assign(turn, { text: "", points: 0 });
      else if (!turn.missed) {
        turn.missed = true; // something was lost on the way: ask for the whole, once
        this.act("hello");
      }
    }
    turn.text += text;
    turn.reasoning += reasoning ?? "";
    turn.points += Array.from(text).length;
    this.tell((view) => view.text(id));
  }
}
