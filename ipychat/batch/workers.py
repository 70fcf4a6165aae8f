"""Prompts asked by the workers of an executor, in other threads or processes.

They are sent in shares; a worker asks each share on a loop of its own. The kernel stores the
answers, share by share; rate limits are divided among the workers.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from ipychat import config, secrets
from ipychat.batch import cluster
from ipychat.batch.asker import Answered, Asker, StopError, misfit, value_in
from ipychat.batch.pace import Pace
from ipychat.catalog import routes
from ipychat.config import Config
from ipychat.errors import ChatError, UsageError
from ipychat.messages import Message, ModelId, Question, Reply, Usage
from ipychat.text.schemas import Schema
from ipychat.wire import http

SHARE_SIZE = 50
"""Prompts per share."""


@dataclass(frozen=True, slots=True, repr=False)
class Share:
    """A worker's task. Its repr shows nothing, since the options may contain a key."""

    settings: dict[str, Any]
    home: str
    """The process that created it."""
    run: str
    """The key of its secret options in the worker."""
    model: ModelId
    options: dict[str, Any]
    schema: Schema | None
    limits: tuple[float | None, float | None]
    retries: int
    concurrency: int
    prompts: tuple[tuple[Message, ...], ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """The outcome of a prompt, in a form that can be pickled."""

    reply: dict[str, Any]
    error: ChatError | None
    attempts: int
    usage: Usage | None


Back = tuple[list[Returned | None], ChatError | None]
"""The outcome of each prompt, None if it was not asked; and the error that stopped the share."""


class Workers:
    """The workers of an executor, as a run uses them."""

    def __init__(
        self, executor: Executor, base: Question, schema: Schema | None, *,
        rpm: float | None, tpm: float | None, retries: int, concurrency: int, run: str = "",
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self._executor = executor
        self._schema = schema
        self.workers: int = getattr(executor, "_max_workers", None) or 1
        self._share = Share(
            _plain(config.current()),
            _here(),
            run,
            base.model,
            dict(options),
            schema and replace(schema, make=None),
            (rpm and rpm / self.workers, tpm and tpm / self.workers),
            retries,
            max(concurrency // self.workers, 1),
            (),
        )

    async def ask(
        self, requests: Sequence[Question]
    ) -> tuple[list[Answered | None], ChatError | None]:
        """Return each outcome, None if not asked, and the error that stopped the share."""
        share = replace(self._share, prompts=tuple(one.messages for one in requests))
        loop = asyncio.get_running_loop()
        returned, stopped = await loop.run_in_executor(self._executor, ask_share, share)
        answered = [
            None if one is None else self._answered(request, one)
            for request, one in zip(requests, returned, strict=True)
        ]
        return answered, stopped

    def _answered(self, request: Question, given: Returned) -> Answered:
        reply = Reply.of_record(request, given.reply)
        value, error = None, given.error
        if error is None:
            try:
                value = value_in(reply.text, self._schema)
            except ValueError as fault:  # of the user's own checks, which run here
                error = misfit(fault)
        return Answered(reply, value, error, given.attempts, given.usage)


def _plain(settings: Config) -> dict[str, Any]:
    """Return the settings for another process: not the gateway, nor MCP servers with their keys."""
    given = settings._replace(gateway=None, mcp=config.NOTHING)._asdict()
    return {name: dict(v) if isinstance(v, Mapping) else v for name, v in given.items()}


def _here() -> str:
    return f"{platform.node()}:{os.getpid()}"


def parted(base: Question) -> tuple[dict[str, Any], dict[str, Any]]:
    """Resolve options for remote workers; return secrets separately.

    The address and the key that the provider would find here are included.
    """
    options = dict(base.options)
    way = routes.of(base)
    if way.behind:
        raise UsageError(f"{base.model} is served by this notebook, which a cluster can't reach.")
    if way.root is not None:
        options["base_url"] = way.root
        find: Any = getattr(way.provider, "find_key", None)
        if find and (found := find(way.root, options.get("api_key"))):
            options["api_key"] = found.value
    secret = {name: one for name, one in options.items() if secrets.holds_secret(name, one)}
    return {name: one for name, one in options.items() if name not in secret}, secret


def ask_share(share: Share) -> Back:
    """Ask a share's prompts, in a worker without a running loop."""
    if _here() != share.home:
        config.use(Config(**share.settings))
    return asyncio.run(_ask(share))


async def _ask(share: Share) -> Back:
    options = {**share.options, **cluster.held(share.run)}
    for name, value in options.items():
        options[name] = secrets.register_option(name, value)
    route = routes.find(share.model, options)
    base = Question(share.model, (), MappingProxyType(options), route)
    asker = Asker(base, share.schema, Pace(*share.limits), share.retries)
    returned: list[Returned | None] = [None] * len(share.prompts)
    stopped: ChatError | None = None
    waiting = iter(enumerate(share.prompts))

    async def work() -> None:
        for number, messages in waiting:
            one = await asker.ask(replace(base, messages=messages))
            record = one.reply.to_record()
            returned[number] = Returned(record, one.error, one.attempts, one.usage)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(share.concurrency):
                group.create_task(work())
    except* StopError as stops:
        for stop in stops.exceptions:
            stopped = getattr(stop, "error", None)
    finally:
        await http.close()
    return returned, stopped
