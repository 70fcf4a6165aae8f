/** A page without a kernel: it keeps what is sent, and tells what a test says. */
import { Cards } from "../src/card/cards";
import type { Head, Host, Told, Transcript, Wanted } from "../src/panel/host";

export class FakeHost implements Host {
  known = { chat: "main", model: "work:m", busy: false };
  readonly cards = new Cards((wanted) => this.send(wanted));
  readonly sent: Wanted[] = [];
  readonly inserted: string[] = [];
  readonly written: Transcript[] = [];
  inserts = true;
  broken = false;
  private told: (message: Told) => void = () => undefined;
  private lost: () => void = () => undefined;

  send(wanted: Wanted) {
    if (this.broken) throw new Error("closed");
    this.sent.push(wanted);
  }
  listen(told: (message: Told) => void, lost: () => void) {
    this.told = told;
    this.lost = lost;
    return () => (this.told = () => undefined);
  }
  insertCell(source: string) {
    if (this.inserts) this.inserted.push(source);
    return this.inserts;
  }
  cells() {
    return [];
  }
  again() {
    return true;
  }
  writeTranscript(transcript: Transcript) {
    this.written.push(transcript);
  }
  tell(message: Told) {
    if (!this.cards.receive(message)) this.told(message);
  }
  /** The kernel ends. */
  end() {
    this.cards.lose();
    this.lost();
  }
  /** The newest message of a kind. */
  last(kind: string): Wanted | undefined {
    return this.sent.findLast((wanted) => wanted.kind === kind);
  }
}

export const head = (known: Partial<Head>): Head => ({
  id: "a",
  question: "Why?",
  files: [],
  state: "done",
  model: "work:m",
  at: "2026-11-21T12:00:00+00:00",
  seconds: 1.5,
  tokens: [3, 5],
  cost: 0.01,
  finish: "stop",
  stale: false,
  cell: false,
  place: null,
  notices: [],
  error: null,
  ...known,
});
