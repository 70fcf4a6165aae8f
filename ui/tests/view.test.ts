import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Store } from "../src/panel/store";
import { View } from "../src/panel/view";
import { FakeHost, head } from "./host";

const INFO = {
  chat: "main",
  chats: ["main", "side"],
  model: "work:m",
  title: "",
  system: null,
  options: {},
  busy: false,
};
const WAITS = "Waiting for the kernel";

let host: FakeHost;
let store: Store;
let view: View;
let el: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ["setTimeout", "clearTimeout", "requestAnimationFrame", "cancelAnimationFrame"],
  });
  host = new FakeHost();
  store = new Store(host);
  el = document.body.appendChild(document.createElement("div"));
  view = new View(store, el);
  acknowledge();
  host.tell({ kind: "sync", all: true, info: INFO, order: [], turns: [] });
});

afterEach(() => {
  view.close();
  store.close();
  el.remove();
  vi.useRealTimers();
});

function acknowledge(error?: string) {
  for (const { id } of store.actions.values()) host.tell({ kind: "ack", id, ...(error && { error }) });
}

function get(selector: string): HTMLElement {
  const found = el.querySelector<HTMLElement>(selector);
  if (!found) throw new Error(`no ${selector}`);
  return found;
}

const named = (name: string) => get(`[aria-label="${name}"]`);
const field = (name: string) => named(name) as HTMLInputElement;

function press(target: Element, key: string, more: KeyboardEventInit = {}) {
  const event = new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more });
  target.dispatchEvent(event);
  return event;
}

function type(target: HTMLInputElement, text: string) {
  target.value = text;
  target.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Asks, and waits until the files are read. */
async function ask(text: string) {
  type(field("Prompt"), text);
  press(field("Prompt"), "Enter");
  await vi.advanceTimersByTimeAsync(1);
}

function answer(text: string, known = {}) {
  host.tell({ kind: "sync", order: ["a"], turns: [head(known)], deltas: [{ id: "a", at: 0, text }] });
  vi.advanceTimersByTime(50);
}

test("a question is sent with Enter, and stays in sight until its turn comes", async () => {
  await ask("Why?");
  expect(host.last("ask")).toMatchObject({ text: "Why?", files: [] });
  expect(get(".ic-queue").textContent).toContain("Why?");
  acknowledge();
  answer("Because.");
  expect(get(".ic-queue").textContent).toBe("");
  expect(get(".ic-turn").textContent).toContain("Because.");
  expect(get(".ic-facts").textContent).toBe("work:m1.5 s3 in, 5 out$0.010");
});

test("Shift+Enter and an input method's Enter send nothing", () => {
  type(field("Prompt"), "Why?");
  press(field("Prompt"), "Enter", { shiftKey: true });
  press(field("Prompt"), "Enter", { isComposing: true });
  expect(host.last("ask")).toBeUndefined();
});

test("a question that is refused is in the prompt again, with the reason", async () => {
  await ask("Why?");
  acknowledge("No model.");
  expect(field("Prompt").value).toBe("Why?");
  expect(get("[role=alert]").textContent).toContain("No model.");
  named("Dismiss").click();
  expect(get("[role=alert]").hidden).toBe(true);
});

test("a question asked while an answer comes waits, and can be taken back", async () => {
  host.tell({ kind: "sync", info: { ...INFO, busy: true } });
  await ask("Next?");
  expect(host.last("ask")).toBeUndefined();
  expect(get(".ic-queue").textContent).toContain("Sent when this answer ends.");
  get(".ic-queue .ic-link").click();
  expect(field("Prompt").value).toBe("Next?");
  press(field("Prompt"), "Enter");
  await vi.advanceTimersByTimeAsync(1);
  host.tell({ kind: "sync", info: INFO });
  expect(host.last("ask")).toMatchObject({ text: "Next?" });
});

test("Escape and the button stop what comes", () => {
  host.tell({ kind: "sync", info: { ...INFO, busy: true } });
  press(field("Prompt"), "Escape");
  named("Stop").click();
  expect(host.sent.filter(({ kind }) => kind === "stop")).toHaveLength(2);
  vi.advanceTimersByTime(400);
  expect(get(".ic-queue").textContent).toContain(`Stop: ${WAITS}`);
});

test("the arrow keys bring earlier questions back", () => {
  answer("Because.");
  press(field("Prompt"), "ArrowUp");
  expect(field("Prompt").value).toBe("Why?");
  press(field("Prompt"), "ArrowDown");
  expect(field("Prompt").value).toBe("");
});

test("files are shown, can be removed, and go along", async () => {
  const drop = (name: string, size = 3) => {
    const files = [new File(["x".repeat(size)], name)];
    const event = new Event("drop", { bubbles: true }) as DragEvent;
    Object.defineProperty(event, "dataTransfer", { value: { types: ["Files"], files } });
    get(".ic-log").dispatchEvent(event);
  };
  drop("one.csv");
  drop("two.csv");
  named("Remove one.csv").click();
  await ask("Look");
  expect(host.last("ask")).toMatchObject({ files: [{ name: "two.csv" }] });
  drop("large.bin", 9 * 1024 * 1024);
  expect(get("[role=alert]").textContent).toContain("fit into one question");
});

test("a picture is pasted, but not the one beside a spreadsheet's text", () => {
  const paste = (types: string[]) => {
    const event = new Event("paste", { bubbles: true }) as ClipboardEvent;
    Object.defineProperty(event, "clipboardData", { value: { types, files: [new File(["x"], "cut.png")] } });
    field("Prompt").dispatchEvent(event);
  };
  paste(["text/plain", "Files"]);
  expect(el.querySelector(".ic-chip")).toBeNull();
  paste(["Files"]);
  expect(get(".ic-chip").textContent).toContain("cut.png");
});

test("a slow kernel is said to be slow", () => {
  store.act("undo");
  vi.advanceTimersByTime(400);
  expect(get("[role=status]").textContent).toContain(WAITS);
});

test("where the kernel is gone, what is there stays, and nothing more is asked", async () => {
  answer("Half", { state: "running" });
  host.end();
  expect(get(".ic-turn").dataset.state).toBe("lost");
  expect(get("[role=alert]").textContent).toContain("no longer knows");
  await ask("More?");
  expect(field("Prompt").value).toBe("More?");
  host.broken = true;
  host.tell({ kind: "sync", info: INFO });
  store.act("undo");
  expect(store.error).toContain("no longer knows");
});

test("what was lost on the way is asked for once", () => {
  answer("Half", { state: "running" });
  for (const at of [9, 12]) host.tell({ kind: "sync", deltas: [{ id: "a", at, text: "xyz" }] });
  expect(host.sent.filter(({ kind }) => kind === "hello")).toHaveLength(2);
});

test("a turn can be asked again, edited, copied and dropped", async () => {
  const written = vi.fn(() => Promise.resolve());
  Object.defineProperty(navigator, "clipboard", { value: { writeText: written }, configurable: true });
  answer("Because.");
  named("Ask again").click();
  expect(host.last("again")).toMatchObject({ turn: "a" });
  named("Drop this turn").click();
  expect(host.last("drop")).toMatchObject({ turn: "a" });
  named("Copy answer").click();
  await vi.advanceTimersByTimeAsync(1);
  expect(written).toHaveBeenCalledWith("Because.");
  expect(get("[aria-label=Copied]")).toBeTruthy();
  await vi.advanceTimersByTimeAsync(2000);
  named("Edit the question").click();
  type(field("Question"), "Why not?");
  press(field("Question"), "Enter");
  expect(host.last("edit")).toMatchObject({ turn: "a", text: "Why not?" });
  named("Edit the question").click();
  press(field("Question"), "Escape");
  expect(el.querySelector(".ic-edit")).toBeNull();
});

test("a turn says how it ended, that it is stale, and what it cost", () => {
  answer("x", {
    finish: "length",
    stale: true,
    cell: true,
    error: "No credit left.",
    notices: ["Retrying in 2 s"],
  });
  const { textContent: said } = get(".ic-turn");
  for (const words of [
    "cut off at the length limit",
    "stale",
    "asked in a cell",
    "No credit left.",
    "Retrying in 2 s",
  ])
    expect(said).toContain(words);
});

test("reasoning is folded, and a long question, too", () => {
  const deltas = [{ id: "a", at: 0, reasoning: "Let me see." }];
  host.tell({
    kind: "sync",
    order: ["a"],
    turns: [head({ state: "running", question: "x".repeat(2000) })],
    deltas,
  });
  vi.advanceTimersByTime(50);
  expect(get("details.ic-thinking summary").textContent).toBe("Thinking …");
  expect(get(".ic-thoughts").textContent).toBe("Let me see.");
  get(".ic-words + .ic-link").click();
  expect(get(".ic-words").textContent).toHaveLength(2000);
});

test("conversations are chosen, made, forked, renamed, undone and cleared", () => {
  const choose = (text: string) => {
    named("Conversation actions").click();
    const item = [...el.querySelectorAll<HTMLElement>("[role=menuitem]")].find((one) =>
      one.textContent.startsWith(text),
    );
    item?.click();
  };
  const select = get("select") as HTMLSelectElement;
  select.value = "side";
  select.dispatchEvent(new Event("change"));
  expect(host.last("chat")).toMatchObject({ name: "side" });
  choose("New");
  press(field("Name of the new conversation"), "Enter");
  expect(host.last("chat")).toMatchObject({ name: "main-2" });
  choose("Fork");
  press(field("Name of the fork"), "Escape");
  expect(host.last("fork")).toBeUndefined();
  choose("Rename");
  type(field("New name"), "better");
  press(field("New name"), "Enter");
  expect(host.last("rename")).toMatchObject({ name: "better" });
  choose("Undo");
  expect(host.last("undo")).toBeTruthy();
  choose("Clear");
  expect(host.last("new")).toBeUndefined();
  (document.activeElement as HTMLElement).click();
  expect(host.last("new")).toBeTruthy();
});

test("the menu goes by the arrow keys, and closes with Escape", () => {
  named("Conversation actions").click();
  const menu = get("[role=menu]");
  press(menu, "ArrowDown");
  press(menu, "End");
  press(menu, "ArrowUp");
  expect(document.activeElement?.textContent).toBe("Undo the last turn");
  press(menu, "Escape");
  expect(menu.hidden).toBe(true);
});

test("the system prompt and the parameters are set, and shown to be", () => {
  const [system, temperature] = el.querySelectorAll<HTMLInputElement>(".ic-settings .ic-field");
  if (!system || !temperature) throw new Error("no settings");
  system.value = "Be brief.";
  system.dispatchEvent(new Event("change"));
  expect(host.last("system")).toMatchObject({ text: "Be brief." });
  temperature.value = "0.5";
  temperature.dispatchEvent(new Event("change"));
  expect(host.last("options")).toMatchObject({ options: { temperature: 0.5 } });
  const effort = get(".ic-settings select") as HTMLSelectElement;
  effort.value = "high";
  effort.dispatchEvent(new Event("change"));
  expect(host.last("options")).toMatchObject({ options: { temperature: 0.5, effort: "high" } });
  host.tell({ kind: "sync", info: { ...INFO, system: "Be brief.", options: { effort: "low" } } });
  expect(effort.value).toBe("low");
  const settings = get(".ic-settings") as HTMLDetailsElement;
  expect(settings.hasAttribute("data-set")).toBe(true);
  settings.open = true;
  press(settings, "Escape");
  expect(settings.open).toBe(false);
});

test("code goes into a cell, a shell's behind %%bash, without what an editor would act on", async () => {
  answer("```python\nx = 1\u202e\n```\n\n```bash\nls\n```\n");
  for (const button of el.querySelectorAll<HTMLElement>("[data-code=insert]")) button.click();
  await vi.advanceTimersByTimeAsync(1);
  expect(host.inserted).toEqual(["x = 1", "%%bash\nls"]);
  host.inserts = false;
  const written = vi.fn(() => Promise.resolve());
  Object.defineProperty(navigator, "clipboard", { value: { writeText: written }, configurable: true });
  await vi.advanceTimersByTimeAsync(2000);
  get("[data-code=insert]").click();
  await vi.advanceTimersByTimeAsync(1);
  expect(written).toHaveBeenCalledWith("x = 1");
  expect(get("[role=status]").textContent).toContain("paste it into a new cell");
});

test("long code is folded", () => {
  answer(`\`\`\`python\n${"x\n".repeat(50)}\`\`\`\n`);
  const button = get("[data-code=unfold]");
  expect(button.textContent).toBe("Show all 50 lines");
  button.click();
  expect(button.getAttribute("aria-expanded")).toBe("true");
  expect(get(".ic-code").classList.contains("ic-whole")).toBe(true);
  button.click();
  expect(button.textContent).toBe("Show all 50 lines");
});

test("a key in the panel is not the notebook's, but saving is", () => {
  const keys: string[] = [];
  const listen = (event: KeyboardEvent) => keys.push(event.key);
  document.body.addEventListener("keydown", listen);
  press(get(".ic-log"), "d");
  expect(press(get(".ic-log"), "s", { ctrlKey: true }).defaultPrevented).toBe(true);
  document.body.removeEventListener("keydown", listen);
  expect(keys).toEqual(["s"]);
});

test("turns that are gone leave the page, and a transcript goes to the notebook", () => {
  answer("Because.");
  host.tell({ kind: "sync", order: [] });
  expect(el.querySelector(".ic-turn")).toBeNull();
  expect(get(".ic-empty").hidden).toBe(false);
  host.tell({ kind: "transcript", panel: "1", data: { "text/html": "x" } });
  expect(host.written).toHaveLength(1);
});

test("who scrolls up stays there, and can jump to the newest", () => {
  const log = get(".ic-log");
  Object.defineProperties(log, { scrollHeight: { value: 500 }, clientHeight: { value: 100 } });
  const scroll = (top: number) => {
    log.scrollTop = top;
    log.dispatchEvent(new Event("scroll"));
  };
  scroll(400);
  scroll(200);
  expect(named("Jump to newest").hidden).toBe(false);
  named("Jump to newest").click();
  expect(log.scrollTop).toBe(500);
});
