"""The documentation as a site: the README, these pages and the notebooks, where they stand.

The source is the whole repository, so that a link is the same on GitHub and here; one to a file
that is no page leads to a copy of it. Nothing is run, and nothing is loaded from elsewhere.
"""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INDEX = "docs/index"

project = "ipychat"
html_title = "ipychat"
extensions = ["myst_nb"]
root_doc = INDEX
include_patterns = ["*.md", "docs/**.md", "notebooks/*.md", "notebooks/*.ipynb"]
exclude_patterns = ["build", "dist", "js", ".*"]

html_theme = "furo"
html_extra_path = ["site"]  # the way from the site's root to its index
html_copy_source = False
html_show_copyright = False

myst_enable_extensions = ["html_image"]  # GitHub shows `<img>`, too
myst_heading_anchors = 3
smartquotes = False  # -- is a flag's beginning
highlight_language = "none"  # cells and commands; Python says so itself
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # would come from elsewhere, as would what draws formulas
suppress_warnings = ["mystnb.unknown_mime_type"]  # of answers: the HTML beside it is shown
nb_mime_priority_overrides = [
    ("html", "application/vnd.jupyter.widget-view+json", None),
    ("html", "text/latex", None),
]


def pages():
    """Give the sections of the contents: the index's headings and links, then all that is left."""
    _, *sections = re.split(r"^## ", (ROOT / f"{INDEX}.md").read_text(), flags=re.MULTILINE)
    known = {INDEX}
    for section in sections:
        title, _, text = section.partition("\n")
        links = re.findall(r"\]\(([\w./-]+)\.(?:md|ipynb)", text)
        named = [name_of(ROOT / "docs" / link) for link in links]
        if title == "Notebooks":
            named += names("notebooks/*.ipynb")
        yield title, [one for one in dict.fromkeys(named) if one not in known]
        known |= {*named}
    yield "More", [one for one in (*names("*.md"), *names("docs/*.md")) if one not in known]


def names(pattern):
    return sorted(name_of(path.with_suffix("")) for path in ROOT.glob(pattern))


def name_of(path):
    return str(path.resolve().relative_to(ROOT))


def add_contents(_app, docname, source):
    """Add what GitHub has no word for: the contents to the index, the decisions to their list."""
    if docname == INDEX:
        for title, named in pages():
            lines = [f":caption: {title}", ":hidden:", "", *(f"/{one}" for one in named)]
            source[0] += "\n```{toctree}\n" + "\n".join(lines) + "\n```\n"
    elif docname == "docs/adr/README":
        source[0] += "\n```{toctree}\n:glob:\n\n0*\n```\n"


def copy_pictures(app, _error):
    """Sphinx doesn't see what stands in a `<picture>`, which GitHub shows by the reader's theme."""
    shutil.copytree(ROOT / "docs/pictures", app.outdir / "docs/pictures", dirs_exist_ok=True)


def setup(app):
    """Sphinx calls this."""
    app.connect("build-finished", copy_pictures)
    app.connect("source-read", add_contents)
