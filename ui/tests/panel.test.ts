/** The panel over a host of the tests': what it asks for, and what it shows of what it is told. */
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Cards } from "../src/card/cards";
import type { Along, Head, Host, Told, Wanted } from "../src/panel/host";
import { hasAll } from "../src/panel/picker";
import { Store } from "../src/panel/store";
import { View } from "../src/panel/view";

class Page implements Host {
  readonly known = { chat: "default", model: "openai:m", busy: false };
  readonly cards = new Cards((wanted) => this.send(wanted));
  readonly sent: Wanted[] = [];
  readonly inserted: string[] = [];
  nearby: Along[] = [];
  tell: (message: Told) => void = () => undefined;
  lose: () => void = () => undefined;
  isGone = false;

  send(wanted: Wanted) {
    if (this.isGone) throw new Error("gone");
    this.sent.push(wanted);
  }
  listen(told: (message: Told) => void, lost: () => void) {
    this.tell = told;
    this.lose = lost;
    return () => undefined;
  }
  insertCell(source: string) {
    this.inserted.push(source);
    return true;
  }
  cells() {
    return this.nearby;
  }
  again() {
    return true;
  }
  writeTranscript() {
    // there is no notebook
  }
  asked(kind: string) {
    return this.sent.filter((one) => one.kind === kind);
  }
}

const head = (id: string, more: Partial<Head> = {}): Head => ({
  id,
  question: `Question ${id}`,
  files: [],
  state: "done",
  model: "openai:m",
  at: "2026-12-01T10:00:00+00:00",
  seconds: 1.5,
  tokens: [3, 4],
  cost: 0.01,
  finish: "stop",
  stale: false,
  cell: false,
  place: null,
  notices: [],
  error: null,
  ...more,
});
const info = {
  chat: "default",
  chats: ["default", "other"],
  title: "Parrots",
  model: "openai:m",
  system: null,
  options: {},
  busy: false,
};
const offer = (
  id: string,
  rank: "current" | "recent" | "ready" | "lacking" | "emulated",
  missing: string | null = null,
) => ({
  id,
  provider: id.split(":")[0] ?? "",
  name: id.split(":")[1] ?? "",
  rank,
  missing,
  state: rank === "emulated" ? "emulated by openai:m" : (missing ?? "ready"),
});
const MODELS = [
  offer("openai:m", "current"),
  offer("openai:gpt-5.5", "recent"),
  offer("gemini:flash", "ready"),
  offer("anthropic:claude", "lacking", "no key"),
  offer("koala:gpt-4o-mini", "emulated"),
];

let host: Page;
let store: Store;
let view: View;
let el: HTMLElement;

beforeEach(() => {
  vi.useFakeTimers({
    toFake: ["setTimeout", "clearTimeout", "requestAnimationFrame", "cancelAnimationFrame", "performance"],
  });
  vi.stubGlobal(
    "ResizeObserver",
    class {
      observe() {
        // nothing is laid out here
      }
      disconnect() {
        // as above
      }
    },
  );
  Element.prototype.scrollIntoView = () => undefined;
  host = new Page();
  store = new Store(host);
  el = document.createElement("div");
  document.body.append(el);
  view = new View(store, el);
});
afterEach(() => {
  view.close();
  store.close();
  el.remove();
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- as the DOM's own functions have it
function find<E extends HTMLElement>(selector: string): E {
  const found = el.querySelector<E>(selector);
  if (!found) throw new Error(`There is no ${selector}.`);
  return found;
}
const labelled = (label: string) => find(`[aria-label="${label}"]`);
const prompt = () => find<HTMLTextAreaElement>(".ic-prompt");
const picker = () => find<HTMLInputElement>('[role="combobox"][aria-label="Model"]');
const options = (list: string) =>
  [...el.querySelectorAll(`[aria-label="${list}"] [role="option"]`)].map((one) => one.textContent);
const key = (to: HTMLElement, name: string, more: KeyboardEventInit = {}) =>
  to.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true, ...more }));
function type(to: HTMLInputElement | HTMLTextAreaElement, text: string) {
  to.focus();
  to.value = text;
  to.setSelectionRange(text.length, text.length);
  to.dispatchEvent(new Event("input", { bubbles: true }));
}
async function settle() {
  await vi.advanceTimersByTimeAsync(50);
}
const sync = (more: object) => host.tell({ kind: "sync", ...more });
const acknowledge = (error?: string) => {
  const last = host.sent.at(-1);
  if (last) host.tell({ kind: "ack", id: last.id, ...(error ? { error } : {}) });
};

describe("a question", () => {
  test("is sent by Enter, waits in sight, and becomes a turn", async () => {
    type(prompt(), "Hello");
    key(prompt(), "Enter");
    await settle();
    expect(host.asked("ask")[0]).toMatchObject({ text: "Hello", files: [], along: [] });
    expect(find(".ic-waiting").textContent).toContain("Hello");
    acknowledge();
    sync({
      all: true,
      info,
      order: ["1"],
      turns: [head("1", { question: "Hello" })],
      deltas: [{ id: "1", at: 0, text: "**Hi**" }],
    });
    await settle();
    expect(el.querySelector(".ic-waiting")).toBeNull();
    expect(find(".ic-answer strong").textContent).toBe("Hi");
  });
  test("that is refused is there again, with what went along", async () => {
    view.begin("Why", [{ kind: "variable", name: "df" }], false);
    key(prompt(), "Enter");
    await settle();
    acknowledge("No variable named df.");
    expect(prompt().value).toBe("Why");
    expect(find(".ic-chip").textContent).toContain("df");
    expect(find('[role="alert"]').textContent).toContain("No variable named df.");
  });
  test("asked while an answer comes is sent behind it", async () => {
    sync({
      all: true,
      info: { ...info, busy: true },
      order: ["1"],
      turns: [head("1", { state: "running" })],
    });
    type(prompt(), "Then");
    key(prompt(), "Enter");
    await settle();
    expect(host.asked("ask")).toHaveLength(0);
    expect(find(".ic-waiting").textContent).toContain("Sent when this answer ends");
    sync({ info });
    expect(host.asked("ask")[0]).toMatchObject({ text: "Then" });
  });
  test("with braces says how values go along", () => {
    type(prompt(), "What is {{x}}?");
    expect(find(".ic-hint").textContent).toContain("by @name here");
  });
  test("starts from what is suggested", () => {
    find(".ic-starters button").click();
    expect(prompt().value).not.toBe("");
    expect(host.asked("ask")).toHaveLength(0);
  });
});

describe("the prompt", () => {
  const paste = (files: File[], types: string[] = ["Files"]) => {
    const event = new Event("paste", { bubbles: true, cancelable: true });
    Object.assign(event, { clipboardData: { files, types } });
    prompt().dispatchEvent(event);
  };
  const file = (name: string, content: string) => new File([content], name, { type: "text/plain" });

  test("takes files that are pasted, and leaves them out again", async () => {
    paste([file("a.txt", "one"), file("b.txt", "two")]);
    labelled("Remove a.txt").click();
    expect(find(".ic-composer .ic-chip").textContent).toContain("b.txt");
    key(prompt(), "Enter");
    await settle();
    expect(host.asked("ask")[0]).toMatchObject({ files: [{ name: "b.txt", type: "text/plain" }] });
  });
  test("leaves the picture beside a spreadsheet's text alone", () => {
    paste([file("cells.png", "x")], ["text/plain", "Files"]);
    expect(el.querySelector(".ic-composer .ic-chip")).toBeNull();
  });
  test("says what is too large", async () => {
    paste([file("large.bin", "x".repeat(9_000_000))]);
    expect(find('[role="alert"]').textContent).toContain("9.0 MB together");
    type(prompt(), "x".repeat(9_000_000));
    key(prompt(), "Enter");
    await settle();
    expect(find('[role="alert"]').textContent).toContain("at most 8.4 MB");
    expect(host.asked("ask")).toHaveLength(0);
  });
  test("has earlier questions behind its arrows", () => {
    sync({ all: true, info, order: ["1", "2"], turns: [head("1"), head("2")] });
    key(prompt(), "ArrowUp");
    expect(prompt().value).toBe("Question 2");
    key(prompt(), "ArrowUp");
    expect(prompt().value).toBe("Question 1");
    key(prompt(), "ArrowDown");
    key(prompt(), "ArrowDown");
    expect(prompt().value).toBe("");
  });
  test("takes files that are dropped on the panel", () => {
    const drag = (kind: string, files: File[]) => {
      const event = new Event(kind, { bubbles: true, cancelable: true });
      Object.assign(event, { dataTransfer: { files, types: ["Files"] } });
      el.dispatchEvent(event);
    };
    drag("dragover", []);
    expect(el.hasAttribute("data-drop")).toBe(true);
    drag("drop", [file("a.txt", "one")]);
    expect(el.hasAttribute("data-drop")).toBe(false);
    expect(find(".ic-composer .ic-chip").textContent).toContain("a.txt");
  });
  test("keeps its keys from the notebook", () => {
    const heard = vi.fn();
    document.body.addEventListener("keydown", heard);
    key(prompt(), "d");
    document.body.removeEventListener("keydown", heard);
    expect(heard).not.toHaveBeenCalled();
  });
  test("can take back a question that waits", async () => {
    sync({
      all: true,
      info: { ...info, busy: true },
      order: ["1"],
      turns: [head("1", { state: "running" })],
    });
    type(prompt(), "Later");
    key(prompt(), "Enter");
    await settle();
    find<HTMLElement>(".ic-queue .ic-link").click();
    expect(prompt().value).toBe("Later");
    expect(store.held).toHaveLength(0);
  });
});

describe("a mention", () => {
  beforeEach(() => {
    host.nearby = [{ kind: "cell", name: "In [3]", source: "x", output: "1" }];
  });
  test("offers variables, cells and files, and becomes a chip with its size", async () => {
    type(prompt(), "Look at @");
    expect(host.asked("names")).toHaveLength(1);
    host.tell({
      kind: "names",
      variables: [{ name: "df", about: "DataFrame 3 by 2" }],
      files: ["notes.txt"],
      resources: [{ name: "mcp:docs/demo://guide", about: "A guide" }],
    });
    expect(options("What goes along")).toEqual([
      "dfDataFrame 3 by 2",
      "In [3]cell",
      "notes.txtfile",
      "mcp:docs/demo://guideA guide",
    ]);
    key(prompt(), "ArrowDown");
    key(prompt(), "ArrowUp");
    key(prompt(), "Enter");
    expect(prompt().value).toBe("Look at @df ");
    expect(host.asked("weigh")[0]).toMatchObject({ along: { kind: "variable", name: "df" } });
    host.tell({ kind: "weight", of: { kind: "variable", name: "df" }, size: 1234 });
    expect(find(".ic-composer .ic-chip").textContent).toBe("df1.2 k");
    key(prompt(), "Enter");
    await settle();
    expect(host.asked("ask")[0]).toMatchObject({ along: [{ kind: "variable", name: "df" }] });
  });
  test("is narrowed by what is typed, closed by Escape, and left out again", () => {
    type(prompt(), "@not");
    const resources = [{ name: "mcp:docs/demo://guide", about: "A guide" }];
    host.tell({ kind: "names", variables: [{ name: "df", about: "" }], files: ["notes.txt"], resources });
    expect(options("What goes along")).toEqual(["notes.txtfile"]);
    key(prompt(), "Tab");
    expect(prompt().value).toBe("@file:notes.txt ");
    labelled("Leave notes.txt out").click();
    expect(el.querySelector(".ic-composer .ic-chip")).toBeNull();
    type(prompt(), "a @nothing");
    expect(options("What goes along")).toEqual(["Nothing of the notebook has this name."]);
    key(prompt(), "Escape");
    expect(find('[aria-label="What goes along"]').hidden).toBe(true);
    type(prompt(), "mail@df");
    expect(find('[aria-label="What goes along"]').hidden).toBe(true);
  });
});

describe("the picker", () => {
  test.each([
    ["openai:gpt-5.5", "gpt5", true],
    ["openai:gpt-5.5", "open gpt", true],
    ["openai:gpt-5.5", "5.5", true],
    ["openai:gpt-5.5", "gpt6", false],
    ["openai:gpt-5.5", "", true],
  ])("of %s and %s says %s", (name, typed, whether) => {
    expect(hasAll(name, typed)).toBe(whether);
  });
  test("has the kernel's order, in groups that say what they lack", () => {
    picker().click();
    host.tell({ kind: "models", models: MODELS });
    const groups = [...el.querySelectorAll('[aria-label="Models"] [role="group"]')].map((one) =>
      one.getAttribute("aria-label"),
    );
    expect(groups).toEqual([
      "In use",
      "Recent",
      "gemini",
      "anthropic, no key",
      "koala, emulated by openai:m",
    ]);
    expect(options("Models")[1]).toBe("openai:gpt-5.5");
  });
  test("takes an Enter that comes before the list", () => {
    type(picker(), "gpt5");
    key(picker(), "Enter");
    expect(host.asked("model")).toHaveLength(0);
    host.tell({ kind: "models", models: MODELS });
    expect(host.asked("model")[0]).toMatchObject({ name: "openai:gpt-5.5" });
  });
  test("keeps what is marked where the list comes anew", () => {
    picker().click();
    host.tell({ kind: "models", models: MODELS });
    key(picker(), "End");
    host.tell({
      kind: "models",
      models: [...MODELS.slice(0, 1), offer("openai:new", "ready"), ...MODELS.slice(1)],
    });
    expect(find(".ic-models .ic-active").textContent).toContain("gpt-4o-mini");
    key(picker(), "Escape");
    expect(picker().value).toBe("openai:m");
  });
  test("uses a full name that is not listed", () => {
    type(picker(), "openai:unlisted");
    host.tell({ kind: "models", models: MODELS });
    key(picker(), "Enter");
    expect(host.asked("model")[0]).toMatchObject({ name: "openai:unlisted" });
  });
});

describe("a turn", () => {
  beforeEach(() => {
    sync({
      all: true,
      info,
      order: ["1", "2"],
      turns: [head("1"), head("2", { finish: "length", files: ["df"], stale: true })],
      deltas: [{ id: "2", at: 0, text: "```python\nprint(1)\n```\n", reasoning: "hm" }],
    });
  });
  test("says how it ended, and goes on if it is the last", async () => {
    await settle();
    const last = [...el.querySelectorAll<HTMLElement>(".ic-turns > .ic-turn")].at(-1);
    expect(last?.textContent).toContain("cut off at the length limit");
    expect(last?.textContent).toContain("stale");
    const going = [...el.querySelectorAll<HTMLElement>('[aria-label="Continue the answer"]')];
    expect(going.map((one) => one.hidden)).toEqual([true, false]);
    going[1]?.click();
    expect(host.asked("continue")).toHaveLength(1);
  });
  test("is asked again, edited and dropped", () => {
    const button = (label: string) => [...el.querySelectorAll<HTMLElement>(`[aria-label="${label}"]`)][0];
    button("Ask again")?.click();
    button("Drop this turn")?.click();
    button("Edit the question")?.click();
    const area = find<HTMLTextAreaElement>(".ic-edit textarea");
    type(area, "Better");
    key(area, "Enter");
    expect(host.sent.slice(1)).toMatchObject([
      { kind: "again", turn: "1" },
      { kind: "drop", turn: "1" },
      { kind: "edit", turn: "1", text: "Better" },
    ]);
  });
  test("is copied, and says so", async () => {
    const written = vi.fn(() => Promise.resolve());
    vi.stubGlobal("navigator", { clipboard: { writeText: written } });
    const button = [...el.querySelectorAll<HTMLElement>('[aria-label="Copy answer"]')][1];
    button?.click();
    await settle();
    expect(written).toHaveBeenCalledWith("```python\nprint(1)\n```\n");
    expect(button?.title).toBe("Copied");
    await vi.advanceTimersByTimeAsync(2000);
    expect(button?.title).toBe("Copy answer");
  });
  test("has code that becomes a cell", async () => {
    await settle();
    find('[data-code="insert"]').click();
    await settle();
    expect(host.inserted).toEqual(["print(1)"]);
  });
});

describe("the conversation", () => {
  beforeEach(() => sync({ all: true, info, order: ["1"], turns: [head("1")] }));
  const choose = (text: string) =>
    [...el.querySelectorAll<HTMLElement>('[role="menuitem"]')]
      .find((one) => one.textContent.startsWith(text))
      ?.click();

  test("is named with its title, and others once they are known", () => {
    const select = find<HTMLSelectElement>('[aria-label="Conversation"]');
    expect(select.title).toBe("default · Parrots");
    host.tell({ kind: "titles", titles: { other: "Lizards" } });
    expect([...select.options].map((one) => one.text)).toEqual(["default · Parrots", "other · Lizards"]);
  });
  test("gets a title, a name, a fork", () => {
    for (const [item, label, sent] of [
      ["Title", "Title", { kind: "title", text: "x" }],
      ["Rename", "New name", { kind: "rename", name: "x" }],
      ["Fork", "Name of the fork", { kind: "fork", name: "x" }],
    ] as const) {
      labelled("Conversation actions").click();
      choose(item);
      const input = find<HTMLInputElement>(`input[aria-label="${label}"]`);
      type(input, "x");
      key(input, "Enter");
      expect(host.sent.at(-1)).toMatchObject(sent);
    }
  });
  test("is searched, and a turn that is found is shown", async () => {
    labelled("Conversation actions").click();
    choose("Search");
    const input = find<HTMLInputElement>('[aria-label="Search all conversations"]');
    type(input, "bird");
    await vi.advanceTimersByTimeAsync(200);
    expect(host.asked("search")[0]).toMatchObject({ words: "bird" });
    const found = { chat: "other", number: 1, turn: "9", at: "2026-12-01T10:00:00+00:00", excerpt: "a bird" };
    host.tell({ kind: "found", words: "bird", found: [found] });
    key(input, "Enter");
    expect(host.asked("chat")[0]).toMatchObject({ name: "other" });
    sync({ all: true, info: { ...info, chat: "other" }, order: ["9"], turns: [head("9")] });
    expect(document.activeElement?.textContent).toContain("Question 9");
    host.tell({ kind: "found", words: "late", found: [] });
    expect(find(".ic-results").textContent).toContain("a bird");
  });
  test("is cleared when that is asked twice", () => {
    labelled("Conversation actions").click();
    choose("Clear");
    choose("Take out the turn");
    expect(host.asked("new")).toHaveLength(1);
  });
  test("has a menu for the keyboard", () => {
    labelled("Conversation actions").click();
    const menu = find('[role="menu"]');
    for (const [name, text] of [
      ["End", "Clear"],
      ["ArrowDown", "New"],
      ["ArrowUp", "Clear"],
      ["Home", "New"],
    ] as const) {
      key(menu, name);
      expect(document.activeElement?.textContent).toContain(text);
    }
    key(menu, "Escape");
    expect(menu.hidden).toBe(true);
    expect(document.activeElement).toBe(labelled("Conversation actions"));
  });
  test("is exported in both forms", () => {
    for (const item of ["Export as a page", "Export as Markdown"]) {
      labelled("Conversation actions").click();
      choose(item);
    }
    expect(host.asked("export")).toMatchObject([{ form: "html" }, { form: "md" }]);
    const made = vi.fn(() => "blob:x");
    vi.stubGlobal("URL", Object.assign(URL, { createObjectURL: made, revokeObjectURL: vi.fn() }));
    vi.spyOn(HTMLAnchorElement.prototype, "click").mockReturnValue();
    host.tell({ kind: "file", name: "default.html", text: "<h1>" });
    expect(made).toHaveBeenCalledOnce();
  });
  test("has numbers that may be left to the model", () => {
    const number = find<HTMLInputElement>('.ic-settings input[type="number"]');
    number.value = "0.5";
    number.dispatchEvent(new Event("change"));
    expect(host.asked("options")[0]).toMatchObject({ options: { temperature: 0.5 } });
    const details = find<HTMLDetailsElement>(".ic-settings");
    details.open = true;
    key(details, "Escape");
    expect(details.open).toBe(false);
  });
  test("has a system prompt and parameters", () => {
    const area = find<HTMLTextAreaElement>(".ic-settings textarea");
    area.value = "Be brief";
    area.dispatchEvent(new Event("change"));
    expect(host.asked("system")[0]).toMatchObject({ text: "Be brief" });
  });
});

describe("a kernel that is gone", () => {
  test("leaves what was said, and offers to run again", () => {
    sync({
      all: true,
      info,
      order: ["1"],
      turns: [head("1", { state: "running" })],
      deltas: [{ id: "1", at: 0, text: "so far" }],
    });
    host.isGone = true;
    host.lose();
    expect(store.turns.get("1")?.state).toBe("lost");
    expect(find('[role="alert"]').textContent).toContain("no longer knows this panel");
    const again = vi.spyOn(host, "again");
    [...el.querySelectorAll<HTMLElement>('[role="alert"] button')]
      .find((one) => one.textContent === "Run it again")
      ?.click();
    expect(again).toHaveBeenCalledOnce();
  });
  test("is told of what is lost on the way", () => {
    sync({
      all: true,
      info,
      order: ["1"],
      turns: [head("1", { state: "running" })],
      deltas: [{ id: "1", at: 5, text: "later" }],
    });
    expect(host.asked("hello")).toHaveLength(2);
  });
  test("that is only busy is said to be", async () => {
    store.act("undo");
    await vi.advanceTimersByTimeAsync(400);
    expect(find('[role="status"]').textContent).toContain("Waiting for the kernel");
  });
});

test("Escape stops an answer", () => {
  sync({ all: true, info: { ...info, busy: true }, order: ["1"], turns: [head("1", { state: "running" })] });
  key(prompt(), "Escape");
  expect(host.asked("stop")).toHaveLength(1);
});
