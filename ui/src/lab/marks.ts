/** What stands out in a `%%chat` cell. */

export const MAX = 50_000; // characters of a cell that is looked at
const BEGIN = /^%%chat(?=\s|$)/;
const FLAG = /(?<=\s)--?[A-Za-z][\w-]*/g;
const EXPRESSION = /\{\{.*?\}\}+/gs;
const MENTION = /(?<=^|\s)@[\w:./-]*\w/gm;

export type Kind = "magic" | "flag" | "expression" | "mention";

export interface Mark {
  from: number;
  to: number;
  kind: Kind;
}

/** What stands out in a `%%chat` cell; null in any other. */
export function marked(source: string): Mark[] | null {
  const begin = BEGIN.exec(source);
  if (!begin || source.length > MAX) return null;
  const found: Mark[] = [{ from: 0, to: begin[0].length, kind: "magic" }];
  const end = source.includes("\n") ? source.indexOf("\n") : source.length;
  const add = (kind: Kind, pattern: RegExp, text: string, offset = 0) => {
    for (const { index, 0: word } of text.matchAll(pattern))
      found.push({ from: offset + index, to: offset + index + word.length, kind });
  };
  add("flag", FLAG, source.slice(0, end));
  add("expression", EXPRESSION, source);
  const taken = found.filter(({ kind }) => kind === "expression");
  add("mention", MENTION, source.slice(end), end);
  return found
    .filter(
      (one) => one.kind !== "mention" || !taken.some(({ from, to }) => from <= one.from && one.from < to),
    )
    .sort((one, other) => one.from - other.from);
}
