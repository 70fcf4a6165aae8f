/** Two buttons below a traceback: what went wrong, and a corrected cell. */
import type { JupyterFrontEnd, JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker } from "@jupyterlab/notebook";
import { IRenderMimeRegistry, RenderedError } from "@jupyterlab/rendermime";
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { h } from "../dom";
import { isQuestion } from "./cells";

const ERROR = "application/vnd.jupyter.error";
const SHOWN = "application/vnd.jupyter.stderr"; // as what JupyterLab draws and styles it

export const errors: JupyterFrontEndPlugin<void> = {
  id: "jupyter-ipychat:errors",
  description: "Offers to explain and to fix an error, below its traceback.",
  autoStart: true,
  requires: [INotebookTracker, IRenderMimeRegistry],
  activate: (app: JupyterFrontEnd, tracker: INotebookTracker, rendermime: IRenderMimeRegistry) => {
    /** Makes the cell of an element the one that is worked in; then the command is of it. */
    const about = (command: string, node: HTMLElement) => {
      const content = tracker.currentWidget?.content;
      const index = content?.widgets.findIndex((cell) => cell.node.contains(node)) ?? -1;
      if (!content || index < 0) return;
      content.activeCellIndex = index;
      void app.commands.execute(command);
    };
    class Failed extends RenderedError {
      override async render(model: IRenderMime.IMimeModel) {
        await super.render(model);
        this.node.querySelector(".ipychat-failed")?.remove();
        const button = (text: string, command: string) =>
          h("button", { type: "button", text, onclick: () => about(command, this.node) });
        const row = h(
          "div",
          { class: "ipychat-failed", role: "group", "aria-label": "Chat about this error" },
          button("Explain", "ipychat:explain"),
          button("Fix", "ipychat:fix"),
        );
        // where a question failed, no model can be asked what is wrong
        requestAnimationFrame(() => {
          const cell = tracker.currentWidget?.content.widgets.find(({ node }) => node.contains(this.node));
          if (cell && !isQuestion(cell.model.sharedModel.getSource())) this.node.append(row);
        });
      }
    }
    rendermime.addFactory(
      {
        safe: true,
        mimeTypes: [ERROR],
        createRenderer: (options) => new Failed({ ...options, mimeType: SHOWN }),
      },
      100, // an error comes in both forms, and the other has 110
    );
  },
};
