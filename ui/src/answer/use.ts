/** What the buttons on a block of code do. */
import { copy, harmless } from "../clipboard";
import { confirm } from "../dom";

const SHELLS = ["bash", "sh", "shell", "zsh"]; // a cell runs these behind %%bash

export interface User {
  /** Puts a cell into the notebook; false where there is none. */
  insert(source: string): boolean;
  /** Says what became of the last click. */
  say(text: string): void;
}

/** Does what a click on a code's button asks for. */
export async function useCode(event: Event, user: User): Promise<void> {
  const button = (event.target as Element).closest<HTMLElement>("[data-code]");
  const block = button?.closest<HTMLElement>(".ic-code");
  if (!button || !block) return;
  if (button.dataset.code === "unfold") return unfold(button, block);
  const written = block.querySelector("code")?.textContent.replace(/\n$/, "") ?? "";
  const source = harmless(written);
  user.say(source === written ? "" : "The code held control characters; they were left out.");
  const inserts = button.dataset.code === "insert";
  const shell = inserts && SHELLS.includes(block.dataset.language ?? "") && !/^[%!]/.test(source);
  const code = shell ? `%%bash\n${source}` : source;
  if (inserts && user.insert(code)) return confirm(button, "Inserted below");
  const copied = await copy(code);
  confirm(button, copied ? "Copied" : "The browser forbids copying", copied ? "check" : "close");
  if (copied && inserts)
    user.say("No cell can be added from here, so the code was copied: paste it into a new cell.");
}

function unfold(button: HTMLElement, block: HTMLElement) {
  const whole = block.classList.toggle("ic-whole");
  button.setAttribute("aria-expanded", String(whole));
  button.textContent = whole ? "Fold" : (button.dataset.label ?? "");
  if (!whole) block.scrollIntoView({ block: "nearest" });
}
