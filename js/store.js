/** What the page knows of one widget's conversation, for all its views, and what it asked the kernel to do. */

import { writeTranscript } from "./cells.js";

const LATE = 300; // milliseconds after which an unanswered action is shown to wait
const GONE = "The kernel no longer knows this panel. Run its cell again.";

export class Store {
  constructor(model) {
    this.model = model;
    this.info = { chat: model.get("chat") ?? "", chats: [], model: model.get("model") ?? "", system: null, options: {}, busy: !!model.get("busy") };
    this.turns = new Map(); // id → the kernel's head of the turn, and its `text` and `reasoning` so far
    this.order = [];
    this.models = null;
    this.actions = new Map(); // id → what was asked and not yet taken
    this.held = []; // questions asked while an answer is coming
    this.error = "";
    this.last = 0;
    this.views = new Set(); // functions that are told what changed
    this.onmessage = (message) => this.receive(message);
    this.onlive = () => this.lose();
    model.on("msg:custom", this.onmessage);
    model.on("comm_live_update", this.onlive);
    this.act("hello");
  }

  close() {
    this.model.off("msg:custom", this.onmessage);
    this.model.off("comm_live_update", this.onlive);
    for (const action of this.actions.values()) clearTimeout(action.timer);
  }

  tell(what, id) {
    for (const view of this.views) view(what, id);
  }

  /** The kernel was restarted or has closed the widget: what is here stays readable. */
  lose() {
    this.gone = true;
    this.info.busy = false;
    for (const turn of this.turns.values()) {
      if (turn.state !== "running") continue;
      turn.state = "lost";
      this.tell("turn", turn.id);
    }
    for (const { id } of this.actions.values()) this.acknowledge({ id, error: GONE });
    for (const question of this.held.splice(0)) this.tell("refused", question);
    this.fail(GONE);
    this.tell("actions");
  }

  fail(error) {
    this.error = error;
    this.tell("error");
  }

  get busy() {
    return this.info.busy || this.questions.length > 0;
  }

  /** Questions on their way, which are no turns yet. */
  get questions() {
    return [...this.actions.values()].filter((action) => action.kind === "ask");
  }

  ask(question) {
    this.held.push({ ...question, chat: this.info.chat });
    this.askNext();
    this.tell("actions");
  }

  askNext() {
    const at = this.held.findIndex(({ chat }) => chat === this.info.chat); // others wait for theirs
    if (this.busy || at < 0) return;
    const [question] = this.held.splice(at, 1);
    const { text, files, buffers } = question;
    this.act("ask", { text, files: files.map(({ name, type }) => ({ name, type })) }, buffers, question);
  }

  act(kind, fields = {}, buffers = [], question = null) {
    const id = ++this.last;
    const action = { ...fields, kind, id, question, late: false, taken: false };
    if (kind !== "hello" && this.error) this.fail("");
    this.actions.set(id, action);
    action.timer = setTimeout(() => {
      action.late = true;
      this.tell("actions");
    }, LATE);
    try {
      if (this.gone) return this.lose();
      this.model.send({ kind, id, ...fields }, undefined, buffers);
    } catch {
      return this.lose();
    }
    this.tell("actions");
  }

  receive(message) {
    this.gone = false;
    if (message.kind === "ack") this.acknowledge(message);
    else if (message.kind === "sync") this.sync(message);
    else if (message.kind === "models") {
      this.models = message.models;
      this.tell("models");
    } else if (message.kind === "transcript") writeTranscript(this.model, message);
  }

  acknowledge({ id, error }) {
    const action = this.actions.get(id);
    if (!action) return;
    clearTimeout(action.timer);
    action.late = false;
    action.taken = true;
    // a question stays in sight until its turn arrives
    if (error || action.kind !== "ask") this.actions.delete(id);
    else action.timer = setTimeout(() => this.forget(id), 1000);
    if (error) {
      this.fail(error);
      if (action.kind === "ask") this.tell("refused", action.question);
    }
    this.tell("actions");
  }

  forget(id) {
    this.actions.delete(id);
    this.askNext();
    this.tell("actions");
  }

  sync({ all, info, order, turns = [], deltas = [] }) {
    if (all) {
      this.turns.clear();
      this.order = [];
      this.tell("all");
    }
    if (info) {
      Object.assign(this.info, info);
      this.tell("info");
    }
    for (const head of turns) this.head(head);
    if (order) {
      this.order = order;
      for (const id of this.turns.keys()) if (!order.includes(id)) this.turns.delete(id);
      for (const question of this.questions) if (question.taken) this.forget(question.id);
    }
    if (order || all) this.tell("order");
    for (const delta of deltas) this.grow(delta);
    this.askNext();
  }

  head(head) {
    const known = this.turns.get(head.id);
    const anew = !known || (head.state === "running" && known.state !== "running"); // asked again
    this.turns.set(head.id, { text: "", reasoning: "", points: 0, ...(anew ? null : known), ...head });
    this.tell("turn", head.id);
  }

  grow({ id, at, text, reasoning }) {
    const turn = this.turns.get(id);
    if (!turn) return;
    if (text && reasoning === undefined && at !== turn.points) {
      if (at === 0) Object.assign(turn, { text: "", points: 0 });
      else if (!turn.missed) {
        turn.missed = true; // something was lost on the way: ask for the whole, once
        this.act("hello");
      }
    }
    turn.text += text ?? "";
    turn.reasoning += reasoning ?? "";
    for (const _ of text ?? "") turn.points++;
    this.tell("text", id);
  }
}
