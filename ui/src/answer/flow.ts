/** An answer while it grows: finished blocks are drawn once, only the last one again at each frame. */
import { h } from "../dom";
import { Code } from "./code";
import { copyOf, type Links, noLinks, prose, settled } from "./markdown";

// characters of a block that are drawn again at each frame; what follows is a block of its own
const LONG = 4_000;
const LONG_ROWS = 6_000; // of a list, which is cut between its items at half of that, or of a table

const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;

export class Flow {
  private text = "";
  private live = h("div", { class: "ic-live" });
  private start = 0; // where the open block begins
  private pos = 0; // how far lines were read
  private fence: string | null = null; // the open fence,
  private code: Code | null = null; // and its block, if it is no part of a list
  private list = false;
  private blank = false;
  private inLine = false;
  private ended = false;
  private head = "";
  private again = false;
  private links = noLinks();

  constructor(private readonly el: HTMLElement) {
    this.el.replaceChildren(this.live);
  }
  private reset(links?: Links) {
    this.live = h("div", { class: "ic-live" });
    this.el.replaceChildren(this.live);
    this.start = this.pos = 0;
    this.fence = this.code = null;
    this.list = this.blank = this.inLine = this.ended = false;
    this.head = "";
    this.again = !!links;
    this.links = links ?? noLinks();
  }
  /** Draws what is new, until `deadline`; false if something is left. */
  draw(text: string, done: boolean, deadline: number): boolean {
    if (!text.startsWith(this.text) || (this.ended && !(done && text === this.text))) this.reset();
    this.text = text;
    while (this.pos < text.length) {
      const end = text.indexOf("\n", this.pos);
      if (!this.code && this.atPicture(end)) {
        if (end < 0 && !done) break;
        this.line(text.slice(this.pos, end < 0 ? text.length : end), end < 0 ? text.length : end + 1);
      } else if ((end < 0 ? text.length : end) - this.pos > LONG) this.cutLine();
      else if (end >= 0) this.line(text.slice(this.pos, end), end + 1);
      else if (done) this.line(text.slice(this.pos), text.length);
      else break;
      if (performance.now() > deadline) return false;
    }
    const rest = text.slice(this.pos);
    if (done) this.finish();
    else if (this.code) this.code.text.end(/^ {0,3}[`~]*$/.test(rest) ? "" : rest);
    // a definition may be half there
    else this.live.replaceChildren(prose(this.head + settled(text.slice(this.start)), copyOf(this.links)));
    return true;
  }
  /** A picture in the text makes a line long that is not cut. */
  private atPicture(end: number) {
    const at = this.text.indexOf("](data:image/", this.pos);
    return at >= 0 && (end < 0 || at < end);
  }
  private line(line: string, next: number) {
    const from = this.pos;
    const [, indent, mark, info = ""] = FENCE.exec(line) ?? [];
    this.pos = next;
    if (this.fence && !this.inLine && mark?.startsWith(this.fence) && !info.trim()) return this.closeFence();
    this.inLine = false;
    if (this.code) return this.code.append(this.text.slice(from, next));
    if (this.breaksBefore(line, from - this.start))
      this.freeze(from, line.startsWith("|") ? this.tableHead() : "");
    if (this.fence) return;
    this.blank = !line.trim();
    if (mark && !(this.list && indent)) return this.openFence(from, mark, info);
    this.fence = mark ?? null;
    this.list ||= ITEM.test(line);
  }
  private breaksBefore(line: string, size: number) {
    if (this.fence) return false; // code in a list stays whole
    if (size > (this.list || line.startsWith("|") ? LONG_ROWS : LONG)) return true;
    if (!size || /^(?:\s|$)/.test(line)) return false;
    if (this.list && ITEM.test(line)) return size > LONG_ROWS / 2;
    return this.blank || /^#{1,6} /.test(line);
  }
  private openFence(from: number, mark: string, info: string) {
    this.freeze(from);
    this.fence = mark;
    this.code = new Code(info);
    this.live.before(this.code.el);
    this.start = this.pos;
  }
  private closeFence() {
    this.fence = null;
    this.blank = false;
    if (!this.code) return;
    this.code.finish();
    this.code = null;
    this.start = this.pos;
  }
  /** A line without an end is not waited for. */
  private cutLine() {
    const space = this.text.lastIndexOf(" ", this.pos + LONG);
    let cut = space > this.pos ? space + 1 : this.pos + LONG;
    if (/[\ud800-\udbff]/.test(this.text.charAt(cut - 1))) cut--;
    if (this.code) this.code.append(this.text.slice(this.pos, cut));
    else this.freeze(this.pos);
    this.pos = cut;
    this.inLine = !!this.code;
    if (!this.code) this.freeze(cut);
  }
  /** The rest of a table that is cut gets its head, too. */
  private tableHead() {
    const begin = this.head + this.text.slice(this.start, this.start + 2000);
    return /^\|.*\n\|[ :|-]+\n/.exec(begin)?.[0] ?? "";
  }
  private freeze(to: number, head = "") {
    const source = this.text.slice(this.start, to);
    if (source.trim()) this.live.before(prose(this.head + source, this.links));
    this.head = head;
    this.live.replaceChildren();
    this.start = to;
    this.list = this.blank = false;
    this.fence = null;
  }
  private finish() {
    if (this.ended) return;
    if (this.code) this.closeFence();
    this.freeze(this.text.length);
    this.ended = true;
    // a definition may come after the block that needs it
    const count = Object.keys(this.links.references).length;
    if (this.again || !count || count > 100 || this.text.length > 100_000) return;
    this.reset(this.links);
    this.draw(this.text, true, Infinity);
  }
}
