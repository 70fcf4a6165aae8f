/** What an answer offers that has just come: *Keep* in a race, *Continue* where it was cut off. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, NotebookActions } from "@jupyterlab/notebook";
import { h } from "../dom";
import { isCutOff, runBelow } from "./cells";

export const offers: JupyterFrontEndPlugin<void> = {
  id: "jupyter-ipychat:offers",
  description: "Offers to keep an answer of a race, and to continue one that was cut off.",
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_app: JupyterFrontEnd, tracker: INotebookTracker) => {
    NotebookActions.executed.connect((_, { notebook, cell }) => {
      const panel = tracker.find(({ content }) => content === notebook);
      if (!panel) return;
      // what came before is no longer the last answer, nor of the last race
      for (const old of notebook.node.querySelectorAll(".ipychat-offer")) old.remove();
      const offer = (text: string, label: string, line: string) => {
        const onclick = () => {
          notebook.activeCellIndex = notebook.widgets.indexOf(cell);
          void runBelow(panel, line);
        };
        return h("button", { type: "button", class: "ipychat-offer", text, "aria-label": label, onclick });
      };
      const answers = [...(cell.node.querySelector(".ipychat-race")?.children ?? [])];
      answers.forEach((answer, index) =>
        answer.append(offer("Keep", `Keep answer ${index + 1}`, `%chat_keep ${index + 1}`)),
      );
      const [last] = [...cell.node.querySelectorAll(".jp-OutputArea-output")].slice(-1);
      if (!answers.length && isCutOff(cell))
        last?.append(offer("Continue", "Continue the answer", "%chat_continue"));
    });
  },
};
