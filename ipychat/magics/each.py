"""A prompt for each row of data: what `--each` asks, and where `--into` stores the answers."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ipychat.errors import UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from ipychat.batch import Plan, Results
    from ipychat.magics.session import Session

IT = re.compile(r"\{\{[^}]*\bit\b")


SINGLE_ONLY = (
    "background",
    "run_scripts",
    "first",
    "with_",
    "cells",
    "file",
    "image",
    "format",
    "chat",
)
"""Flags that apply to a single question only."""


async def run(session: Session, template: str, flags: Namespace) -> Results | Plan:
    """Ask for each row of the data in `--each`, show progress, and store the values `--into`.

    Expressions in the template may use `it`, the row. With `--dry-run` nothing is sent, and the
    plan is returned. If interrupted, stores what is finished, and raises InterruptedAnswerError.
    """
    from ipychat.batch import Batch, How
    from ipychat.batch.run import with_tools
    from ipychat.display import progress
    from ipychat.kernel import notebook
    from ipychat.kernel.awaiting import stoppable
    from ipychat.kernel.run import Run, in_front
    from ipychat.magics.flags import options_of
    from ipychat.text import schemas

    _check(session, flags)
    shell = session.shell
    scope = dict(notebook.names_in_sight(shell))
    data = _value("--each", flags.each, scope)
    await session.conversation().load(turns=False)
    form = _value("--schema", flags.schema, {**vars(typing), **scope}) if flags.schema else None
    if form is not None:
        await schemas.load(form)
    put = _target(flags.into, scope, shell.user_ns) if flags.into else None
    publish = notebook.publisher(shell) if notebook.is_kernel(shell) else None
    how = How(
        model=flags.model[0] if flags.model else session.conversation().model,
        system=flags.system,
        schema=form,
        concurrency=flags.concurrency or 64,
        rpm=flags.rpm,
        tpm=flags.tpm,
        max_cost=flags.max_cost,
        progress=progress.shown(publish, watched=notebook.is_watched(shell)),
        options={name: one for name, one in options_of(flags).items() if one is not None},
    )
    how = replace(how, options=await stoppable(with_tools(how)))
    batch = Batch(data, _template(template, scope), how)
    if flags.dry_run:
        return batch.plan()

    async def work() -> None:
        await batch.run()

    running = Run(work())
    try:
        with in_front(running):
            await running.wait()
    finally:
        results = batch.results
        if put and any(row.is_answered for row in results):
            put(results)
    if running.interrupted:
        raise batch.interrupted()
    if flags.to:
        shell.user_ns[flags.to] = results
    return results


def _check(session: Session, flags: Namespace) -> None:
    if flags.each is None:
        raise UsageError("--into and --schema go with --each, which names the rows.")
    if len(flags.model) > 1:
        raise UsageError("--each asks one model.")
    for name in SINGLE_ONLY:
        if getattr(flags, name):
            flag = f"--{name.strip('_').replace('_', '-')}"
            raise UsageError(f"{flag} goes with one question, and --each asks one for each row.")
    if flags.into and flags.into.isidentifier() and not session.is_free(flags.into):
        raise UsageError(f"--into takes a column or a variable of yours, not {flags.into!r}.")


def _value(flag: str, expression: str, scope: dict[str, Any]) -> Any:
    try:
        return eval(expression, scope)  # noqa: S307 - the user wrote it
    except Exception as error:  # noqa: BLE001 - whatever the user's expression raises
        raise UsageError(f"{flag} {expression} failed: {type(error).__name__}: {error}") from None


def _template(text: str, scope: dict[str, Any]) -> Callable[[Any], str]:
    """Return a function that makes a row's prompt, from `it` and the notebook's names."""
    from ipychat.context import expressions
    from ipychat.text.characters import whole

    text = text.strip("\n")
    if not IT.search(text):
        raise UsageError(
            "The prompt has no {{it}}, so every row would ask the same.\n"
            "{{it}} is the row's value, {{it.name}} its column of that name."
        )

    def make(it: Any) -> str:
        scope["it"] = it
        return whole(expressions.expand(text, lambda said: eval(said, scope)))  # noqa: S307 - the user wrote it

    return make


def _target(into: str, scope: dict[str, Any], names: dict[str, Any]) -> Callable[[Results], None]:
    """Return a function that stores the results where `into` says. Raises UsageError."""
    wrong = UsageError(
        f'--into takes a column, df.name or df["name"], or a variable, not {into!r}.'
    )
    from ipychat.batch import rows

    try:
        node = ast.parse(into, mode="eval").body
    except (SyntaxError, ValueError):
        raise wrong from None
    match node:
        case ast.Name(id=variable):
            return lambda results: names.update({variable: _column(results)})
        case ast.Attribute(value=inner, attr=name):
            pass
        case ast.Subscript(value=inner, slice=ast.Constant(value=name)):
            pass
        case _:
            raise wrong
    holder = _value("--into", ast.unparse(inner), scope)
    if not rows.is_frame(holder):
        raise wrong
    return lambda results: _put(holder, name, results)


def _column(results: Results) -> Any:
    """Return the values in the container of the data: a Series or, for any other, a list."""
    if hasattr(results.labels, "equals"):
        return results.to_series()
    return results.values


def _put(frame: Any, name: Any, results: Results) -> None:
    """Make the values a column of the frame, aligned with the rows."""
    labels = results.labels
    if hasattr(labels, "equals") and not labels.equals(frame.index):
        frame[name] = results.to_series()  # aligned by the index
    elif len(results) == len(frame):
        frame[name] = results.values
    else:
        raise UsageError(
            f"The column {name!r} would have {len(results):,} rows, its table has {len(frame):,}."
        )
