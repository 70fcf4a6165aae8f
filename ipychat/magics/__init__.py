"""The magics: loading them into a shell, and removing them without a trace.

Loading only registers their names; a magic's module is imported when the magic is used, completed
or asked for its help.
"""

from __future__ import annotations

import itertools
import sys
from functools import partial, wraps
from importlib import import_module
from types import MethodType
from typing import TYPE_CHECKING, Any

from ipychat import config, secrets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from IPython.core.interactiveshell import InteractiveShell

SHOW = "_showtraceback"
"""IPython's method that displays every traceback, and each front end's override of it."""

TARGET = "ipychat"
"""What JupyterLab's side opens a comm to."""

CLASSES = {
    # "%chat": `%%chat` that is not the first line of its cell
    "chat.ChatMagics": ("chat", "%chat", "chat_jobs", "chat_panel", "chat_stop"),
    "history.HistoryMagics": (
        "chat_audit", "chat_cassette", "chat_continue", "chat_fix", "chat_fork", "chat_history",
        "chat_keep", "chat_new", "chat_receipt", "chat_undo",
    ),
    "tools.ToolMagics": ("chat_approve", "chat_tools"),
    "models.ModelMagics": ("chat_login", "chat_models", "chat_setup", "chat_usage", "chat_use"),
}  # fmt: skip
"""The magics of each class."""
CELL_MAGICS = {"chat"}
"""Those that a cell may begin with, too."""

_loaded: dict[int, _Loaded] = {}
"""What was loaded into which shell, by the shell's id."""


class _Magic:
    """A magic whose class is imported on use; it then has the attributes of the real one."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __call__(self, *args: Any) -> Any:
        return self._find()(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)

    def __repr__(self) -> str:
        return repr(self._find())


class _Loaded:
    """Everything that loading puts into a shell."""

    def __init__(self, shell: InteractiveShell, gateway: Callable[[], Awaitable[str]]) -> None:
        from IPython.core.completer import context_matcher

        from ipychat.kernel import notebook
        from ipychat.kernel.awaiting import Awaiting
        from ipychat.kernel.interrupts import Interrupts
        from ipychat.magics.session import Session
        from ipychat.magics.settings import IPyChat

        self._shell: Any = shell
        self._settings = IPyChat(notebook.name(shell), gateway, self._ask, parent=shell)
        self._session = Session(shell)
        self._approval: Any = None
        self._magics: dict[str, Any] = {}
        """The magics whose class is imported, by the class's name."""
        self._awaiting = Awaiting(shell, self._waits)
        self._interrupts = Interrupts(shell)
        kernel = getattr(shell, "kernel", None)
        self._comms: Any = kernel and kernel.comm_manager

        @context_matcher()
        def ipychat_matcher(context: Any) -> Any:
            from ipychat.magics.completion import complete

            return complete(self._session, context)

        self._matcher = ipychat_matcher

    def _register(self) -> None:
        known = self._shell.magics_manager.magics
        for home, names in CLASSES.items():
            for name in names:
                kinds = ("line", "cell") if name in CELL_MAGICS else ("line",)
                for kind in kinds:
                    known[kind][name] = _Magic(partial(self._find, home, kind, name))

    def _find(self, home: str, kind: str, name: str) -> Any:
        """Return a magic, having imported its class if necessary."""
        if home not in self._magics:
            module, _, cls = home.partition(".")
            made = getattr(import_module(f"{__name__}.{module}"), cls)(self._session)
            _keep_to_the_user(made)
            self._magics[home] = made
            self._shell.register_magics(made)
        return self._magics[home].magics[kind][name]

    def _waits(self, name: str) -> bool:
        """Whether `name` is a magic of ours that waits for an answer."""
        for home, names in CLASSES.items():
            if name in names:
                return hasattr(self._find(home, "line", name), "awaited")
        return False

    def install(self) -> None:
        shell = self._shell
        shell.configurables.append(self._settings)
        self._register()
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
        for known in shell.magics_manager.magics.values():
            for name in itertools.chain.from_iterable(CLASSES.values()):
                known.pop(name, None)
        for magics in self._magics.values():
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

    async def _ask(self, pending: Any) -> Any:
        """Ask the user whether a tool may run."""
        if self._approval is None:
            from ipychat.display.approval import Approval

            self._approval = Approval(self._shell)
        return await self._approval(pending)

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
    from ipychat.magics.settings import keep_to_the_user

    keep_to_the_user("unload ipychat")
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
    from ipychat.magics.settings import keep_to_the_user

    @wraps(function)
    def keep(*args: Any) -> Any:
        keep_to_the_user(f"use %{name}")
        return function(*args)

    return keep


def _forget_type(formatter: Any, module: str, name: str) -> None:
    formatter.deferred_printers.pop((module, name), None)
    for cls in list(formatter.type_printers):
        if (cls.__module__, cls.__name__) == (module, name):
            del formatter.type_printers[cls]
