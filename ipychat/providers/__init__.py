"""The providers, one file a service, and the helpers and types that providers share.

All names are imported on use: a service costs nothing until it is asked.
"""

from typing import TYPE_CHECKING

from ipychat._lazy import attributes

if TYPE_CHECKING:
    from ipychat.errors import (
        MissingRequirementsError as MissingRequirementsError,
        ModelNotSupportedError as ModelNotSupportedError,
    )
    from ipychat.providers.anthropic import Anthropic as Anthropic
    from ipychat.providers.autonomous import AutonomousAI as AutonomousAI
    from ipychat.providers.gemini import Gemini as Gemini
    from ipychat.providers.koala import Koala as Koala, get_random_string as get_random_string
    from ipychat.providers.ollama import Ollama as Ollama
    from ipychat.providers.openai import OpenAI as OpenAI
    from ipychat.providers.provider import (
        AsyncGeneratorProvider as AsyncGeneratorProvider,
        AsyncResult as AsyncResult,
        Messages as Messages,
        ProviderModelMixin as ProviderModelMixin,
        format_prompt as format_prompt,
    )
    from ipychat.providers.robocoders import RobocodersAPI as RobocodersAPI
    from ipychat.store.files import get_cookies_dir as get_cookies_dir
    from ipychat.wire.http import (
        get_connector as get_connector,
        raise_for_status as raise_for_status,
    )

_HOMES = {
    "Anthropic": "ipychat.providers.anthropic",
    "AsyncGeneratorProvider": "ipychat.providers.provider",
    "AsyncResult": "ipychat.providers.provider",
    "AutonomousAI": "ipychat.providers.autonomous",
    "Gemini": "ipychat.providers.gemini",
    "Koala": "ipychat.providers.koala",
    "Messages": "ipychat.providers.provider",
    "MissingRequirementsError": "ipychat.errors",
    "ModelNotSupportedError": "ipychat.errors",
    "Ollama": "ipychat.providers.ollama",
    "OpenAI": "ipychat.providers.openai",
    "ProviderModelMixin": "ipychat.providers.provider",
    "RobocodersAPI": "ipychat.providers.robocoders",
    "format_prompt": "ipychat.providers.provider",
    "get_connector": "ipychat.wire.http",
    "get_cookies_dir": "ipychat.store.files",
    "get_random_string": "ipychat.providers.koala",
    "raise_for_status": "ipychat.wire.http",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - a test compares it with what can be imported

if not TYPE_CHECKING:  # else a type checker takes any name for one of ours
    __getattr__ = attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
