/** Out of the panel: to the clipboard, and into the notebook as a new cell. */

/** JupyterLab's document, or null where the front end has none or hides it. */
const notebook = (model) => model.widget_manager?.context?.model?.sharedModel;

export const canInsert = (model) => typeof notebook(model)?.insertCell === "function";

export function insertCell(model, el, source) {
  const shared = notebook(model);
  const cell = el.closest(".jp-Cell");
  // a long notebook keeps only the cells in sight in the page; those carry their index
  const index = Number(cell?.dataset.windowedListIndex ?? [...(cell?.parentNode.children ?? [])].indexOf(cell));
  const last = shared.cells.length - 1;
  shared.insertCell((cell && index >= 0 && index <= last ? index : last) + 1, { cell_type: "code", source });
}

/** Puts the transcript into the outputs that hold an older one. */
export function writeTranscript(model, { panel, data }) {
  const mark = `data-panel="${panel}"`;
  for (const { outputs } of model.widget_manager?.context?.model?.cells ?? []) {
    for (let index = 0; index < (outputs?.length ?? 0); index++) {
      const output = outputs.get(index).toJSON();
      const html = [output.data?.["text/html"] ?? ""].flat().join("");
      if (html.includes(mark) && html !== data["text/html"]) outputs.set(index, { ...output, data });
    }
  }
}

/** What a terminal or an editor would act on: control characters, and those that turn a text's direction. */
const ACTING = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

export const harmless = (text) => text.replace(ACTING, "");

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // no secure context (plain http), or not allowed in this frame
    const area = document.createElement("textarea");
    area.value = text;
    area.style.cssText = "position:fixed;opacity:0";
    document.body.append(area);
    const focused = document.activeElement;
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return copied;
  }
}
