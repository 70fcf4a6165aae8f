/** Draws answers in the outputs of cells, from their text. */
import type { JupyterFrontEndPlugin } from "@jupyterlab/application";
import { INotebookTracker, type NotebookPanel } from "@jupyterlab/notebook";
import { IRenderMimeRegistry } from "@jupyterlab/rendermime";
import type { IRenderMime } from "@jupyterlab/rendermime-interfaces";
import { Widget } from "@lumino/widgets";
import { AnswerView } from "../answer/answer";
import { type Answer, MIME, parse } from "../answer/payload";
import { foreign } from "../answer/safe";
import { useCode } from "../answer/use";

const BUDGET = 12; // milliseconds of a frame for drawing

/** The output in which an answer grows; what is told to the outputs below it is drawn there. */
const growing = new Map<string, Output>();

class Output extends Widget implements IRenderMime.IRenderer {
  private view: AnswerView | null = null;
  private live: string | undefined;
  private answer: Answer | null = null;
  private frame = 0;
  private drawn: (() => void) | undefined;

  constructor(private readonly insert: (source: string, near: Element) => boolean) {
    super();
    this.addClass("ic-output");
    this.node.addEventListener("click", (event) => {
      const insert = (source: string) => this.insert(source, this.node);
      void useCode(event, { insert, say: (text) => this.view?.say(text) });
    });
  }

  /** Called again for each update of the output. */
  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const answer = parse(model.data[MIME]);
    if (!answer || !AnswerView.knows(answer)) return this.drawForeign(model.data["text/html"]);
    const owner = answer.live === undefined ? this : (growing.get(answer.live) ?? this);
    this.toggleClass("ic-elsewhere", owner !== this);
    if (owner !== this) {
      this.leave();
      return owner.take(answer);
    }
    return this.take(answer);
  }

  override dispose(): void {
    this.leave();
    cancelAnimationFrame(this.frame);
    super.dispose();
  }

  private leave() {
    if (this.live !== undefined && growing.get(this.live) === this) growing.delete(this.live);
    this.live = undefined;
  }

  private take(answer: Answer): Promise<void> {
    if (answer.live !== undefined) growing.set((this.live = answer.live), this);
    else this.leave();
    this.answer = answer;
    if (!this.view) {
      this.view = new AnswerView();
      this.node.replaceChildren(this.view.el);
    }
    return this.draw();
  }

  /** Draws now what a frame has time for, and the rest in the next ones. */
  private draw(): Promise<void> {
    cancelAnimationFrame(this.frame);
    this.drawn?.();
    if (!this.view || !this.answer) return Promise.resolve();
    if (this.view.draw(this.answer, performance.now() + BUDGET)) return Promise.resolve();
    return new Promise((resolve) => {
      this.drawn = resolve;
      this.frame = requestAnimationFrame(() => void this.draw().then(resolve));
    });
  }

  private drawForeign(html: unknown) {
    this.leave();
    this.view = null;
    const text = Array.isArray(html) ? html.join("") : html;
    this.node.replaceChildren(foreign(typeof text === "string" ? text : ""));
  }
}

/** Puts a cell below the one that holds `near`, and goes into it. */
function insertBelow(panel: NotebookPanel | undefined, source: string, near: Element): boolean {
  if (!panel?.model) return false;
  const { content } = panel;
  const at = content.widgets.findIndex((cell) => cell.node.contains(near));
  const index = (at < 0 ? content.activeCellIndex : at) + 1;
  panel.model.sharedModel.insertCell(index, { cell_type: "code", source, metadata: { trusted: true } });
  content.activeCellIndex = index;
  content.deselectAll();
  content.mode = "edit";
  return true;
}

export const answers: JupyterFrontEndPlugin<void> = {
  id: "jupyter-ipychat:answers",
  description: "Draws answers in the outputs of cells.",
  autoStart: true,
  requires: [IRenderMimeRegistry],
  optional: [INotebookTracker],
  activate: (_app, rendermime: IRenderMimeRegistry, notebooks: INotebookTracker | null) => {
    const insert = (source: string, near: Element) =>
      insertBelow(
        notebooks?.find((panel) => panel.node.contains(near)),
        source,
        near,
      );
    rendermime.addFactory({
      safe: true,
      mimeTypes: [MIME],
      defaultRank: 40,
      createRenderer: () => new Output(insert),
    });
  },
};
