"""`local:NAME`: weights on this machine, run by the engine."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ipychat import config
from ipychat.config import Endpoint
from ipychat.errors import (
    BrokenAnswerError,
    ModelNotSupportedError,
    RequestError,
    UnreachableError,
    UsageError,
)
from ipychat.local import engine, weights
from ipychat.messages import Event, Notice
from ipychat.providers.openai import compatible
from ipychat.providers.provider import Card, FullProvider, Given

IDLE_TIMEOUT = 3600.0
"""Seconds that the engine may be silent while it waits its turn or reads a long prompt. If it dies,
that is noticed at once."""
SUFFIX = ".gguf"
SPOKEN = compatible("local", Endpoint("The engine", ""))
"""The protocol that the engine speaks."""


class Local(FullProvider):
    """`local:…`: the name of available weights, or a path to a .gguf file.

    The options `context` (tokens) and `idle` (minutes) are the engine's; others go into the
    request.
    """

    label = "The engine on this machine"
    ends_with = "finish"
    models = list(weights.OFFERS)
    known_options = SPOKEN.known_options | {
        "api_key", "base_url", "cache_prompt", "json_schema", "repeat_last_n", "repeat_penalty",
        "typical_p",
    }  # fmt: skip

    @classmethod
    def get_models(cls) -> list[str]:
        """Return the names of downloaded weights; if there are none, of those available."""
        return weights.there() or cls.models

    @classmethod
    def get_model(cls, name: str | None) -> str:
        """Return the name of weights, or their absolute path; by default the first downloaded.

        Raises ModelNotSupportedError for any other name.
        """
        name = name or cls.get_models()[0]
        if _is_path(name):
            return str(Path(name).expanduser().absolute())
        if name not in weights.OFFERS:
            raise ModelNotSupportedError(
                f"There are no weights called {name!r}.\n"
                f"There are: {', '.join(weights.OFFERS)}, and any path that ends in {SUFFIX}."
            )
        return name

    @classmethod
    def path(cls, model: str) -> str:
        """Return where the weights are, which is the only address before the engine runs."""
        return str(_place(model))

    @classmethod
    def missing(cls, root: str) -> str | None:  # noqa: ARG003 - it has none
        """Return what is missing: the engine, or its weights."""
        return engine.missing() or (None if weights.there() else "no weights: %chat_setup local")

    @classmethod
    async def cards(cls, base_url: str | None = None, **options: Any) -> list[Card]:  # noqa: ARG003 - its models are all here
        """Return the downloaded weights."""
        return [Card(name, context=config.current().local_context) for name in weights.there()]

    @classmethod
    async def create_async_generator(
        cls,
        model: str,
        messages: Given,
        proxy: str | None = None,  # noqa: ARG003 - nothing leaves this machine
        *,
        context: int | None = None,
        idle: float | None = None,
        **options: Any,
    ) -> AsyncIterator[Event]:
        """Ask the engine, starting it if necessary."""
        if options.keys() & {"base_url", "api_key"}:
            raise UsageError(
                "The engine runs on this machine: it takes no base_url and no api_key."
            )
        model = cls.get_model(model)
        running = await engine.running(_found(model), context=context, idle=idle)
        own = weights.OFFERS.get(model)
        if own and own.remark:
            yield Notice(own.remark)
        options = {"idle_timeout": IDLE_TIMEOUT, **(own.options if own else {}), **options}
        asked = SPOKEN.create_async_generator(
            model, messages, base_url=f"{running.root}/v1", api_key=running.key, **options
        )
        async with contextlib.aclosing(asked) as events:  # type: ignore[type-var] # a generator
            try:
                async for event in events:
                    yield event
            except (BrokenAnswerError, UnreachableError) as error:
                if said := await running.ended():
                    raise type(error)(said) from None
                raise
            except RequestError as error:
                if "context size" not in str(error):
                    raise
                raise RequestError(
                    f"{error}\nThe option context, now {running.context:,}, makes it larger, "
                    "which takes memory.",
                    error.status,
                ) from None


def _is_path(model: str) -> bool:
    return model.lower().endswith(SUFFIX)


def _place(model: str) -> Path:
    return Path(model) if _is_path(model) else weights.place(model)


def _found(model: str) -> Path:
    """Return where the weights are. Raises UsageError, which says how to get them."""
    place = _place(model)
    if place.is_file():
        return place
    if _is_path(model):
        raise UsageError(f"There is no file {place}.")
    raise UsageError(
        f"The weights {model} are not on this machine ({weights.offer(model)}).\n"
        f"To fetch them: %chat_setup local, or python -m ipychat.local pull {model}."
    )
