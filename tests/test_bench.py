"""The benchmarks' runner, on figures that are made up; and that the page has the rows there are."""

import ast
import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import page, run
from bench.rows import PARTS, Figure, Part, Row

BENCH = Path(run.__file__).parent
PAGE = BENCH.parent / "docs/performance.md"

RATIO = Row("reading", "µs", "split", times=1.3)
COUNT = Row("sent", limit=0)
GOAL = Row("waiting", "ms", goal=5)
RATE = Row("events", "a second", "split", times=2, goal=40_000, more=True)


@pytest.fixture(autouse=True)
def _parts(monkeypatch, request):
    if "made_up" in request.fixturenames:
        part = Part("Made up", "Nothing is measured.", (RATIO, COUNT, GOAL, RATE))
        for module in (run, page):
            monkeypatch.setattr(module, "PARTS", {"made": part})


@pytest.fixture
def made_up():
    """Figures that hold every bound."""
    return {
        "reading": Figure("reading", 1.2, 1.0, others={"openai": 96.0}),
        "sent": Figure("sent", 0),
        "waiting": Figure("waiting", 4.0),
        "events": Figure("events", 50_000, 60_000),
    }


def wrong(figures, *told):
    _, _, found = run.report([("made", [*figures.values(), *told])])
    return found


def test_nothing_is_wrong_where_every_bound_is_held(made_up, capsys):
    assert wrong(made_up) == []
    printed = capsys.readouterr().out
    assert re.search(r"reading, µs +1.2 +1 +1.20 +ratio ≤ 1.3", printed)
    assert "openai 96" in printed


@pytest.mark.parametrize(
    "figure",
    [
        Figure("reading", 1.4, 1.0),
        Figure("reading", 1.2, 1.0, ratio=1.31),
        Figure("reading", math.nan, 1.0),
        Figure("reading", 1.2),
        Figure("sent", 1),
        Figure("sent", math.nan),
        Figure("events", 29_000, 60_000),
    ],
)
def test_a_figure_that_is_worse_than_its_bound_is_wrong(made_up, figure):
    assert wrong(made_up | {figure.name: figure}) == [f"made: {figure.name}: is worse than its bound"]  # fmt: skip


def test_a_goal_that_is_missed_is_shown_and_nothing_more(made_up, capsys):
    assert wrong(made_up | {"waiting": Figure("waiting", 6.0)}) == []
    assert "≤ 5: not met" in capsys.readouterr().out


def test_a_row_that_was_not_measured_is_wrong_unless_the_script_said_why(made_up, capsys):
    del made_up["sent"]
    assert wrong(made_up) == ["made: sent: was not measured"]
    assert wrong(made_up, "Chromium is not installed.") == []
    assert "not measured" in capsys.readouterr().out


def test_a_figure_without_a_row_is_wrong(made_up):
    assert wrong(made_up | {"x": Figure("x", 1)}) == ["made: x: has no row"]


def test_the_page_and_its_picture_are_written(made_up, tmp_path):
    made_up["reading"] = Figure("reading", 1.4, 1.0)
    figures, left_out, _ = run.report([("made", [*made_up.values(), "litellm is not installed."])])
    run.write(figures, left_out, tmp_path)
    written = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| reading, µs | 1.4 | 1 (split) | 1.40 | ratio ≤ 1.3: worse |  |" in written
    assert "| events, a second | 50,000 | 60,000 (split) | 1.20 | ratio ≤ 2 | ≥ 40,000: met |" in written  # fmt: skip
    assert "- litellm is not installed." in written
    picture = ET.parse(tmp_path / "pictures/performance.svg").getroot()
    shown = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"reading", "1.40", "events", "1.20"} <= {*shown}
    assert "waiting" not in shown, "it has no floor"


def test_the_page_that_is_kept_has_every_row_with_the_bounds_of_today():
    """Else: make bench."""
    tables = [line.split("|") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    kept = [
        (cells[1].strip(), *(cells[at].split(":")[0].strip() for at in (5, 6)))
        for cells in tables
        if len(cells) == 8 and cells[1].strip(" -")
    ]
    wanted = []
    for part in PARTS.values():
        for row in part.rows:
            name, *_, bound, goal = page.cells(row, Figure(row.name, 1, 1))
            wanted.append((name, bound.split(":")[0], goal.split(":")[0]))
    assert kept == wanted


def names_in(script: str) -> list[str]:
    """The names that a script's figures have, as patterns: what is put into one may be anything."""
    found = []
    for node in ast.walk(ast.parse((BENCH / f"{script}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Figure":
            match node.args[0]:
                case ast.Constant(value):
                    found.append(re.escape(value))
                case ast.JoinedStr(values):
                    parts = (re.escape(v.value) if isinstance(v, ast.Constant) else ".+" for v in values)  # fmt: skip
                    found.append("".join(parts))
                case _:
                    found.append(".+")
    return found


@pytest.mark.parametrize("script", PARTS)
def test_the_rows_are_those_that_a_script_yields(script):
    rows = [row.name for row in PARTS[script].rows]
    patterns = names_in(script)
    assert [name for name in rows if not any(re.fullmatch(p, name) for p in patterns)] == []
    assert [p for p in patterns if not any(re.fullmatch(p, name) for name in rows)] == []


def test_every_script_that_measures_has_its_part():
    measuring = {path.stem for path in BENCH.glob("*.py") if "def measure()" in path.read_text()}
    assert measuring == {*PARTS}
