/** Elements: made of nodes, never of HTML text. */

type Listener = (event: never) => unknown;
type Props = Record<string, string | number | boolean | null | undefined | Listener>;
type Kid = Node | string | false | null | undefined;

/** An element; a function among its `props` is a listener, `text` and `value` are what they say. */
export function h<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  props: Props = {},
  ...kids: Kid[]
): HTMLElementTagNameMap[Tag] {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === false || value == null) continue;
    if (typeof value === "function") el.addEventListener(key.slice(2), value as EventListener);
    else if (key === "text") el.textContent = String(value);
    else if (key === "value") (el as unknown as HTMLInputElement).value = String(value);
    else el.setAttribute(key, value === true ? "" : String(value));
  }
  el.append(...kids.filter((kid): kid is Node | string => kid != null && kid !== false));
  return el;
}

const PATHS = {
  again: "M5 12a7 7 0 1 0 2.2-5.1M5 4v4h4",
  attach:
    "M18.5 11.5 11.6 18.4a4.3 4.3 0 0 1-6.1-6.1l7.4-7.4a2.9 2.9 0 0 1 4.1 4.1l-7.3 7.3a1.4 1.4 0 0 1-2-2l6.7-6.7",
  cell: "M4 6h16v12H4zM8 6v12",
  check: "m5 12.5 4.5 4.5L19 7.5",
  continue: "M5 6l6 6-6 6M13 6l6 6-6 6",
  choose: "m7 10 5 5 5-5",
  close: "m7 7 10 10M17 7 7 17",
  copy: "M9.5 9.5h9v9h-9zM5.5 14.5v-9h9",
  down: "M12 5.5v13M6.5 13l5.5 5.5 5.5-5.5",
  drop: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7",
  edit: "m5 19 .8-3.7L15.6 5.5a1.8 1.8 0 0 1 2.6 0l.3.3a1.8 1.8 0 0 1 0 2.6L8.7 18.2z",
  file: "M7 3.5h7l4 4v13H7zM14 3.5v4h4",
  insert: "M4.5 5h15v5.5h-15zM12 14v6M9 17h6",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  send: "M12 18.5v-13M6.5 11 12 5.5 17.5 11",
  settings: "M4 8h8M16 8h4M4 16h4M12 16h8M14 6v4M10 14v4",
  stop: "M8 8h8v8H8z",
  variable:
    "M9 5H7.5C6 5 6 7 6 9s0 3-2 3c2 0 2 1 2 3s0 4 1.5 4H9M15 5h1.5C18 5 18 7 18 9s0 3 2 3c-2 0-2 1-2 3s0 4-1.5 4H15",
};

export type IconName = keyof typeof PATHS;

export function icon(name: IconName): SVGElement {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS(svg.namespaceURI, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `ic-icon ic-icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

export function iconButton(
  name: IconName,
  label: string,
  onclick: ((event: MouseEvent) => unknown) | null,
  props: Props = {},
): HTMLButtonElement {
  const described = { type: "button", class: "ic-ib", "aria-label": label, title: label, onclick };
  return h("button", { ...described, ...props }, icon(name));
}

/** Says on the button itself that it worked, then takes that back. */
export function confirm(button: HTMLElement, words: string, name: IconName = "check"): void {
  const before = button.firstElementChild;
  const label = button.title;
  if (!before || button.dataset.said) return;
  const say = (text: string, image: Element) => {
    button.firstElementChild?.replaceWith(image);
    button.title = text;
    button.setAttribute("aria-label", text);
  };
  button.dataset.said = "yes";
  say(words, icon(name));
  setTimeout(() => {
    say(label, before);
    delete button.dataset.said;
  }, 1500);
}

/** A text field as high as its text; as it comes while it is not laid out. */
export function fit(area: HTMLTextAreaElement): void {
  area.style.height = "auto";
  if (area.scrollHeight) area.style.height = `${area.scrollHeight}px`;
}

/** While an input method composes, Enter and Esc are its keys. */
// eslint-disable-next-line @typescript-eslint/no-deprecated -- Safari tells it by the code 229 alone
export const composing = (event: KeyboardEvent): boolean => event.isComposing || event.keyCode === 229;

/** Gives the keys that save to what stands around `el`: the browser would save its page, and the notebook is meant. */
export function passSaving(event: KeyboardEvent, el: HTMLElement): boolean {
  if (event.key !== "s" || !(event.ctrlKey || event.metaKey) || !el.parentElement) return false;
  event.preventDefault();
  event.stopPropagation();
  // eslint-disable-next-line @typescript-eslint/no-deprecated -- JupyterLab's shortcuts go by it
  const { key, code, keyCode, ctrlKey, metaKey } = event;
  const meant = { key, code, keyCode, ctrlKey, metaKey, bubbles: true, cancelable: true };
  el.parentElement.dispatchEvent(new KeyboardEvent("keydown", meant));
  return true;
}
