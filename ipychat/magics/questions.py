"""Messages from prompts: `{{expressions}}`, and the attached values, cells and files."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ipychat.errors import UsageError
from ipychat.text.characters import whole

if TYPE_CHECKING:
    from ipychat.messages import Message


class Questions:
    """Creates messages from prompts and flags, with the values of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def expand(self, text: str) -> str:
        """Return `text` with each `{{expression}}` replaced by its value in the notebook."""
        if "{{" not in text:
            return text
        from ipychat.context import expressions

        return expressions.expand(text, self._evaluate)

    def _evaluate(self, expression: str) -> Any:
        from ipychat.kernel import notebook

        return eval(expression, notebook.names_in_sight(self._shell))  # noqa: S307 - the user wrote it

    async def message(self, text: str, flags: Namespace) -> Message:
        """Build the message of the prompt and everything attached to it.

        Files are read without holding the loop: they may be of any kind, and anywhere.
        """
        from ipychat.catalog import resolve
        from ipychat.messages import Message

        resolve.learn_secrets()  # attachments are truncated at a place without a secret
        text = text.strip("\n")
        if not flags.raw:
            text = whole(self.expand(text))
        along = [part async for part in self._along(flags)]
        if not (text.strip() or along):
            raise UsageError("The prompt is empty: there is nothing to send.")
        return Message.asking(text, along)

    async def _along(self, flags: Namespace) -> Any:
        from ipychat.context import attachments, cells, values
        from ipychat.kernel import notebook
        from ipychat.kernel.awaiting import stoppable
        from ipychat.messages import TextPart
        from ipychat.wire import aside

        for name in flags.with_:
            if name.startswith("mcp:"):
                from ipychat.toolbox import recorded

                for part in await stoppable(recorded.resource(name)):
                    yield part
                continue
            yield TextPart(values.summarise(name, self._value(name)))
        if flags.cells > 0:
            yield TextPart(cells.cells_text(cells.last(self._shell, flags.cells)))
        for path in flags.file:
            yield await stoppable(aside.run(attachments.file_part, path))
        for image in flags.image:
            names = notebook.names_in_sight(self._shell)
            if image in names and not _is_file(image):
                yield attachments.image_part(names[image], image)
            else:
                yield await stoppable(aside.run(attachments.image_part, image, image))

    def _value(self, name: str) -> Any:
        from ipychat.context import expressions
        from ipychat.kernel import notebook

        names = notebook.names_in_sight(self._shell)
        try:
            return self._evaluate(name)
        except NameError as error:
            raise UsageError(expressions.no_variable(error, names)) from None
        except Exception as error:  # noqa: BLE001 - whatever the user's expression raises
            raise UsageError(f"--with {name} failed: {type(error).__name__}: {error}") from None


def _is_file(name: str) -> bool:
    return Path(name).exists()
