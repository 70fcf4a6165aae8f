/** The calls that wait for the user's decision, as one kernel tells them, and what becomes of each. */
import type { Told, Wanted } from "../panel/host";

export interface Card {
  id: string;
  /** The cell that asked the question. */
  cell: string | null;
  tool: string;
  about: string;
  where: string;
  code: string;
  /** JSON, without the code. */
  arguments: string;
}

/** What the user decided. */
export type Decided =
  | { decision: "once" | "always" }
  | { decision: "edited"; arguments: { arguments: string; code?: string } }
  | { decision: "refused"; reason: string };

const GONE = "The kernel did not take the decision.";

const isCard = (value: unknown): value is Card =>
  typeof value === "object" &&
  value !== null &&
  typeof (value as Card).id === "string" &&
  ["string", "object"].includes(typeof (value as Card).cell) &&
  (["tool", "about", "where", "code", "arguments"] as const).every(
    (name) => typeof (value as Card)[name] === "string",
  );

export class Cards {
  readonly waiting = new Map<string, Card>();
  /** Who shows them. */
  readonly watchers = new Set<() => void>();
  private readonly noted = new Set<string>();
  private readonly asked = new Map<number, (error: string) => void>();
  private last = 0;

  constructor(private readonly send: (wanted: Wanted) => void) {}

  /** Takes what is told of cards; false for all else. */
  receive(message: Told): boolean {
    switch (message.kind) {
      case "card":
        if (isCard(message.card) && !this.waiting.has(message.card.id)) {
          this.waiting.set(message.card.id, message.card);
          this.tell();
        }
        return true;
      case "card-gone":
        this.noted.delete(message.id);
        if (this.waiting.delete(message.id)) this.tell();
        return true;
      case "ack": {
        const settle = this.asked.get(message.id);
        this.asked.delete(message.id);
        settle?.(message.error ?? "");
        return settle !== undefined;
      }
      default:
        return false;
    }
  }

  /** Has everyone look again at what waits. */
  tell() {
    for (const watcher of this.watchers) watcher();
  }

  /** Tells the kernel that a card is in sight, or it would ask in another way. */
  seen(card: Card) {
    if (this.noted.has(card.id)) return;
    this.noted.add(card.id);
    void this.ask("seen", { card: card.id });
  }

  /** Tells the kernel what was decided; returns what is wrong with that, if anything is. */
  decide(card: Card, decided: Decided): Promise<string> {
    return this.ask("decide", { card: card.id, ...decided });
  }

  /** The kernel has gone: nobody waits any more. */
  lose() {
    for (const settle of this.asked.values()) settle(GONE);
    this.asked.clear();
    this.noted.clear();
    if (!this.waiting.size) return;
    this.waiting.clear();
    this.tell();
  }

  private ask(kind: string, fields: Record<string, unknown>): Promise<string> {
    const id = --this.last; // below those of a panel, which uses the same way
    return new Promise((resolve) => {
      this.asked.set(id, resolve);
      try {
        this.send({ ...fields, kind, id });
      } catch {
        this.asked.delete(id);
        resolve(GONE);
      }
    });
  }
}
