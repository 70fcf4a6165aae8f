/** The panel in an output: a widget, shown by whichever front end knows anywidget. */
import { Cards } from "./card/cards";
import type { Host, Told, Transcript, Wanted } from "./panel/host";
import { Store } from "./panel/store";
import { View } from "./panel/view";

interface Output {
  data?: Record<string, string | string[]>;
}

interface Outputs {
  length: number;
  get(index: number): { toJSON(): Output };
  set(index: number, output: Output): void;
}

interface Cell {
  cell_type: "code";
  source: string;
}

/** JupyterLab's document, where the front end has one and does not hide it. */
interface Notebook {
  cells?: Iterable<{ outputs?: Outputs }>;
  sharedModel?: { cells: unknown[]; insertCell?: (index: number, cell: Cell) => unknown };
}

interface Model {
  get(name: string): unknown;
  on(event: string, listener: (message: Told) => void): void;
  off(event: string, listener: (message: Told) => void): void;
  send(message: Wanted, callbacks: undefined, buffers: Uint8Array[]): void;
  widget_manager?: { context?: { model?: Notebook } };
}

interface Props {
  model: Model;
  el: HTMLElement;
}

const text = (value: unknown) => (typeof value === "string" ? value : "");

class Widget implements Host {
  readonly cards = new Cards((wanted) => this.send(wanted, []));
  private readonly model: Model;

  constructor(model: Model) {
    this.model = model;
  }
  get known() {
    const { model } = this;
    return { chat: text(model.get("chat")), model: text(model.get("model")), busy: !!model.get("busy") };
  }
  send(wanted: Wanted, buffers: Uint8Array[]) {
    this.model.send(wanted, undefined, buffers);
  }
  listen(told: (message: Told) => void, lost: () => void) {
    const { model, cards } = this;
    const receive = (message: Told) => {
      if (!cards.receive(message)) told(message);
    };
    const lose = () => {
      cards.lose();
      lost();
    };
    model.on("msg:custom", receive);
    model.on("comm_live_update", lose);
    return () => {
      model.off("msg:custom", receive);
      model.off("comm_live_update", lose);
    };
  }
  insertCell(source: string, panel: Element) {
    const shared = this.notebook?.sharedModel;
    if (typeof shared?.insertCell !== "function") return false;
    const cell = panel.closest<HTMLElement>(".jp-Cell");
    // a long notebook keeps only the cells in sight in the page; those carry their index
    const among = cell ? [...(cell.parentNode?.children ?? [])].indexOf(cell) : -1;
    const index = Number(cell?.dataset.windowedListIndex ?? among);
    const last = shared.cells.length - 1;
    shared.insertCell((index >= 0 && index <= last ? index : last) + 1, { cell_type: "code", source });
    return true;
  }
  /** Asks the page to run the panel's cell: JupyterLab does where ipychat's extension is there. */
  again(panel: Element) {
    const asked = new CustomEvent("ipychat:again", { bubbles: true, cancelable: true });
    return !panel.dispatchEvent(asked);
  }
  writeTranscript({ panel, data }: Transcript) {
    const mark = `data-panel="${panel}"`;
    for (const { outputs } of this.notebook?.cells ?? []) {
      for (let index = 0; outputs && index < outputs.length; index++) {
        const output = outputs.get(index).toJSON();
        const html = [output.data?.["text/html"] ?? ""].flat().join("");
        if (html.includes(mark) && html !== data["text/html"]) outputs.set(index, { ...output, data });
      }
    }
  }
  private get notebook() {
    return this.model.widget_manager?.context?.model;
  }
}

/** One call for each widget model, so that its views share the store. */
export default () => {
  let store: Store;
  return {
    initialize({ model }: Props) {
      store = new Store(new Widget(model));
      return () => store.close();
    },
    render({ el }: Props) {
      const view = new View(store, el);
      return () => view.close();
    },
  };
};
