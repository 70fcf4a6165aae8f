/** Text that only grows; laid out in pieces, so that a long one costs no more than its end. */
import { h } from "../dom";

const PIECE = 4000; // characters

export class Growing {
  size = 0;
  private piece: HTMLElement | null = null;
  private filled = 0;
  private ended = false;
  private readonly rest = document.createTextNode("");

  constructor(private readonly el: HTMLElement) {}

  append(text: string) {
    if (!text) return;
    if (!this.piece || (this.filled > PIECE && this.ended)) {
      this.rest.remove();
      this.piece = this.el.appendChild(h("span", { class: "ic-piece" }));
      this.filled = 0;
      this.piece.append(this.rest);
    }
    this.rest.before(text);
    this.filled += text.length;
    this.size += text.length;
    this.ended = text.endsWith("\n");
  }
  /** The unfinished last line, which may change. */
  end(text: string) {
    if (!this.rest.parentNode) this.el.append(this.rest);
    if (this.rest.data !== text) this.rest.data = text;
  }
}
