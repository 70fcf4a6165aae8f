/** `%%chat` cells shown as what they are: prose, with flags and `{{expressions}}` told apart. */
import { RangeSetBuilder, type Extension, type Text } from "@codemirror/state";
import {
  Decoration,
  type DecorationSet,
  type EditorView,
  ViewPlugin,
  type ViewUpdate,
} from "@codemirror/view";
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { EditorExtensionRegistry, IEditorExtensionRegistry } from "@jupyterlab/codemirror";

const MAX = 50_000; // characters of a cell that is looked at
const BEGIN = /^%%chat(?=\s|$)/;
const FLAG = /(?<=\s)--?[A-Za-z][\w-]*/g;
const EXPRESSION = /\{\{.*?\}\}+/gs;
const MENTION = /(?<=^|\s)@[\w:./-]*\w/gm;

const prose = Decoration.line({ class: "ipychat-prose" });
const marks = {
  magic: Decoration.mark({ class: "ipychat-magic" }),
  flag: Decoration.mark({ class: "ipychat-flag" }),
  expression: Decoration.mark({ class: "ipychat-expression" }),
  mention: Decoration.mark({ class: "ipychat-mention" }),
};

export interface Mark {
  from: number;
  to: number;
  kind: keyof typeof marks;
}

/** What stands out in a `%%chat` cell; null in any other. */
export function marked(source: string): Mark[] | null {
  const begin = BEGIN.exec(source);
  if (!begin || source.length > MAX) return null;
  const found: Mark[] = [{ from: 0, to: begin[0].length, kind: "magic" }];
  const end = source.includes("\n") ? source.indexOf("\n") : source.length;
  const add = (kind: Mark["kind"], pattern: RegExp, text: string, offset = 0) => {
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

function decorate(doc: Text): DecorationSet {
  const found = doc.sliceString(0, 6) === "%%chat" ? marked(doc.sliceString(0, MAX + 1)) : null;
  if (!found) return Decoration.none;
  const builder = new RangeSetBuilder<Decoration>();
  let next = 0;
  for (let number = 1; number <= doc.lines; number++) {
    const line = doc.line(number);
    builder.add(line.from, line.from, prose);
    for (let mark = found[next]; mark && mark.from <= line.to; mark = found[++next])
      builder.add(mark.from, mark.to, marks[mark.kind]);
  }
  return builder.finish();
}

const shown: Extension = ViewPlugin.fromClass(
  class {
    decorations: DecorationSet;
    constructor(view: EditorView) {
      this.decorations = decorate(view.state.doc);
    }
    update({ docChanged, state }: ViewUpdate) {
      if (docChanged) this.decorations = decorate(state.doc);
    }
  },
  { decorations: ({ decorations }) => decorations },
);

export const proseCells: JupyterFrontEndPlugin<void> = {
  id: "jupyter-ipychat:prose",
  description: "Shows %%chat cells as prose.",
  autoStart: true,
  requires: [IEditorExtensionRegistry],
  activate: (_app: JupyterFrontEnd, extensions: IEditorExtensionRegistry) => {
    extensions.addExtension({
      name: "ipychat:prose",
      factory: () => EditorExtensionRegistry.createImmutableExtension(shown),
    });
  },
};
