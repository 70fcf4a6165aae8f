"""Sixty answers of all kinds, and what front ends without the extension show of each.

`answers.json` holds both: the tests of `ui/` compare what they draw with it. After a change in the
HTML: python -m tests.answers.
"""

import json
from pathlib import Path

from ipychat.text.markup import to_html

PATH = Path(__file__).with_name("answers.json")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FENCE = "```"


def fenced(language: str, code: str) -> str:
    return f"{FENCE}{language}\n{code}\n{FENCE}\n"


ANSWERS = {
    "a word": "Yes.",
    "a paragraph": "Python's `sum` adds what an iterable yields, beginning with *start*.",
    "paragraphs": "One.\n\nTwo, which\ngoes on.\n\nThree.",
    "hard breaks": "One  \ntwo\\\nthree<br>four",
    "emphasis": "*one* **two** ***three*** _four_ __five__ snake_case_name 2 * 3 * 4",
    "emphasis left open": "This *is not closed, and **this is not either.",
    "struck out": "~~gone~~ and H~2~O",
    "escapes": r"\*not emphasised\* and \# no heading and \[no link\](x)",
    "entities": "&lt;b&gt; &amp; &copy; &#233; &nosuch;",
    "headings": "# One\n\n## Two\n\n### Three\n\n#### Four ####\n\n##### Five\n\n###### Six\n\ntext",
    "underlined headings": "Title\n=====\n\nSection\n-------\n\ntext",
    "a rule": "above\n\n---\n\nbelow\n\n***\n",
    "a list": "- one\n- two\n- three",
    "a loose list": "- one\n\n- two\n\n- three\n",
    "a numbered list": "3. three\n4. four\n5. five",
    "a list in brackets": "1) one\n2) two",
    "nested lists": "- one\n  - two\n    1. three\n    2. four\n  - five\n- six",
    "paragraphs in a list": "1. one\n\n   more of one\n\n2. two\n\n   > quoted\n",
    "tasks": "- [x] done\n- [ ] not done\n- [X] done, too\n- [y] no task",
    "numbered tasks": "1. [ ] first\n2. [x] second",
    "a quotation": "> To be, or\nnot to be\n>\n> > deeper\n\nsaid *he*.",
    "code in a quotation": f"> Try:\n>\n> {FENCE}python\n> x = 1\n> {FENCE}\n\nDone.",
    "python": "Do this:\n\n" + fenced("python", "def f(x: int) -> str:\n    return f'{x!r}'  # ok\n\n\nprint(f(1))") + "\nDone.",
    "several languages": fenced("bash", "pip install x") + "\n" + fenced("sql", "SELECT 1;") + "\n" + fenced("json", '{"a": [1, null]}'),
    "an unknown language": fenced("brainwash", "++>--"),
    "no language": fenced("", "plain <text> & more"),
    "a fence of tildes": "~~~python title=x\nprint('```')\n~~~\n",
    "a longer fence": "````markdown\n```python\nx\n```\n````\n",
    "a fence left open": "Look:\n\n```python\nx = 1\ny = 2",
    "indented code": "Look:\n\n    x = 1\n    y = 2\n\nDone.",
    "code in a list": f"1. First:\n\n   {FENCE}python\n   x = 1\n   {FENCE}\n\n2. Then.",
    "an empty block": fenced("python", ""),
    "a long block": fenced("python", "\n".join(f"x{i} = {i}" for i in range(60))),
    "a long line": fenced("text", "x" * 600) + "\n" + "word " * 200,
    "a long word": "https" * 80,
    "a diff": fenced("diff", "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y"),
    "a session": fenced("pycon", ">>> 1 + 1\n2"),
    "a diagram": fenced("mermaid", "graph TD; A-->B;"),
    "a table": "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |",
    "aligned columns": "| left | middle | right |\n|:--|:-:|--:|\n| a | b | 1.5 |\n| c | d | 22.75 |",
    "a table without edges": "a | b\n--|--\n`x|y` | \\| z\n\nafter",
    "marks in a table": "| *a* | `b` | in $c^2$ |\n|---|---|---|\n| [x](https://x.example) | **y** |  |",
    "a wide table": "|" + "".join(f" column {i} |" for i in range(14)) + "\n|" + "---|" * 14 + "\n|" + "".join(f" {i * 1.5} |" for i in range(14)),
    "no table": "| a | b |\n\nand | so | on",
    "mathematics in a line": r"Euler: $e^{i\pi} + 1 = 0$, or \(a^2 + b^2\).",
    "mathematics by itself": "So:\n\n$$\n\\int_0^1 x^2 \\, dx = \\frac{1}{3}\n$$\n\nand\n\n\\[\nE = mc^2\n\\]\n",
    "a matrix": "$$\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}$$",
    "prices": "It costs $5, or $6.50 for two; $PATH is no formula.",
    "mathematics left open": "A stray $$ here, and \\( there.\n\nThe next paragraph.",
    "mathematics that may not": r"$\href{https://x.example}{x}$ and $\style{color:red}{y}$",
    "mathematics in code": "`$x^2$` and\n\n" + fenced("latex", "$$x^2$$"),
    "links": "[one](https://x.example/a?b=c&d=e) <https://y.example> [mail](mailto:a@x.example)",
    "references": "See [this][1] and [that].\n\n[1]: https://x.example\n[that]: https://y.example 'title'",
    "links that lead nowhere good": "[a](javascript:alert(1)) [b](data:text/html,x) [c](/logout) [d](file:///etc/passwd)",
    "notes": "A claim[^1], another[^two].\n\n[^1]: https://x.example\n[^two]: Said *she*,\n    in a book.",
    "pictures": f"![a dot](data:image/png;base64,{PIXEL}) and ![far](https://x.example/p.png)",
    "pictures that may not": "![x](data:image/svg+xml;base64,PHN2Zy8+) ![y](javascript:alert(1))",
    "html": "<b>bold</b> <script>alert(1)</script>\n\n<div onclick=alert(1)>\n\n<!-- a comment -->",
    "other scripts": "日本語、العربية, עברית, ελληνικά, 👩\u200d🔬 and é.",
    "all at once": "# Plan\n\n1. **Load**\n\n   " + f"{FENCE}python\n   import pandas as pd\n   {FENCE}\n\n2. Fit $y = ax + b$:\n\n| a | b |\n|--:|--:|\n| 1 | 2 |\n\n> Done[^1].\n\n[^1]: *Almost*.\n",
}  # fmt: skip


def written() -> str:
    shown = [
        {"name": name, "text": text, "html": to_html(text, final=True)}
        for name, text in ANSWERS.items()
    ]
    return json.dumps(shown, ensure_ascii=False, indent=1) + "\n"


if __name__ == "__main__":
    PATH.write_text(written(), encoding="utf-8")
