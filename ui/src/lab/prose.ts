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
import { type Kind, marked, MAX } from "./marks";

const prose = Decoration.line({ class: "ipychat-prose" });
const marks: Record<Kind, Decoration> = {
  magic: Decoration.mark({ class: "ipychat-magic" }),
  flag: Decoration.mark({ class: "ipychat-flag" }),
  expression: Decoration.mark({ class: "ipychat-expression" }),
  mention: Decoration.mark({ class: "ipychat-mention" }),
};

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
