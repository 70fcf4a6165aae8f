"""`python -m bench` measures everything, prints it, and writes `docs/performance.md` and its
picture.

`python -m bench wire race` runs only these scripts and writes nothing. The exit status is 1 if a
figure is missing or exceeds its bound.
"""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from bench.rows import PARTS
from bench.run import measured, report, write


def main(scripts: list[str]) -> int:
    if unknown := [*{*scripts} - {*PARTS}]:
        print(f"There is no {unknown[0]}: {', '.join(PARTS)}.", file=sys.stderr)
        return 2
    # each in a new process, so that none reuses memory that another has freed
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        chosen = scripts or PARTS
        figures, left_out, wrong = report(
            (script, pool.submit(measured, script).result()) for script in chosen
        )
    if not scripts:
        write(figures, left_out, Path(__file__).parent.parent / "docs")
    for one in wrong:
        print(one, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
