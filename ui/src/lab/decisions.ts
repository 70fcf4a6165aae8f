/** Cards in the cells that asked: below their outputs, as long as they wait. */
import type { NotebookPanel } from "@jupyterlab/notebook";
import { titleOf } from "../card/card";
import type { Card, Cards } from "../card/cards";
import { Shown } from "../card/shown";
import { h } from "../dom";

export class CellCards {
  private readonly shown: Shown;
  /** What a screen reader is told: a card may stand far from what is read. */
  private readonly status = h("div", { class: "ipychat-said", role: "status" });

  constructor(
    private readonly notebook: NotebookPanel,
    private readonly cards: Cards,
  ) {
    notebook.node.append(this.status);
    this.shown = new Shown(cards, {
      around: notebook.content.node,
      takes: (card) => this.takes(card),
      put: (card, el) => this.put(card, el),
      leave: () => notebook.content.activate(),
    });
    cards.watchers.add(() => this.say());
    void notebook.revealed.then(() => {
      notebook.content.model?.cells.changed.connect(() => cards.tell());
      cards.tell();
    });
  }

  /** Whether the cell that asked is in the notebook. */
  takes({ cell }: Card): boolean {
    return this.cellOf(cell) !== undefined;
  }

  /** Goes to the card that has waited longest. */
  focus(): boolean {
    const { first } = this.shown;
    const { content } = this.notebook;
    const index = content.widgets.findIndex(({ node }) => !!first && node.contains(first.el));
    if (!first || index < 0) return false;
    content.activeCellIndex = index;
    const enter = () => first.enter();
    void content.scrollToItem(index).then(enter, enter); // another scroll may come in between
    return true;
  }

  private cellOf(id: string | null) {
    return this.notebook.content.widgets.find(({ model }) => model.id === id);
  }

  private put({ cell: id }: Card, el: HTMLElement) {
    const cell = this.cellOf(id);
    if (!cell) return;
    const { top, bottom } = cell.node.getBoundingClientRect();
    const around = this.notebook.content.node.getBoundingClientRect();
    el.classList.add("ic-cell", "ipychat-card");
    cell.node.append(el);
    if (bottom > around.top && top < around.bottom) el.scrollIntoView({ block: "nearest" });
  }

  private say() {
    const own = [...this.cards.waiting.values()].filter((card) => this.takes(card));
    this.status.textContent = own.map(titleOf).join(". ");
  }
}
