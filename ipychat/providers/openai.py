"""OpenAI's chat completions, and every service that speaks them: presets, and the user's own.

https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from typing import ClassVar

from ipychat.config import Endpoint
from ipychat.messages import EXTRA, REASONING, FilePart, ImagePart, Message, TextPart
from ipychat.providers import _completions, _questions
from ipychat.providers._openai import OpenAIService
from ipychat.providers._questions import Draft, Json
from ipychat.providers._reader import Answer
from ipychat.providers._service import Place
from ipychat.providers.presets import OWN_HOST
from ipychat.providers.provider import COMMON_OPTIONS

OPTIONS = frozenset({
    "audio", "effort", "function_call", "functions", "logit_bias", "logprobs", "metadata",
    "modalities", "n",
    "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention",
    "reasoning_effort", "safety_identifier", "service_tier", "store", "stream_options",
    "top_logprobs", "user", "verbosity", "web_search_options",
})  # fmt: skip
"""OpenAI's own beside the common ones."""
OPTIONS_OF_OTHERS = frozenset({
    "chat_template_kwargs", "citation_options", "documents", "grammar", "include_reasoning",
    "min_p", "models", "plugins", "prompt_mode", "provider", "random_seed", "reasoning",
    "reasoning_format", "repetition_penalty", "safe_prompt", "search_parameters", "thinking",
    "top_a", "top_k", "transforms",
})  # fmt: skip
"""What services have added that speak this protocol, too."""


class OpenAI(OpenAIService):
    """`openai:…`. The environment's key goes to the environment's address or OpenAI's, only."""

    protocol = "completions"
    known_options = COMMON_OPTIONS | OPTIONS | OPTIONS_OF_OTHERS
    asks_usage: ClassVar[bool] = True
    """Whether a stream is asked for its usage, which some services refuse as unknown."""
    pdf_part: ClassVar[str] = "file"
    """The type of the part that a PDF is."""

    @classmethod
    def path(cls, model: str) -> str:  # noqa: ARG003 - one for all
        """Return the path, below the root, at which `model` is asked."""
        return "/chat/completions"

    @classmethod
    def _write(cls, asked: Draft) -> Json:
        body = {
            "model": asked.model,
            "messages": [*map(cls._write_message, asked.messages)],
            "stream": asked.stream,
            "stream_options": {"include_usage": True} if asked.stream and cls.asks_usage else None,
            **asked.options,
        }
        if effort := body.pop("effort", None):
            body.setdefault("reasoning_effort", effort)
        body["stream_options"] = body["stream_options"] or None  # an empty one asks for nothing
        return {name: value for name, value in body.items() if value is not None}

    @classmethod
    def _write_message(cls, message: Message) -> Json:
        said = message.said
        content = said if isinstance(said, str) else [*map(cls._write_part, message.said_parts)]
        written: Json = {"role": message.role, "content": content}
        if calls := message.tool_calls:  # without a call nobody wants the thought behind it
            for thought in message.thoughts:
                written |= _questions.opened(thought.seal, *REASONING)
            written["tool_calls"] = [
                call.to_dict() | _questions.opened(call.seal, EXTRA) for call in calls
            ]
        if message.tool_call_id is not None:
            written["tool_call_id"] = message.tool_call_id
        return written

    @classmethod
    def _write_part(cls, part: TextPart | ImagePart | FilePart) -> Json:
        if not isinstance(part, FilePart):
            return part.to_dict()
        if part.media_type != _questions.PDF:
            takes = f"{cls.label} takes images, PDFs, and files of text"
            return TextPart(_questions.write_text(part, takes)).to_dict()
        written = part.to_dict()
        if cls.pdf_part == "file":
            return written
        data = written["file"]["file_data"]
        return {"type": cls.pdf_part, cls.pdf_part: data, "document_name": part.name}

    @classmethod
    async def _complete(cls, body: Json, place: Place) -> None:
        """Name the limit of tokens as OpenAI does, whose newer models refuse the older word."""
        if "max_tokens" in body and OWN_HOST.match(place.root):
            body.setdefault("max_completion_tokens", body.pop("max_tokens"))

    @classmethod
    def _answer(cls) -> type[Answer]:
        return _completions.Completion


def compatible(name: str, endpoint: Endpoint) -> type[OpenAI]:
    """Return the provider that asks another service by OpenAI's protocol."""
    return OpenAI.of_endpoint(name, endpoint)
