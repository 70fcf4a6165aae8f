"""The synchronous path: run a coroutine to its end where IPython can't await it.

Inside a running loop this needs nest-asyncio2, which patches the loop; it is applied at the first
such call and never before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ipychat import requirements
from ipychat.errors import UsageError


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run `coroutine` to its end and return its result."""
    mine = loop()
    if mine.is_running():
        requirements.check("nest-asyncio2")
        import nest_asyncio2

        try:
            nest_asyncio2.apply(mine)
        except ValueError:
            coroutine.close()
            raise UsageError(
                f"{type(mine).__module__} can't run this synchronously. Run it in a cell of its "
                "own, without %%time or the like, where it is awaited."
            ) from None
    return mine.run_until_complete(coroutine)


def loop() -> asyncio.AbstractEventLoop:
    """Return the loop on which cells are awaited."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        from IPython.core.async_helpers import get_asyncio_loop

        idle: asyncio.AbstractEventLoop = get_asyncio_loop()
        return idle


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run `coroutine` to its end if no loop is running; otherwise start it as a task."""
    try:
        task = asyncio.get_running_loop().create_task(coroutine)
    except RuntimeError:
        run(coroutine)
    else:
        _finishing.add(task)
        task.add_done_callback(_finishing.discard)


_finishing: set[asyncio.Task[None]] = set()
"""The loop refers to its tasks weakly; these references keep them alive until they are done."""
