"""Chat with language models inside a notebook, on the notebook's own event loop.

Every public name is imported on use: loading the package costs nothing.
"""

from typing import TYPE_CHECKING

from ipychat._lazy import attributes

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from ipychat import providers as providers, secrets as secrets
    from ipychat.batch import map as map  # noqa: A004 - its documented name
    from ipychat.catalog.ranking import models as models
    from ipychat.catalog.registry import register as register
    from ipychat.chat.conversations import (
        ask as ask,
        conversation as conversation,
        events as events,
        stream as stream,
    )
    from ipychat.chat.race import compare as compare
    from ipychat.display.panel import panel as panel
    from ipychat.display.picker import model_picker as model_picker
    from ipychat.errors import ChatError as ChatError
    from ipychat.messages import (
        FinishReason as FinishReason,
        Image as Image,
        Message as Message,
        Notice as Notice,
        Reasoning as Reasoning,
        Reply as Reply,
        Source as Source,
        Step as Step,
        Text as Text,
        ToolCall as ToolCall,
        Usage as Usage,
    )
    from ipychat.toolbox.functions import tool as tool
    from ipychat.toolbox.given import tools as tools

__version__ = "0.1.0"

_HOMES = {
    "ChatError": "ipychat.errors",
    "FinishReason": "ipychat.messages",
    "Image": "ipychat.messages",
    "Message": "ipychat.messages",
    "Notice": "ipychat.messages",
    "Reasoning": "ipychat.messages",
    "Reply": "ipychat.messages",
    "Source": "ipychat.messages",
    "Step": "ipychat.messages",
    "Text": "ipychat.messages",
    "ToolCall": "ipychat.messages",
    "Usage": "ipychat.messages",
    "ask": "ipychat.chat.conversations",
    "compare": "ipychat.chat.race",
    "conversation": "ipychat.chat.conversations",
    "events": "ipychat.chat.conversations",
    "map": "ipychat.batch",
    "model_picker": "ipychat.display.picker",
    "models": "ipychat.catalog.ranking",
    "panel": "ipychat.display.panel",
    "register": "ipychat.catalog.registry",
    "secrets": "ipychat.secrets",
    "stream": "ipychat.chat.conversations",
    "tool": "ipychat.toolbox.functions",
    "tools": "ipychat.toolbox.given",
}
__all__ = ["providers", *sorted(_HOMES)]  # noqa: PLE0604 - a test compares it with the names that exist

if not TYPE_CHECKING:  # else type checkers accept any name
    __getattr__ = attributes(__name__, _HOMES)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def load_ipython_extension(shell: "InteractiveShell") -> None:
    """Register the magics with the shell, for `%load_ext ipychat`."""
    try:
        from ipychat.magics import install

        install(shell, gateway=_gateway)
    except (ImportError, AttributeError, TypeError):
        from ipychat import requirements

        requirements.check("ipython")
        requirements.check("ipykernel")
        raise


async def _gateway() -> str:
    """Return the root URL of the notebook's own gateway, for the catalog."""
    from ipychat._lazy import load

    await load("ipychat.gateway.server")
    from ipychat.gateway.server import in_kernel

    return await in_kernel()


def unload_ipython_extension(shell: "InteractiveShell") -> None:
    """Unregister the magics, for `%unload_ext ipychat`."""
    from ipychat.magics import remove

    remove(shell)
