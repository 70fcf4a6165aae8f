/** Markdown of a model, who may be hostile, as DOM. */
import { Marked, type TokensList } from "marked";
import { h } from "../dom";
import { Code } from "./code";
import * as safe from "./safe";

/** Definitions of links ("[1]: address"), by their labels. */
export type Links = TokensList["links"];

const escape = (text: string) => text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
const MATH = /^(?:\\\(.{1,999}?\\\)|\\\[[^]{1,1999}?\\\]|\$\$[^]{1,1999}?\$\$)/;

const marked = new Marked({
  extensions: [
    {
      name: "math", // shown as it was written, not eaten by * and _
      level: "inline",
      start: (src) => src.indexOf("$$"),
      tokenizer(src) {
        const raw = MATH.exec(src)?.[0];
        return raw ? { type: "math", raw } : undefined;
      },
      renderer: ({ raw }) => `<code>${escape(raw)}</code>`,
    },
  ],
  tokenizer: {
    html: () => undefined, // no token: the text stays text, and is escaped
    tag(src) {
      const raw = /^<br ?\/?>/i.exec(src)?.[0];
      return raw ? ({ type: "br", raw } as never) : undefined;
    },
  },
  renderer: {
    code: ({ text, lang }) => `<pre><code title="${escape(lang ?? "")}">${escape(text)}</code></pre>`,
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    image: ({ href, text }) =>
      `<a href="${escape(href)}">image: ${escape(text || "untitled")} (${escape(href)})</a>`,
  },
});

export const copyOf = (links: Links): Links => Object.assign(noLinks(), links);
export const noLinks = (): Links => Object.create(null) as Links;

/** `links` holds the definitions that other blocks made, and gets those of this one. */
export function prose(source: string, links: Links): Node {
  let part: DocumentFragment;
  try {
    const lexer = new marked.Lexer(marked.defaults);
    lexer.tokens.links = links;
    part = safe.prose(marked.parser(lexer.lex(source), marked.defaults));
  } catch {
    return h("p", { class: "ic-plain", text: source }); // nested too deep
  }
  for (const code of part.querySelectorAll<HTMLElement>("pre > code")) {
    const block = new Code(code.title);
    block.append(code.textContent);
    block.finish();
    code.parentElement?.replaceWith(block.el);
  }
  for (const link of part.querySelectorAll("a:not([href])")) link.replaceWith(...link.childNodes); // it led nowhere good
  for (const table of part.querySelectorAll("table")) {
    const frame = h("div", { class: "ic-table", tabindex: 0, role: "group", "aria-label": "Table" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return part;
}
