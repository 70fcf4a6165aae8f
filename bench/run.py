"""Runs the scripts, prints what they yield, and reports what is wrong."""

import asyncio
import importlib
import os
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from bench import page
from bench.rows import PARTS, Figure

Yielded = list[Figure | str]


def measured(script: str) -> Yielded:
    """Run one script, without the user's settings; for a process of its own."""
    for name in [name for name in os.environ if name.startswith(("OPENAI_", "IPYCHAT_"))]:
        del os.environ[name]
    # else it would request prices from the network
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    found = importlib.import_module(f"bench.{script}").measure()
    return asyncio.run(_gathered(found)) if isinstance(found, AsyncIterator) else [*found]


async def _gathered(found: AsyncIterator[Figure | str]) -> Yielded:
    return [one async for one in found]


def report(yielded: Iterable[tuple[str, Yielded]]) -> tuple[page.Figures, list[str], list[str]]:
    """Print results as they arrive, script by script; return figures, omissions and faults."""
    figures: dict[str, dict[str, Figure]] = {}
    left_out: list[str] = []
    wrong: list[str] = []
    begin = time.monotonic()
    for script, found in yielded:
        told = [one for one in found if isinstance(one, str)]
        mine = {one.name: one for one in found if isinstance(one, Figure)}
        for line in (*page.lines(PARTS[script], mine), *(f"  {one}" for one in told)):
            print(line)
        print(f"  ({time.monotonic() - begin:.0f} seconds until here)", flush=True)
        wrong += [f"{script}: {one}" for one in faults(script, mine, told)]
        figures[script] = mine
        left_out += told
    return figures, left_out, wrong


def faults(script: str, figures: dict[str, Figure], told: list[str]) -> list[str]:
    """Figures that exceed their bounds, are missing without an explanation, or have no row."""
    rows = {row.name: row for row in PARTS[script].rows}
    missing = [] if told else [name for name in rows if name not in figures]
    return [
        *(f"{name}: has no row" for name in figures if name not in rows),
        *(f"{name}: was not measured" for name in missing),
        *(
            f"{name}: is worse than its bound"
            for name, row in rows.items()
            if name in figures and page.is_worse(row, figures[name])
        ),
    ]


def write(figures: page.Figures, left_out: list[str], folder: Path) -> None:
    """Write the page, and its picture beside it."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    (folder / "performance.md").write_text(page.page(figures, left_out), encoding="utf-8")
    (folder / "pictures/performance.svg").write_text(page.picture(figures), encoding="utf-8")
