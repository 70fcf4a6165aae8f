"""`python -m ipychat.gateway`: the gateway by itself. Its first line is its root URL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from ipychat import secrets
from ipychat.errors import ChatError, UsageError
from ipychat.gateway.backend import Backend
from ipychat.gateway.server import Gateway
from ipychat.wire import http

KEY_VARIABLE = "IPYCHAT_GATEWAY_KEY"


def parser() -> argparse.ArgumentParser:
    """Return the command's arguments."""
    made = argparse.ArgumentParser("python -m ipychat.gateway", description=__doc__)
    made.add_argument("--port", type=int, default=0, help="0: any that is free")
    made.add_argument("--host", default="127.0.0.1", help=f"any but loopback needs {KEY_VARIABLE}")
    made.add_argument("--model", help="who answers; without it the default rules choose")
    made.add_argument("--repo", type=Path, help="the git repository that RepoAgent may read")
    made.add_argument(
        "--token-path",
        choices=("on", "off"),
        default="on",
        help="off: a root without the secret path, on loopback only",
    )
    return made


def path_of(host: str, token_path: str) -> str | None:
    """Return the path below which everything is; None lets the gateway make one up.

    Raises UsageError where others could reach it without a key.
    """
    if http.is_loopback(f"http://{host}"):
        return None if token_path == "on" else ""  # noqa: S105 - a switch
    key = os.environ.get(KEY_VARIABLE, "")
    if len(key) < secrets.MIN_LENGTH or not key.replace("-", "").replace("_", "").isalnum():
        raise UsageError(
            f"{host} can be reached by others: set {KEY_VARIABLE} to letters and digits, at least "
            f"{secrets.MIN_LENGTH}.\nIt becomes the path of the root URL."
        )
    secrets.register(key)
    return f"/{key}"


async def serve(given: argparse.Namespace) -> None:
    """Serve until the process is told to stop; then finish what is being streamed."""
    answers = Backend(model=given.model, repository=given.repo)
    answers.model_id()  # an unknown model is told now, not at the first request
    path = path_of(given.host, given.token_path)
    gateway = Gateway(answers, host=given.host, path=path)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows ends the process by itself
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        print(await gateway.start(given.port), flush=True)  # noqa: T201 - what it is for
        await stop.wait()
        for number in (signal.SIGTERM, signal.SIGINT):  # a second one ends it at once
            with contextlib.suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)
    finally:
        await gateway.close()
        await http.close()


def main() -> None:
    """Run the command."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        asyncio.run(serve(parser().parse_args()))
    except (ChatError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
