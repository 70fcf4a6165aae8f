"""`python -m ipychat.local`: list weights and download them, for scripts and container images."""

from __future__ import annotations

import argparse
import asyncio
import sys

from ipychat.errors import ChatError
from ipychat.local import engine, weights
from ipychat.local.progress import Line
from ipychat.wire import http


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser("python -m ipychat.local", description=__doc__)
    commands = made.add_subparsers(dest="command", required=True, metavar="list | pull NAME")
    commands.add_parser("list", help="list the weights, and which of them are here")
    pull = commands.add_parser("pull", help="download weights, or resume a download")
    pull.add_argument("name", help="a name from the list")
    commands.add_parser("serve")  # the engine's process: see engine.py
    return made


def show() -> None:
    """Print the available weights, which of them are here, and the folder."""
    there = weights.there()
    for name, offer in weights.OFFERS.items():
        print(f"{name:20} {'there' if name in there else '-':6} {offer}")  # noqa: T201 - the command's output
    print(f"kept in {weights.folder()}")  # noqa: T201 - as above


async def pull(name: str) -> None:
    """Download weights, showing progress; print where they are."""
    if name not in weights.there():
        print(f"{name}: {weights.offer(name)}", file=sys.stderr)  # noqa: T201 - the command's output
    try:
        print(await weights.pull(name, progress=Line()))  # noqa: T201 - the command's output
    finally:
        await http.close()


def main() -> None:
    """Run the command."""
    given = parser().parse_args()
    try:
        match given.command:
            case "list":
                show()
            case "pull":
                asyncio.run(pull(given.name))
            case "serve":
                engine.serve()
    except ChatError as error:
        sys.exit(f"{type(error).__name__}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"Stopped. {weights.IS_KEPT}")


if __name__ == "__main__":
    main()
