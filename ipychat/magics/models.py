"""`%chat_models`, `%chat_use`, `%chat_setup`: who can be asked, and who is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class

from ipychat.errors import UsageError

if TYPE_CHECKING:
    from ipychat.magics.chat import ChatMagics


@magics_class
class ModelMagics(Magics):
    """The magics about models."""

    shell: Any

    def __init__(self, chat: ChatMagics) -> None:
        super().__init__(chat.shell)
        self._chat = chat

    @line_magic
    def chat_models(self, line: str) -> Any:
        """Show what can be asked and whether it is ready; words narrow the list."""
        from ipychat import catalog

        found = catalog.models(line)
        if not found:
            raise UsageError(f"No model matches {line.strip()!r}. %chat_models lists all.")
        return found

    @line_magic
    def chat_use(self, line: str) -> None:
        """Let the notebook's conversation ask this model from now on."""
        from ipychat import catalog

        if not line.strip():
            raise UsageError("%chat_use wants a model. See %chat_models.")
        model = catalog.resolve(line)
        conversation = self._chat.conversation()
        conversation.model = str(model)
        print(f"{conversation.name} asks {model} from now on.")

    @line_magic
    def chat_setup(self, line: str) -> None:
        """Show which model answers and by which rule, and which keys and addresses were found."""
        from html import escape

        from ipychat import catalog

        rows = [
            ("model", *_default(self._chat)),
            *catalog.found(),
        ]
        width = max(len(what) for _, what, _ in rows)
        plain = "\n".join(f"{kind:8} {what:{width}}  {found}" for kind, what, found in rows)
        cells = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{escape(c)}</td>' for c in row) + "</tr>"
            for row in rows
        )
        self._chat.publish({"text/html": f"<table>{cells}</table>", "text/plain": plain})


def _default(chat: ChatMagics) -> tuple[str, str]:
    from ipychat import catalog

    try:
        if own := chat.conversation().model:
            return str(catalog.resolve(own)), "set by %chat_use for this conversation"
        name, rule = catalog.default()
        return str(catalog.resolve(name)), rule
    except UsageError as error:
        return "none", str(error).replace("\n", " ")
