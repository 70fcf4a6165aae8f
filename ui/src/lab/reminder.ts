/** A notification, as long as a decision waits out of sight: in a cell that is scrolled away, or at a side that is closed. */
import { Notification } from "@jupyterlab/apputils";
import type { NotebookPanel } from "@jupyterlab/notebook";
import type { Card, Cards } from "../card/cards";

const PATIENCE = 300; // milliseconds in which a card finds its place

/** Whether a card is where the user can see it. */
function isInSight({ id }: Card): boolean {
  return [...document.querySelectorAll<HTMLElement>(".ic-card")].some((el) => {
    if (el.dataset.card !== id || !el.getClientRects().length) return false;
    const { top, bottom } = el.getBoundingClientRect();
    const around = el.closest(".ic-log, .jp-WindowedPanel-outer")?.getBoundingClientRect();
    return bottom > (around?.top ?? 0) && top < (around?.bottom ?? innerHeight);
  });
}

export class Reminder {
  private shown = "";
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly notebook: NotebookPanel,
    private readonly cards: Cards,
    private readonly go: () => void,
  ) {
    cards.watchers.add(() => {
      clearTimeout(this.timer);
      if (cards.waiting.size) this.timer = setTimeout(() => this.look(), PATIENCE);
      else this.dismiss();
    });
  }

  private look() {
    const hidden = [...this.cards.waiting.values()].filter((card) => !isInSight(card));
    if (!hidden.length) return this.dismiss();
    for (const card of hidden) this.cards.seen(card); // the user is told of it here
    if (this.shown && Notification.manager.has(this.shown)) return;
    this.shown = Notification.info(`A model waits for your decision in ${this.notebook.title.label}.`, {
      autoClose: false,
      actions: [{ label: "Show", callback: this.go }],
    });
  }

  private dismiss() {
    if (this.shown) Notification.dismiss(this.shown);
    this.shown = "";
  }
}
