/** Mathematics: where it stands in Markdown, and how it is typeset. The rules are those of markup.py. */
import katex from "katex";
import type MarkdownIt from "markdown-it";
import * as safe from "./safe";

// macros that make links, load files, or set attributes and styles freely
const UNSAFE =
  /\\(?:href|url|style|class|cssId|data|html|require|includegraphics|bbox|fcolorbox|mmlToken|unicode)/;
const LONGEST = 5_000; // characters that are typeset

const INLINE =
  /\$\$(?<display>(?:[^$\\]|\\[^]|\$(?!\$))+)\$\$|(?<![0-9])\$(?![\s$])(?<inline>(?:[^$\\]|\\[^])+)(?<!\s)\$(?![0-9])|\\\[(?<square>(?:[^\\]|\\[^[\]])+)\\\]|\\\((?<round>(?:[^\\]|\\[^()])+)\\\)/y;
const LOOKS_LIKE_TEX = /[\\^_={}+<>]/;
const CLOSERS: Record<string, RegExp> = { $$: /\$\$/, "\\[": /(?<!\\)(?:\\\\)*\\\]/ };

export function withMath(md: MarkdownIt): void {
  md.inline.ruler.before("escape", "math_inline", (state, silent) => {
    INLINE.lastIndex = state.pos;
    const match = INLINE.exec(state.src);
    if (!match?.groups || match.index + match[0].length > state.posMax) return false;
    const { display, inline, square, round } = match.groups;
    if (square !== undefined && !LOOKS_LIKE_TEX.test(square)) return false; // escaped brackets around words
    if (!silent) {
      const token = state.push("math", "math", 0);
      token.content = display ?? inline ?? square ?? round ?? "";
      token.markup = display !== undefined || square !== undefined ? "$$" : "$";
    }
    state.pos += match[0].length;
    return true;
  });
  md.block.ruler.before(
    "fence",
    "math_block",
    (state, line, end, silent) => {
      const begin = (state.bMarks[line] ?? 0) + (state.tShift[line] ?? 0);
      const opener = state.src.slice(begin, begin + 2);
      const closer = CLOSERS[opener];
      if (!closer || (state.sCount[line] ?? 0) - state.blkIndent >= 4) return false;
      const lines: string[] = [];
      for (let next = line; next < end; next++) {
        if (state.isEmpty(next) || (state.sCount[next] ?? 0) < state.blkIndent) return false;
        const at = (state.bMarks[next] ?? 0) + (state.tShift[next] ?? 0);
        const text = state.src.slice(at, state.eMarks[next]);
        const rest = next === line ? text.slice(2) : text;
        if (next > line && opener === "\\[" && text.startsWith(opener)) return false;
        lines.push(text);
        const close = closer.exec(rest);
        if (!close) continue;
        const after = rest.slice(close.index + close[0].length);
        if (after.trim() || (next === line && close.index === 0)) return false;
        if (silent) return true;
        const token = state.push("math", "math", 0);
        token.block = true;
        token.content = lines.join("\n").trimEnd().slice(2, -2);
        token.markup = "$$";
        token.map = [line, next + 1];
        state.line = next + 1;
        return true;
      }
      return false;
    },
    { alt: ["paragraph", "reference", "blockquote", "list"] },
  );
}

/** Typesets TeX; null where it could do more than typeset, or is none. */
export function formula(tex: string, display: boolean): Node | null {
  if (UNSAFE.test(tex) || tex.length > LONGEST || (!display && tex.includes("$"))) return null;
  try {
    const html = katex.renderToString(tex, {
      displayMode: display,
      trust: false,
      strict: "ignore",
      maxSize: 50, // em
      maxExpand: 300,
    });
    return safe.formula(html);
  } catch {
    return null;
  }
}
