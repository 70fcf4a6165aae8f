/** The cards in one place of the page: those that wait and belong there, each drawn once. */
import { CardView, isFree } from "./card";
import type { Card, Cards } from "./cards";

export interface Place {
  /** Where the focus may be taken from. */
  around: Element;
  /** Whether a card belongs here. */
  takes(card: Card): boolean;
  /** Puts a card's element onto the page. */
  put(card: Card, el: HTMLElement): void;
  /** Takes the focus back from a card. */
  leave(): void;
}

const isInSight = (el: HTMLElement) => el.getClientRects().length > 0;

export class Shown {
  private readonly views = new Map<string, CardView>();
  private readonly watcher = () => this.draw();

  constructor(
    private readonly cards: Cards,
    private readonly place: Place,
  ) {
    cards.watchers.add(this.watcher);
  }

  /** Draws what waits here, takes away what does not, and tells the kernel what is in sight. */
  draw() {
    const { waiting } = this.cards;
    for (const [id, view] of this.views) {
      const card = waiting.get(id);
      if (!card || !this.place.takes(card)) this.remove(id, view);
    }
    for (const card of waiting.values()) if (this.place.takes(card)) this.show(card);
  }

  private show(card: Card) {
    let view = this.views.get(card.id);
    if (!view) {
      const leave = () => this.place.leave();
      view = new CardView(card, (decided) => this.cards.decide(card, decided), leave);
      this.views.set(card.id, view);
      this.place.put(card, view.el);
      if (isFree(this.place.around)) view.focus();
    } else if (!view.el.isConnected) this.place.put(card, view.el);
    if (isInSight(view.el)) this.cards.seen(card);
  }

  private remove(id: string, view: CardView) {
    const had = view.el.contains(document.activeElement);
    view.el.remove();
    this.views.delete(id);
    if (had) this.place.leave();
  }

  close() {
    this.cards.watchers.delete(this.watcher);
    for (const { el } of this.views.values()) el.remove();
    this.views.clear();
  }

  /** The first card, where there is one. */
  get first(): CardView | undefined {
    return [...this.views.values()][0];
  }
}
