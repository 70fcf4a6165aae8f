import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AnswerView } from "../src/answer/answer";
import { type Answer, parse } from "../src/answer/payload";
import { interleaved } from "../src/answer/step";
import type { Card } from "../src/card/cards";
import { Shown } from "../src/card/shown";
import { Store } from "../src/panel/store";
import { TurnView } from "../src/panel/turn";
import { FakeHost, head } from "./host";

const PIXEL = "data:image/png;base64,iVBORw0KGgo=";
const CARD: Card = {
  id: "c",
  cell: "one",
  tool: "kernel.run",
  about: "Run code.",
  where: "this kernel",
  code: "x = 1\nx",
  arguments: '{\n  "silent": true\n}',
};
const step = (more: object = {}) => ({ type: "step", tool: "add", text: "3", state: "done", ...more });

let host: FakeHost;
let shown: Shown;
let here: HTMLElement;
let left = 0;

beforeEach(() => {
  host = new FakeHost();
  here = document.body.appendChild(document.createElement("div"));
  left = 0;
  new Store(host);
  vi.spyOn(HTMLElement.prototype, "getClientRects").mockReturnValue([1] as unknown as DOMRectList);
});
afterEach(() => {
  shown.close();
  here.remove();
});

function show(card: Partial<Card> = {}, takes = true): HTMLElement {
  shown = new Shown(host.cards, {
    around: here,
    takes: () => takes,
    put: (_, el) => here.append(el),
    leave: () => left++,
  });
  host.tell({ kind: "card", card: { ...CARD, ...card } });
  return here;
}

const button = (name: string) =>
  [...here.querySelectorAll("button")].find((one) => one.firstChild?.textContent === name) ?? here;
const field = (label: string) => here.querySelector<HTMLTextAreaElement>(`[aria-label="${label}"]`);
const decided = () => host.last("decide");
const settled = () => new Promise((resolve) => setTimeout(resolve));

function press(target: Element | null | undefined, key: string, more: KeyboardEventInit = {}) {
  target?.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true, ...more }));
}

const answer = (known: object): Answer => {
  const parsed = parse({ version: 1, state: "done", parts: [], ...known });
  if (!parsed) throw new Error("not known");
  return parsed;
};

test("a card says what would run, takes the focus, and is told to be in sight", () => {
  const card = show().querySelector(".ic-card");
  expect(card?.getAttribute("aria-label")).toBe("The model wants to run kernel.run");
  expect(card?.textContent).toContain("Run code. · It runs in this kernel.");
  expect(card?.querySelector("code:not(.ic-title code)")?.textContent).toBe(CARD.code);
  expect(card?.querySelector(".ic-verbatim")?.textContent).toBe(CARD.arguments);
  expect(document.activeElement).toBe(card);
  expect(host.last("seen")).toMatchObject({ card: "c", id: -1 });
});

test("a card that is not in sight is not said to be", () => {
  vi.spyOn(HTMLElement.prototype, "getClientRects").mockReturnValue([] as unknown as DOMRectList);
  show();
  expect(host.last("seen")).toBeUndefined();
});

test("a card that belongs elsewhere is not shown", () => {
  expect(show({}, false).childElementCount).toBe(0);
});

test.each([
  ["a field", "<input>"],
  ["an editor", "<div contenteditable='true' tabindex='0'></div>"],
  ["a button", "<button></button>"],
])("%s keeps the focus", (_, html) => {
  here.innerHTML = html;
  const typed = here.firstElementChild as HTMLElement;
  typed.focus();
  show();
  expect(document.activeElement).toBe(typed);
});

test.each([
  ["Once", "once"],
  ["Always", "always"],
])("%s decides once, and waits for the kernel", async (name, decision) => {
  show();
  button(name).click();
  expect(decided()).toMatchObject({ card: "c", decision });
  button(name).click();
  expect(host.sent.filter(({ kind }) => kind === "decide")).toHaveLength(1);
  expect((button("Once") as HTMLButtonElement).disabled).toBe(true);
  host.tell({ kind: "ack", id: decided()?.id ?? 0 });
  await settled();
  expect((button("Once") as HTMLButtonElement).disabled).toBe(true);
  host.tell({ kind: "card-gone", id: "c" });
  expect(here.childElementCount).toBe(0);
  expect(left).toBe(1);
});

test("an error is shown, and it can be decided again", async () => {
  show();
  button("Once").click();
  host.tell({ kind: "ack", id: decided()?.id ?? 0, error: "No." });
  await settled();
  expect(here.querySelector(".ic-error")?.textContent).toBe("No.");
  button("Always").click();
  expect(decided()).toMatchObject({ decision: "always" });
});

test("a kernel that is gone takes no decision, and its cards go", async () => {
  show();
  host.broken = true;
  button("Once").click();
  await settled();
  expect(here.querySelector(".ic-error")?.textContent).toContain("did not take");
  host.broken = false;
  button("Once").click();
  host.end();
  await settled();
  expect(here.childElementCount).toBe(0);
});

test.each(["y", "a", "e", "n"])("%s is a key of the card, after a while and alone", (key) => {
  const now = vi.spyOn(performance, "now").mockReturnValue(1000);
  show();
  const card = here.querySelector(".ic-card");
  const before = here.innerHTML;
  press(card, key);
  now.mockReturnValue(5000);
  press(card, key, { ctrlKey: true });
  press(card, key, { repeat: true });
  press(card, "Enter");
  expect(here.innerHTML).toBe(before);
  press(card, key);
  expect(here.innerHTML).not.toBe(before);
});

test("code and arguments are edited, and run", () => {
  show();
  button("Edit").click();
  const code = field("Code");
  expect(document.activeElement).toBe(code);
  if (code) code.value = "x = 2";
  code?.dispatchEvent(new Event("input"));
  press(code, "y");
  expect(decided()).toBeUndefined();
  press(code, "Enter", { ctrlKey: true });
  expect(decided()).toMatchObject({
    decision: "edited",
    arguments: { arguments: CARD.arguments, code: "x = 2" },
  });
});

test("a card without code or arguments is edited as JSON", () => {
  show({ code: "", arguments: "" });
  button("Edit").click();
  expect(field("Code")).toBeNull();
  expect(field("Arguments, as JSON")?.value).toBe("{}");
  button("Run").click();
  expect(decided()).toMatchObject({ arguments: { arguments: "{}" } });
  expect(decided()?.arguments).not.toHaveProperty("code");
});

test("an edit is given up, by a button and by Escape, which then leaves the card", () => {
  show();
  button("Edit").click();
  button("Cancel").click();
  button("Edit").click();
  press(field("Code"), "Escape");
  expect(field("Code")).toBeNull();
  press(here.querySelector(".ic-card"), "Escape");
  expect(left).toBe(1);
});

test("what saves the notebook is passed on to it", () => {
  show();
  const keys: string[] = [];
  here.addEventListener("keydown", ({ key }) => keys.push(key));
  press(here.querySelector(".ic-card"), "x");
  press(here.querySelector(".ic-card"), "s", { ctrlKey: true });
  expect(keys).toEqual(["s"]);
});

test("it is refused with a reason", () => {
  show();
  button("Refuse").click();
  const reason = field("Reason");
  expect(document.activeElement).toBe(reason);
  if (reason) reason.value = "it is mine";
  press(reason, "Enter");
  expect(decided()).toMatchObject({ decision: "refused", reason: "it is mine" });
});

test("its code is copied, and nothing else hears of the click", () => {
  Object.assign(document, { execCommand: () => true });
  show();
  const heard = vi.fn();
  here.addEventListener("click", heard);
  expect(here.querySelector("[data-code='insert']")).toBeNull();
  here.querySelector<HTMLElement>("[data-code='copy']")?.click();
  expect(heard).not.toHaveBeenCalled();
});

test("a card is told twice and shown once; what is no card is not shown", () => {
  show();
  host.tell({ kind: "card", card: CARD });
  host.tell({ kind: "card", card: { id: "d" } as Card });
  expect(here.querySelectorAll(".ic-card")).toHaveLength(1);
});

test("hostile words stay words", () => {
  const bad = "<img src=x onerror='window.hurt = 1'>";
  show({ tool: bad, about: bad, where: bad, code: bad, arguments: bad });
  expect(here.querySelector("img")).toBeNull();
  button("Edit").click();
  expect(here.querySelector("img")).toBeNull();
});

// -- steps

test("a step is a folded line, which says how it ended", () => {
  shown = new Shown(host.cards, {
    around: here,
    takes: () => false,
    put: () => undefined,
    leave: () => left++,
  });
  const view = new AnswerView();
  const parts = [
    step({ arguments: "a=1", said: "you allowed it", seconds: 0.2 }),
    step({ state: "failed", said: "unasked", code: "x = 1\ny" }),
    step({ state: "refused", said: "refused: mine", tool: "mcp:git.log", code: "y".repeat(300) }),
    step({ pictures: [PIXEL, "javascript:alert(1)", 7], tool: 3 }),
  ];
  view.draw(answer({ parts }), Infinity);
  const lines = [...view.el.querySelectorAll("summary")].map((one) => one.textContent);
  expect(lines).toEqual([
    "add(a=1) · 0.2 s · you allowed it",
    "add(x = 1 …) · failed · unasked",
    `mcp:git.log(${"y".repeat(200)} …) · refused: mine`,
    "tool()",
  ]);
  const steps = [...view.el.querySelectorAll<HTMLDetailsElement>(".ic-step")];
  expect(steps.map(({ open }) => open)).toEqual([false, false, false, true]);
  expect(view.el.querySelectorAll("img")).toHaveLength(1);
  expect(view.el.querySelectorAll(".ic-end")).toHaveLength(2);
  if (steps[0]) steps[0].open = true;
  view.draw(answer({ parts }), Infinity);
  expect(steps[0]?.open).toBe(true);
});

test("steps stand between the texts, while they come and at the end", () => {
  const view = new AnswerView();
  const live = { state: "streaming", live: "x" };
  const text = (words: string, at = 0) => ({ type: "text", text: words, at });
  const read = () =>
    [...(view.el.querySelector(".ic-answer")?.children ?? [])].map((one) => one.textContent.trim());
  view.draw(answer({ ...live, parts: [text("One.")] }), Infinity);
  view.draw(answer({ ...live, parts: [text("", 4), step({ at: 4, number: 0 })] }), Infinity);
  view.draw(answer({ ...live, parts: [text("", 4), step({ at: 4, number: 1, tool: "sub" })] }), Infinity);
  const notice = { type: "notice", text: "Asks" };
  view.draw(answer({ ...live, parts: [notice] }), Infinity);
  expect(read()).toEqual(["Asks", "One.", "add()result3", "sub()result3"]);
  view.draw(answer({ ...live, parts: [text("\n\nTwo.", 4), notice] }), Infinity);
  expect(read()).toEqual(["One.", "add()result3", "sub()result3", "Two.", "Asks"]);
  view.draw(answer({ parts: [text("One."), step(), step({ tool: "sub" }), text("Two.")] }), Infinity);
  expect(read()).toEqual(["One.", "add()result3", "sub()result3", "Two."]);
});

test("a panel's turn has its steps where they came", () => {
  const store = new Store(host);
  const steps = [{ type: "step" as const, tool: "add", text: "3", at: 4 }];
  const running = head({ id: "a", state: "running", place: "panel-1" });
  host.tell({ kind: "sync", all: true, order: ["a"], turns: [running] });
  const view = new TurnView(store, "a");
  host.tell({
    kind: "sync",
    deltas: [{ id: "a", at: 0, text: "One.\n\nTwo." }],
    turns: [{ ...running, steps }],
  });
  view.draw(Infinity);
  const read = [...(view.el.querySelector(".ic-answer")?.children ?? [])].map((one) =>
    one.textContent.trim(),
  );
  expect(read).toEqual(["One.", "add()result3", "Two."]);
  expect(store.holds({ ...CARD, cell: "panel-1" })).toBe(true);
  expect(store.holds({ ...CARD, cell: null })).toBe(false);
  store.close();
});

test("a step that stands behind what has come waits for it", () => {
  expect(interleaved("On", [{ type: "step", text: "", at: 4 }])).toEqual([
    { type: "text", text: "On" },
    { type: "step", text: "" },
  ]);
});
