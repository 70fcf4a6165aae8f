"""The magics: loading them into a shell, and removing them without a trace."""

from __future__ import annotations

import functools
import sys
from types import MethodType
from typing import TYPE_CHECKING, Any

from ipychat import config, secrets
from ipychat.toolbox import nested

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from IPython.core.interactiveshell import InteractiveShell

SHOW = "_showtraceback"
"""IPython's method that displays every traceback, and each front end's override of it."""

TARGET = "ipychat"
"""What JupyterLab's side opens a comm to."""

_loaded: dict[int, _Loaded] = {}
"""What was loaded into which shell, by the shell's id."""


class _Loaded:
    """Everything that loading puts into a shell."""

    def __init__(self, shell: InteractiveShell, gateway: Callable[[], Awaitable[str]]) -> None:
        from IPython.core.completer import context_matcher

        from ipychat.kernel import notebook
        from ipychat.kernel.awaiting import Awaiting
        from ipychat.kernel.interrupts import Interrupts
        from ipychat.magics.chat import ChatMagics
        from ipychat.magics.history import HistoryMagics
        from ipychat.magics.models import ModelMagics
        from ipychat.magics.session import Session
        from ipychat.magics.settings import IPyChat

        self._shell: Any = shell
        self._settings = IPyChat(notebook.name(shell), gateway, parent=shell)
        self._session = Session(shell)
        self._magics = [
            ChatMagics(self._session),
            HistoryMagics(self._session),
            ModelMagics(self._session),
        ]
        for magics in self._magics:
            _keep_to_the_user(magics)
        self._awaiting = Awaiting(shell, self._waiting_names())
        self._interrupts = Interrupts(shell)
        kernel = getattr(shell, "kernel", None)
        self._comms: Any = kernel and kernel.comm_manager

        @context_matcher()
        def ipychat_matcher(context: Any) -> Any:
            from ipychat.magics.completion import complete

            return complete(self._session, context)

        self._matcher = ipychat_matcher

    def _waiting_names(self) -> set[str]:
        return {
            name
            for magics in self._magics
            for kind in magics.magics.values()
            for name, method in kind.items()
            if hasattr(getattr(magics, method) if isinstance(method, str) else method, "awaited")
        }

    def install(self) -> None:
        shell = self._shell
        shell.configurables.append(self._settings)
        for magics in self._magics:
            shell.register_magics(magics)
        self._awaiting.install()
        self._interrupts.install()
        if self._comms is not None:
            self._comms.register_target(TARGET, self._open_side)
        shell.events.register("pre_run_cell", self._forget_shown)
        shell.display_formatter.ipython_display_formatter.for_type_by_name(
            "ipychat.messages", "Reply", self._display_reply
        )
        shell.Completer.custom_matchers.append(self._matcher)
        self._show, self._show_before = getattr(shell, SHOW), vars(shell).get(SHOW)
        vars(shell)[SHOW] = self._show_masked
        shell.display_trap.hook = self._display_result
        if sys.displayhook is shell.displayhook:  # the cell that loads us is already running
            sys.displayhook = shell.display_trap.hook

    def remove(self) -> None:
        shell = self._shell
        self._awaiting.remove()
        self._interrupts.remove()
        if self._comms is not None:
            self._comms.unregister_target(TARGET, self._open_side)
        for magics in self._magics:
            for kind, names in magics.magics.items():
                for name in names:
                    shell.magics_manager.magics[kind].pop(name, None)
            shell.magics_manager.registry.pop(type(magics).__name__, None)
            shell.configurables.remove(magics)  # where IPython registers all of them
        shell.events.unregister("pre_run_cell", self._forget_shown)
        _forget_type(shell.display_formatter.ipython_display_formatter, "ipychat.messages", "Reply")
        shell.Completer.custom_matchers.remove(self._matcher)
        shell.configurables.remove(self._settings)
        config.use(config.Config())
        shell.display_trap.hook = shell.displayhook
        if vars(shell).get(SHOW) == self._show_masked:
            del vars(shell)[SHOW]
            vars(shell).update({SHOW: self._show_before} if self._show_before else {})
        self._end()

    def _open_side(self, comm: Any, message: Any) -> None:
        """Answer JupyterLab's side, which has opened a comm."""
        from ipychat.display import dock

        dock.opened(self._shell, comm, message)

    def _end(self) -> None:
        """Stop what is running, let it save what arrived, and close its loop's connections."""
        if "ipychat.display.panel" in sys.modules:
            from ipychat.display import panel

            panel.close_all()
        if "ipychat.display.dock" in sys.modules:
            from ipychat.display import dock

            dock.close_all()
        if "ipychat.local.engine" in sys.modules:
            from ipychat.local import engine

            engine.end()
        if "aiohttp" not in sys.modules:
            return
        import asyncio

        from ipychat.kernel import blocking
        from ipychat.kernel.run import stop_those_in_front
        from ipychat.wire import http

        # what exists now, not what a reload in the same cell starts while this waits
        stop_those_in_front()
        for job in self._session.jobs:
            job.stop()
        closing = [http.close(blocking.loop())]
        if "ipychat.gateway.server" in sys.modules:
            from ipychat.gateway import server

            closing.insert(0, server.close(blocking.loop()))

        async def end() -> None:
            await asyncio.gather(*self._session.jobs, return_exceptions=True)
            for each in closing:
                await each

        blocking.finish(end())

    def _forget_shown(self, _info: Any = None) -> None:
        self._session.shown = None

    def _display_result(self, result: Any = None) -> None:
        """Put a reply that is already displayed into `_` and `Out`; leave the rest to IPython.

        A terminal would otherwise write an empty `Out[n]:` for it.
        """
        displayhook = self._shell.displayhook
        if result is not None and result is self._session.shown:
            displayhook.update_user_ns(result)
            displayhook.fill_exec_result(result)
        else:
            displayhook(result)

    def _show_masked(self, kind: Any, error: Any, lines: Any) -> None:
        """Show a traceback with known secrets masked: IPython's may list all variables."""
        self._show(kind, error, secrets.masked(lines))

    def _display_reply(self, reply: Any) -> None:
        """Display nothing for a reply that its cell has already shown; else leave it to IPython."""
        if reply is not self._session.shown:
            raise NotImplementedError


def install(shell: InteractiveShell, gateway: Callable[[], Awaitable[str]]) -> None:
    """Load the magics into `shell`, unless they are loaded.

    `gateway` starts the service that stands in for offline ones.
    """
    if id(shell) not in _loaded:
        loaded = _Loaded(shell, gateway)
        loaded.install()
        _loaded[id(shell)] = loaded


def remove(shell: InteractiveShell) -> None:
    """Remove the magics from `shell`, if they are loaded."""
    nested.refuse("unload ipychat")
    if loaded := _loaded.pop(id(shell), None):
        loaded.remove()


def _keep_to_the_user(magics: Any) -> None:
    """Let magics refuse what a model's code asks of them."""
    for kind in magics.magics.values():
        for name, magic in kind.items():
            kept = _kept(magic.__func__, name)
            if hasattr(magic, "awaited"):
                kept.awaited = _kept(magic.awaited, name)  # type: ignore[attr-defined] # as `waits` does
            kind[name] = MethodType(kept, magics)


def _kept(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def keep(*args: Any) -> Any:
        nested.refuse(f"use %{name}")
        return function(*args)

    return keep


def _forget_type(formatter: Any, module: str, name: str) -> None:
    formatter.deferred_printers.pop((module, name), None)
    for cls in list(formatter.type_printers):
        if (cls.__module__, cls.__name__) == (module, name):
            del formatter.type_printers[cls]
