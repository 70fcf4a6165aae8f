/** The plug-in of the panel at the side, and of the commands that lead to it. */
import { ILayoutRestorer, type JupyterFrontEnd, type JupyterFrontEndPlugin } from "@jupyterlab/application";
import { ICommandPalette } from "@jupyterlab/apputils";
import type { Cell } from "@jupyterlab/cells";
import { INotebookTracker, NotebookActions, type NotebookPanel } from "@jupyterlab/notebook";
import { ISettingRegistry } from "@jupyterlab/settingregistry";
import { along, isCutOff, isQuestion, runBelow } from "./cells";
import { Connection } from "./connection";
import { Dock, icon } from "./dock";
import { Reminder } from "./reminder";

const ID = "jupyter-ipychat:plugin"; // whose settings schema/plugin.json describes
const CATEGORY = "Chat";
const EXPLAIN = "Explain this error: what went wrong, and where?";

function activate(
  app: JupyterFrontEnd,
  tracker: INotebookTracker,
  palette: ICommandPalette | null,
  restorer: ILayoutRestorer | null,
  registry: ISettingRegistry | null,
) {
  const settle = ({ composite }: ISettingRegistry.ISettings) => {
    document.body.classList.toggle("ipychat-no-prose", composite.prose === false);
    document.body.classList.toggle("ipychat-no-errors", composite.errorButtons === false);
  };
  void registry?.load(ID).then((settings) => {
    settle(settings);
    settings.changed.connect(settle);
  });

  const dock = new Dock();
  const connections = new Map<NotebookPanel, Connection>();
  const show = () => {
    dock.follow(tracker.currentWidget);
    app.shell.activateById(dock.id);
  };

  const decide = (notebook: NotebookPanel) => {
    const connection = connections.get(notebook);
    if (!connection?.cards.waiting.size || connection.inCells.focus()) return;
    show();
  };

  app.shell.add(dock, "right", { rank: 900, type: "Chat" });
  restorer?.add(dock, dock.id);
  tracker.widgetAdded.connect((_, notebook) => {
    const connection = new Connection(notebook);
    new Reminder(notebook, connection.cards, () => {
      if (tracker.currentWidget !== notebook) app.shell.activateById(notebook.id);
      decide(notebook);
    });
    connections.set(notebook, connection);
    notebook.disposed.connect(() => connections.delete(notebook));
    connection.changed.connect(anew);
    connection.wanted.connect((_, chat) => {
      show();
      dock.desk?.follow(chat);
    });
    dock.add(connection);
  });
  tracker.currentChanged.connect((_, notebook) => dock.follow(notebook));
  const anew = () => app.commands.notifyCommandChanged(); // what they are of, or its output, has changed
  tracker.activeCellChanged.connect(anew);
  NotebookActions.executed.connect((_, { notebook, cell }) => {
    anew();
    const panel = tracker.find(({ content }) => content === notebook);
    // only a cell that names it can have loaded it: another is no reason to ask the kernel
    if (panel && cell.model.sharedModel.getSource().includes("ipychat")) void connections.get(panel)?.open();
  });

  // the panel in an output, whose kernel was restarted
  document.addEventListener("ipychat:again", (event) => {
    const notebook = tracker.currentWidget;
    const index =
      notebook?.content.widgets.findIndex(({ node }) => node.contains(event.target as Node)) ?? -1;
    if (!notebook || index < 0) return;
    event.preventDefault();
    notebook.content.activeCellIndex = index;
    notebook.content.deselectAll();
    void NotebookActions.run(notebook.content, notebook.sessionContext);
  });

  const here = () => {
    const notebook = tracker.currentWidget;
    return notebook && connections.get(notebook)?.state === "open" ? notebook : null;
  };
  const withCell = (act: (notebook: NotebookPanel, cell: Cell) => unknown) => () => {
    const notebook = here();
    const cell = notebook?.content.activeCell;
    return notebook && cell ? act(notebook, cell) : null;
  };
  const hasFailed = () => {
    const cell = here()?.content.activeCell;
    return !!cell?.node.querySelector(".ipychat-failed");
  };

  app.commands.addCommand("ipychat:show", {
    label: "Show the Chat Panel",
    caption: "Show the chat of the notebook in front at the side",
    icon,
    execute: show,
  });
  app.commands.addCommand("ipychat:ask-about-cell", {
    label: "Ask About This Cell",
    caption: "Ask a model about this cell and its output",
    icon,
    isVisible: () => here() !== null,
    isEnabled: () => here() !== null,
    execute: withCell((notebook, cell) => {
      show();
      dock.desk?.ask("", [along(notebook, cell)]);
    }),
  });
  app.commands.addCommand("ipychat:explain", {
    label: "Explain This Error",
    isEnabled: hasFailed,
    execute: withCell((notebook, cell) => {
      show();
      dock.desk?.ask(EXPLAIN, [along(notebook, cell)], { sends: true });
    }),
  });
  app.commands.addCommand("ipychat:fix", {
    label: "Fix This Error",
    caption: "Ask for a corrected cell, and put it below",
    isEnabled: hasFailed,
    execute: withCell(async (notebook) => {
      const { content } = notebook;
      const before = content.widgets.length;
      await runBelow(notebook, "%chat_fix");
      if (content.widgets.length <= before + 1) return;
      content.activeCellIndex += 1; // the corrected cell, to be read and run
      content.mode = "command";
    }),
  });
  app.commands.addCommand("ipychat:continue", {
    label: "Continue the Answer",
    caption: "Go on with this answer, which was cut off",
    isEnabled: () => {
      const cell = here()?.content.activeCell;
      return !!cell && isCutOff(cell);
    },
    execute: withCell((notebook) => runBelow(notebook, "%chat_continue")),
  });
  app.commands.addCommand("ipychat:again", {
    label: "Ask Again",
    caption: "Ask what this cell asks once more",
    isEnabled: withCell((_, cell) => isQuestion(cell.model.sharedModel.getSource())) as () => boolean,
    execute: withCell((notebook) => NotebookActions.run(notebook.content, notebook.sessionContext)),
  });
  app.commands.addCommand("ipychat:decide", {
    label: "Go to the Decision That Waits",
    caption: "Go to the tool call that waits to be allowed or refused",
    isEnabled: () => here() !== null,
    execute: () => {
      const notebook = here();
      if (notebook) decide(notebook);
    },
  });
  for (const command of ["show", "decide", "ask-about-cell", "explain", "fix", "continue", "again"])
    palette?.addItem({ command: `ipychat:${command}`, category: CATEGORY });
}

export const side: JupyterFrontEndPlugin<void> = {
  id: ID,
  description: "Docks the chat panel at the side, on the kernel of the notebook in front.",
  autoStart: true,
  requires: [INotebookTracker],
  optional: [ICommandPalette, ILayoutRestorer, ISettingRegistry],
  activate,
};
