/** A block of code: its language, its text, and the buttons that others listen to. */
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import diff from "highlight.js/lib/languages/diff";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { h, iconButton } from "../dom";
import { Growing } from "./growing";
import { colours } from "./safe";

// a superset serves for its subset: each grammar is 3 to 13 kB
const languages = {
  ...{ bash, c: cpp, cpp, diff, go, java, javascript: typescript, json },
  ...{ python, r, rust, sql, typescript, xml, yaml },
};
for (const [name, grammar] of Object.entries(languages)) hljs.registerLanguage(name, grammar);
hljs.registerAliases(["ipython", "ipython3"], { languageName: "python" });

const COLOURED = 20_000; // characters: longer code stays plain, as does code with a line of over a thousand
const FOLDED = 30; // lines from which on a block is folded, when it has ended
const TRICKY = 250; // milliseconds that only text made to be slow takes to colour
let tricks = 0;

const whenIdle = (task: () => void) => {
  // Safari has no idle callbacks
  if ("requestIdleCallback" in window) requestIdleCallback(task, { timeout: 500 });
  else setTimeout(task, 30);
};

export class Code {
  readonly el: HTMLElement;
  readonly text: Growing;
  private readonly language: string;
  private readonly code = h("code");
  private readonly unfold = h("button", {
    type: "button",
    class: "ic-link",
    "data-code": "unfold",
    "aria-expanded": "false",
    hidden: true,
  });

  constructor(info: string) {
    this.language = (/^[\s]*([^\s{,]*)/.exec(info)?.[1] ?? "").slice(0, 24);
    this.text = new Growing(this.code);
    const name = this.language || "text";
    const label = `Code${this.language && `, ${this.language}`}`;
    this.el = h(
      "div",
      { class: "ic-code", "data-language": this.language.toLowerCase() },
      h(
        "div",
        { class: "ic-bar" },
        h("span", { class: "ic-language", text: name }),
        this.unfold,
        iconButton("insert", "Insert as a new cell", null, { "data-code": "insert" }),
        iconButton("copy", "Copy code", null, { "data-code": "copy" }),
      ),
      h("pre", { tabindex: 0, role: "group", "aria-label": label }, this.code),
    );
  }
  append(text: string) {
    this.text.append(text);
  }
  finish() {
    this.text.end("");
    const lines = this.code.textContent.trimEnd().split("\n").length;
    this.unfold.hidden = lines <= FOLDED;
    this.unfold.textContent = this.unfold.dataset.label = `Show all ${lines} lines`;
    if (this.text.size <= COLOURED && hljs.getLanguage(this.language)) whenIdle(() => this.colour());
  }
  private colour() {
    const source = this.code.textContent;
    if (/.{1000}/.test(source) || tricks > 4) return;
    const began = performance.now();
    try {
      const { value } = hljs.highlight(source, { language: this.language, ignoreIllegals: true });
      if (performance.now() - began > TRICKY) tricks++;
      this.code.replaceChildren(colours(value));
    } catch {
      this.code.textContent = source;
    }
  }
}
