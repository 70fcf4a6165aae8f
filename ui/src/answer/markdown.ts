/**
 * Markdown of a model, who may be hostile, as DOM.
 *
 * The parser is the one that markup.py uses, with the same rules, so that what a notebook shows without
 * this page says the same.
 */
import MarkdownIt from "markdown-it";
import { h } from "../dom";
import { Code } from "./code";
import * as safe from "./safe";
import { formula, withMath } from "./tex";

/** What the blocks of one answer know of each other: definitions of links ("[1]: address"). */
export interface Links {
  references: Record<string, { href: string; title: string }>;
}

const LINK = /^(?:https?:\/\/|mailto:)[^\s\\]/i;
const BREAK = /<br ?\/?>/iy; // the one tag that models write in tables
const TASK = /^\[([ xX])\][ \t]/;
const NOTE = /^\[\^([^\]\s[]{1,40})\]:[ \t]+/;
const NOTED = /\[\^([^\]\s[]{1,40})\]/y;

// a paragraph that no one writes is shown as it stands: looking for marks in it takes too long
const PARAGRAPH = 30_000; // characters
const BRACKETS = 2_000;

const md = new MarkdownIt("default", { html: false, linkify: false, typographer: false });
withMath(md);
md.validateLink = (url) => LINK.test(url) || safe.PICTURE.test(url);
const { escapeHtml } = md.utils;

md.inline.ruler.before("text", "crowded", (state, silent) => {
  if (state.pos || silent) return false;
  const size = state.src.replace(/\(data:image\/[^)\s]*\)/g, "").length;
  if (size <= PARAGRAPH && state.src.split("[").length <= BRACKETS + 1) return false;
  state.pending += state.src;
  state.pos = state.posMax;
  return true;
});
md.inline.ruler.before("link", "break", (state, silent) => {
  BREAK.lastIndex = state.pos;
  const [all] = BREAK.exec(state.src) ?? [];
  if (!all) return false;
  if (!silent) state.push("hardbreak", "br", 0);
  state.pos += all.length;
  return true;
});
md.inline.ruler.before("link", "note", (state, silent) => {
  NOTED.lastIndex = state.pos;
  const [all, label] = NOTED.exec(state.src) ?? [];
  if (!all || !label) return false;
  if (!silent) state.push("note", "sup", 0).content = label;
  state.pos += all.length;
  return true;
});
md.block.ruler.before(
  "reference",
  "note",
  (state, line, end, silent) => {
    const text = (at: number) =>
      state.src.slice((state.bMarks[at] ?? 0) + (state.tShift[at] ?? 0), state.eMarks[at]);
    if (!NOTE.test(text(line)) || (state.sCount[line] ?? 0) - state.blkIndent >= 4) return false;
    if (silent) return true;
    let next = line + 1;
    const others = md.block.ruler.getRules("paragraph");
    while (next < end && !state.isEmpty(next) && !others.some((rule) => rule(state, next, end, true))) next++;
    const lines = Array.from({ length: next - line }, (_, index) => text(line + index).trim());
    state.push("paragraph_open", "p", 1).map = [line, next];
    const inline = state.push("inline", "", 0);
    inline.content = lines.join("\n").replace(/^(\[[^\]]*\]):/, "$1");
    inline.map = [line, next];
    inline.children = [];
    state.push("paragraph_close", "p", -1);
    state.line = next;
    return true;
  },
  { alt: ["paragraph"] },
);
md.core.ruler.after("inline", "tasks", ({ tokens }) => {
  tokens.forEach(({ children }, index) => {
    const [first] = children ?? [];
    const task = first?.type === "text" && TASK.exec(first.content);
    if (!task || tokens[index - 2]?.type !== "list_item_open") return;
    first.content = `${task[1] === " " ? "☐" : "☑"} ${first.content.slice(task[0].length)}`;
  });
});

const { rules } = md.renderer;
rules.note = (tokens, index) => `<sup>${escapeHtml(tokens[index]?.content ?? "")}</sup>`;
// what becomes an element of our own is code with a title, which Markdown cannot write
rules.fence = rules.code_block = (tokens, index) => {
  const { info = "", content = "" } = tokens[index] ?? {};
  return `<pre><code title="${escapeHtml(info)}">${escapeHtml(content)}</code></pre>\n`;
};
rules.math = (tokens, index) => {
  const { markup = "", content = "", block = false } = tokens[index] ?? {};
  const code = `<code title="${markup}">${escapeHtml(content)}</code>`;
  return block ? `<p>${code}</p>\n` : code;
};
rules.image = (tokens, index, options, env) => {
  const token = tokens[index];
  const address = token?.attrGet("src") ?? "";
  const alt = md.renderer.renderInlineAsText(token?.children ?? [], options, env);
  if (safe.PICTURE.test(address)) return `<img src="${escapeHtml(address)}" alt="${escapeHtml(alt)}">`;
  const link = `<a href="${escapeHtml(address)}">${escapeHtml(address)}</a>`;
  return alt.trim() ? `${escapeHtml(alt)} (${link})` : link;
};
rules.heading_open = (tokens, index) => `<h${level(tokens[index]?.tag)}>`;
rules.heading_close = (tokens, index) => `</h${level(tokens[index]?.tag)}>\n`;
rules.th_open = rules.td_open = (tokens, index) => {
  const { tag = "td", attrs } = tokens[index] ?? {};
  const side = /^text-align:(\w+)$/.exec(attrs?.[0]?.[1] ?? "")?.[1];
  return side ? `<${tag} align="${side}">` : `<${tag}>`;
};

/** The page and its sections have headings of their own. */
const level = (tag = "h6") => Math.min(Number(tag[1]) + 2, 6);

export const noLinks = (): Links => ({ references: {} });
export const copyOf = ({ references }: Links): Links => ({ references: { ...references } });

/** `links` holds the definitions that other blocks made, and gets those of this one. */
export function prose(source: string, links: Links): Node {
  const part = safe.prose(md.render(source, links));
  for (const code of part.querySelectorAll<HTMLElement>("pre > code")) {
    const block = new Code(code.title);
    block.append(code.textContent);
    block.finish();
    code.parentElement?.replaceWith(block.el);
  }
  for (const code of part.querySelectorAll<HTMLElement>("code[title]")) {
    const math = formula(code.textContent, code.title === "$$");
    code.removeAttribute("title");
    if (math) code.replaceWith(math);
  }
  for (const link of part.querySelectorAll("a:not([href])")) link.replaceWith(...link.childNodes); // it led nowhere good
  for (const item of part.querySelectorAll("li"))
    if (/^\s*[☐☑] /.test(item.textContent)) item.className = "ic-task";
  for (const table of part.querySelectorAll("table")) {
    const frame = h("div", { class: "ic-table", tabindex: 0, role: "group", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return part;
}

const UNDONE = /`+|\$\$|\\[()[\]]/g;
const CLOSES: Record<string, string> = { $$: "$$", "\\(": "\\)", "\\[": "\\]" };

/** What of a growing block can be drawn: half a formula, fence, picture's address or table's row waits. */
export function settled(block: string): string {
  let text = block.replace(/!\[[^\]\n]*\]\([^)\s]*$|(?<![^\n]) {0,3}(?:`{1,3}|~{1,3})[^\n`]*$/, "");
  let opened = "";
  let at = 0;
  for (const { 0: mark, index } of text.matchAll(UNDONE)) {
    if (opened ? mark === (CLOSES[opened] ?? opened) : CLOSES[mark] || mark.startsWith("`")) {
      opened = opened ? "" : mark;
      at = index;
    }
  }
  if (opened && !opened.startsWith("`")) text = text.slice(0, at);
  else if (!opened) text = text.replace(/(?<![0-9$\\])\$(?=[\\A-Za-z({])[^$\n]{0,60}$/, "");
  const table = /(?:^|\n)((?:[ ]{0,3}\|[^\n]*(?:\n|$))+)$/.exec(text)?.[1];
  if (table === undefined) return text;
  const rows = table.split("\n");
  const whole = rows.length > 2 && /^[ |:-]+$/.test(rows[1] ?? "");
  return text.slice(0, text.length - (whole ? (rows.at(-1) ?? "") : table).length);
}
