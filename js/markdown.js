/** Markdown of a model, who may be hostile, as DOM. Text becomes HTML only to go through DOMPurify. */
import DOMPurify from "dompurify";
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { Marked } from "marked";
import { h, iconButton } from "./dom.js";

// a superset serves for its subset: each grammar is 3 to 13 kB
const languages = { bash, c: cpp, cpp, diff, go, java, javascript: typescript, json, python, r, rust, sql, typescript, xml, yaml };
for (const [name, grammar] of Object.entries(languages)) hljs.registerLanguage(name, grammar);
hljs.registerAliases(["ipython", "ipython3"], { languageName: "python" });

const COLOURED = 20_000; // characters: longer code stays plain, as does code with a line of over a thousand
const TRICKY = 250; // milliseconds that only text made to be slow takes to colour
let tricks = 0;

// characters of a block that are drawn again at each frame; what follows is a block of its own
const LONG = 4_000;
const LONG_ROWS = 6_000; // of a list, which is cut between its items at half of that, or of a table

const escape = (text) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
const MATH = /^(?:\\\(.{1,999}?\\\)|\\\[[^]{1,1999}?\\\]|\$\$[^]{1,1999}?\$\$)/;

const marked = new Marked({
  extensions: [
    {
      name: "math", // shown as it was written, not eaten by * and _
      level: "inline",
      start: (src) => src.indexOf("$$"),
      tokenizer(src) {
        const raw = MATH.exec(src)?.[0];
        return raw && { type: "math", raw };
      },
      renderer: ({ raw }) => `<code>${escape(raw)}</code>`,
    },
  ],
  tokenizer: {
    html() {}, // no token: the text stays text, and is escaped
    tag(src) {
      const raw = /^<br ?\/?>/i.exec(src)?.[0];
      return raw && { type: "br", raw };
    },
  },
  renderer: {
    code: ({ text, lang }) => `<pre><code title="${escape(lang ?? "")}">${escape(text)}</code></pre>`,
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image: ({ href, text }) => `<a href="${escape(href)}">image: ${escape(text || "untitled")} (${escape(href)})</a>`,
  },
});

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.removeAttribute("title");
  if (!node.hasAttribute("href")) return;
  node.setAttribute("title", node.getAttribute("href")); // where it goes, whatever its words say
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const tags = "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul";
const PROSE = {
  ALLOWED_TAGS: tags.split(" "),
  ALLOWED_ATTR: ["align", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ADD_URI_SAFE_ATTR: ["align", "start"], // else they would have to look like addresses
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
const COLOURS = { ...PROSE, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] };

/** `links` holds the definitions ("[1]: address") that other blocks made, and gets those of this one. */
function prose(source, links) {
  let part;
  try {
    const lexer = new marked.Lexer(marked.defaults);
    lexer.tokens.links = links;
    part = purifier.sanitize(marked.parser(lexer.lex(source), marked.defaults), PROSE);
  } catch {
    return h("p", { class: "ic-plain", text: source }); // nested too deep
  }
  for (const code of part.querySelectorAll("pre > code")) {
    const block = new Code(code.title);
    block.append(code.textContent);
    block.finish();
    code.parentNode.replaceWith(block.el);
  }
  for (const link of part.querySelectorAll("a:not([href])")) link.replaceWith(...link.childNodes); // it led nowhere good
  for (const table of part.querySelectorAll("table")) {
    const frame = h("div", { class: "ic-table", tabindex: "0", role: "group", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return part;
}

const whenIdle = window.requestIdleCallback ? (task) => requestIdleCallback(task, { timeout: 500 }) : (task) => setTimeout(task, 30);

/** Text that only grows; laid out in pieces, so that a long one costs no more than its end. */
export class Growing {
  constructor(el) {
    this.el = el;
    this.size = 0;
    this.piece = null;
    this.rest = document.createTextNode("");
  }
  append(text) {
    if (!text) return;
    if (!this.piece || (this.filled > 4000 && this.ended)) {
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
  end(text) {
    if (!this.rest.parentNode) this.el.append(this.rest);
    if (this.rest.data !== text) this.rest.data = text;
  }
}

/** A block of code with its bar of buttons, which panel.js listens to. */
class Code {
  constructor(info) {
    this.language = (info.trim().split(/[\s{,]/)[0] ?? "").slice(0, 24);
    this.code = h("code");
    this.text = new Growing(this.code);
    this.el = h("div", { class: "ic-code", "data-language": this.language.toLowerCase() },
      h("div", { class: "ic-bar" },
        h("span", { class: "ic-language", text: this.language || "text" }),
        iconButton("insert", "Insert as a new cell", null, { "data-code": "insert" }),
        iconButton("copy", "Copy code", null, { "data-code": "copy" })),
      h("pre", { tabindex: "0", role: "group", "aria-label": `Code${this.language && `, ${this.language}`}` }, this.code));
  }
  append(text) {
    this.text.append(text);
  }
  finish() {
    this.text.end("");
    if (this.text.size <= COLOURED && hljs.getLanguage(this.language)) whenIdle(() => this.colour());
  }
  colour() {
    const source = this.code.textContent;
    if (/.{1000}/.test(source) || tricks > 4) return;
    const began = performance.now();
    try {
      const { value } = hljs.highlight(source, { language: this.language, ignoreIllegals: true });
      if (performance.now() - began > TRICKY) tricks++;
      this.code.replaceChildren(purifier.sanitize(value, COLOURS));
    } catch {
      this.code.textContent = source;
    }
  }
}

const copyOf = (links) => Object.assign(Object.create(null), links);
const FENCE = /^( {0,3})(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const ITEM = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)/;

/** An answer while it grows: finished blocks are drawn once, only the last one again at each frame. */
export class Flow {
  constructor(el) {
    this.el = el;
    this.text = "";
    this.reset();
  }
  reset(links) {
    this.live = h("div", { class: "ic-live" });
    this.el.replaceChildren(this.live);
    this.start = this.pos = 0; // where the open block begins, how far lines were read
    this.fence = this.code = null; // the open fence; its block, if it is no part of a list
    this.list = this.blank = this.inLine = this.ended = false;
    this.head = "";
    this.again = !!links;
    this.links = links ?? copyOf();
  }
  /** Draws what is new, until `deadline`; false if something is left. */
  draw(text, done, deadline) {
    if (!text.startsWith(this.text) || (this.ended && !(done && text === this.text))) this.reset();
    this.text = text;
    while (this.pos < text.length) {
      let end = text.indexOf("\n", this.pos);
      if ((end < 0 ? text.length : end) - this.pos > LONG) this.cutLine();
      else if (end >= 0) this.line(text.slice(this.pos, end), end + 1);
      else if (done) this.line(text.slice(this.pos), text.length);
      else break;
      if (performance.now() > deadline) return false;
    }
    if (done) this.finish();
    else if (this.code) this.code.text.end(/^ {0,3}[`~]*$/.test(text.slice(this.pos)) ? "" : text.slice(this.pos));
    else this.live.replaceChildren(prose(this.head + text.slice(this.start), copyOf(this.links))); // a definition may be half there
    return true;
  }
  line(line, next) {
    const from = this.pos;
    const [, indent, mark, info] = FENCE.exec(line) ?? [];
    this.pos = next;
    if (this.fence && !this.inLine && mark?.startsWith(this.fence) && !info.trim()) return this.closeFence();
    this.inLine = false;
    if (this.code) return this.code.append(this.text.slice(from, next));
    if (this.breaksBefore(line, from - this.start)) this.freeze(from, line.startsWith("|") ? this.tableHead() : "");
    if (this.fence) return;
    this.blank = !line.trim();
    if (mark && !(this.list && indent)) return this.openFence(from, mark, info);
    this.fence = mark;
    this.list ||= ITEM.test(line);
  }
  breaksBefore(line, size) {
    if (this.fence) return false; // code in a list stays whole
    if (size > (this.list || line.startsWith("|") ? LONG_ROWS : LONG)) return true;
    if (!size || this.fence || /^(?:\s|$)/.test(line)) return false;
    if (this.list && ITEM.test(line)) return size > LONG_ROWS / 2;
    return this.blank || /^#{1,6} /.test(line);
  }
  openFence(from, mark, info) {
    this.freeze(from);
    this.fence = mark;
    this.code = new Code(info);
    this.live.before(this.code.el);
    this.start = this.pos;
  }
  closeFence() {
    this.fence = null;
    this.blank = false;
    if (!this.code) return;
    this.code.finish();
    this.code = null;
    this.start = this.pos;
  }
  /** A line without an end is not waited for. */
  cutLine() {
    const space = this.text.lastIndexOf(" ", this.pos + LONG);
    let cut = space > this.pos ? space + 1 : this.pos + LONG;
    if (/[\ud800-\udbff]/.test(this.text[cut - 1])) cut--;
    if (this.code) this.code.append(this.text.slice(this.pos, cut));
    else this.freeze(this.pos);
    this.pos = cut;
    this.inLine = !!this.code;
    if (!this.code) this.freeze(cut);
  }
  /** The rest of a table that is cut gets its head, too. */
  tableHead() {
    return /^\|.*\n\|[ :|-]+\n/.exec(this.head + this.text.slice(this.start, this.start + 2000))?.[0] ?? "";
  }
  freeze(to, head = "") {
    const source = this.text.slice(this.start, to);
    if (source.trim()) this.live.before(prose(this.head + source, this.links));
    this.head = head;
    this.live.replaceChildren();
    this.start = to;
    this.list = this.blank = false;
    this.fence = null;
  }
  finish() {
    if (this.ended) return;
    if (this.code) this.closeFence();
    this.freeze(this.text.length);
    this.ended = true;
    // a definition may come after the block that needs it
    const count = Object.keys(this.links).length;
    if (this.again || !count || count > 100 || this.text.length > 100_000) return;
    this.reset(this.links);
    this.draw(this.text, true, Infinity);
  }
}
