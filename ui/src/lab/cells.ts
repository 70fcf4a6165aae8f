/** Cells of the notebook in front: put below the one that is worked in, found again, read. */
import type { Cell, ICodeCellModel } from "@jupyterlab/cells";
import { NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";

const LONGEST = 8_000; // characters of a cell's output that go along

/** Puts a cell below the one that the user works in, and the focus into it. */
export function insertBelow({ content }: NotebookPanel, source: string): Cell | null {
  const shared = content.model?.sharedModel;
  if (!shared) return null;
  const index = Math.max(content.activeCellIndex, -1) + 1;
  shared.insertCell(index, { cell_type: "code", source });
  content.activeCellIndex = index;
  content.deselectAll();
  content.mode = "edit";
  const cell = content.activeCell;
  const focus = () => cell?.editor?.focus();
  void content.scrollToItem(index).then(focus, focus); // another scroll may come in between
  return cell;
}

/** Puts a cell below the one that is worked in, and runs it. */
export async function runBelow(notebook: NotebookPanel, source: string): Promise<void> {
  insertBelow(notebook, source);
  await NotebookActions.run(notebook.content, notebook.sessionContext);
}

/** Whether a cell asks a model. */
export const isQuestion = (source: string) => /^\s*%{1,2}chat\b/.test(source);

/** Whether a cell's answer has more to say: the kernel writes below it how to go on, or that it was stopped. */
export const isCutOff = (cell: Cell) =>
  isQuestion(cell.model.sharedModel.getSource()) &&
  /%chat_continue|"cut off"|Stopped: what came is kept/.test(
    JSON.stringify(cell.model.toJSON().outputs ?? ""),
  );

interface Output {
  data?: Record<string, string | string[]>;
  text?: string | string[];
  traceback?: string[];
}

/** What a cell has put out, as text: the error's traceback, too. */
export function outputOf(cell: Cell): string {
  if (cell.model.type !== "code") return "";
  const { outputs } = cell.model as ICodeCellModel;
  const texts: string[] = [];
  for (let index = 0; index < outputs.length; index++) {
    const { data, text, traceback } = outputs.get(index).toJSON() as Output;
    if (traceback) texts.push(traceback.join("\n"));
    else texts.push([text ?? data?.["text/plain"] ?? ""].flat().join(""));
  }
  const text = texts.join("\n").replace(/\x1b\[[\d;]*m/g, "");
  return text.length > LONGEST ? `…${text.slice(-LONGEST)}` : text; // what failed stands last
}

/** What a cell is called where it goes along with a question. */
export function nameOf(notebook: NotebookPanel, cell: Cell): string {
  const { executionCount } = cell.model as ICodeCellModel;
  return executionCount ? `In [${executionCount}]` : `cell ${notebook.content.widgets.indexOf(cell) + 1}`;
}

/** A cell as it goes along with a question. */
export const along = (notebook: NotebookPanel, cell: Cell) => ({
  kind: "cell" as const,
  name: nameOf(notebook, cell),
  source: cell.model.sharedModel.getSource(),
  output: outputOf(cell),
});
