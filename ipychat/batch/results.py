"""Results of a run: rows in the data's order, progress, and plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, TypeAlias, overload

from ipychat.errors import ChatError
from ipychat.messages import Usage, dollars
from ipychat.text import tables

Status: TypeAlias = Literal["done", "cached", "failed", "skipped"]
SHOWN_ROWS = 10
"""Rows that are displayed."""
SHOWN_CHARACTERS = 80
"""Characters of an answer that are displayed."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one row."""

    text: str = ""
    value: Any = None
    """The answer's value in the requested form; its text if no form was requested."""
    status: Status = "skipped"
    """`cached`: an earlier answer, or one to the same prompt; `skipped`: not asked."""
    error: ChatError | None = None
    attempts: int = 0
    """The number of times it was sent."""
    usage: Usage | None = None
    """Of all attempts that were answered."""

    @property
    def cost(self) -> float | None:
        """Its cost in dollars; None if unknown."""
        return self.usage.cost if self.usage else None

    @property
    def is_answered(self) -> bool:
        """Whether it has an answer."""
        return self.status in {"done", "cached"}

    def __str__(self) -> str:
        return self.text


SKIPPED = Row()


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a run."""

    done: int = 0
    """Rows with an answer, including stored ones."""
    cached: int = 0
    failed: int = 0
    skipped: int = 0
    total: int | None = None
    """None if the data have no length."""
    rate: float = 0.0
    """Answers per second."""
    cost: float | None = None
    """In dollars, as far as known."""
    left: float | None = None
    """Estimated seconds left."""

    @property
    def settled(self) -> int:
        """Rows that are finished."""
        return self.done + self.failed + self.skipped

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total:,}"
        said = [f"{self.done:,}{of} answered"]
        said += [f"{self.cached:,} of them before"] if self.cached else []
        said += [f"{self.failed:,} failed"] if self.failed else []
        said += [f"{self.skipped:,} skipped"] if self.skipped else []
        if self.left is not None and self.settled != self.total:
            said.append(f"{self.rate:.3g} a second, {_duration(self.left)} left")
        if self.cost:
            said.append(dollars(self.cost))
        return " · ".join(said)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. Costs are in dollars, None if no price is known."""

    rows: int
    prompts: int
    """Different prompts: equal ones are asked once."""
    kept: int
    """How many of these have a stored answer."""
    tokens: int
    """Estimated tokens to be sent."""
    least: float | None = None
    """Cost if answers are as short as possible."""
    most: float | None = None
    """Cost if they are as long as `max_tokens` allows, or else as assumed."""

    @property
    def asked(self) -> int:
        """The number of prompts that would be sent."""
        return self.prompts - self.kept

    def __str__(self) -> str:
        cost = "no price is known"
        if self.least is not None and self.most is not None:
            cost = f"{dollars(self.least)} to {dollars(self.most)}"
        return (
            f"{self.rows:,} rows, {self.prompts:,} different prompts: {self.kept:,} are answered, "
            f"{self.asked:,} would be sent, about {self.tokens:,} tokens, {cost}"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": f"<p>{escape(str(self))}</p>"}


class Results(Sequence[Row]):
    """The rows, in the order of the data."""

    def __init__(
        self,
        rows: Sequence[Row],
        labels: Any = None,
        stopped: ChatError | None = None,
        again: Callable[[Results], Awaitable[Results]] | None = None,
    ) -> None:
        self.rows = tuple(rows)
        self.labels = labels
        """The data's labels of the rows; None: their numbers."""
        self.stopped = stopped
        """Why the run ended early."""
        self._again = again

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Row]: ...
    def __getitem__(self, at: int | slice) -> Row | Sequence[Row]:
        return self.rows[at]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def values(self) -> list[Any]:
        """The value of each row, None if it has no answer."""
        return [row.value if row.is_answered else None for row in self.rows]

    @property
    def texts(self) -> list[str | None]:
        """The text of each row's answer, None if it has none."""
        return [row.text if row.is_answered else None for row in self.rows]

    @property
    def errors(self) -> dict[int, ChatError]:
        """The errors of rows that failed, by row number."""
        return {at: row.error for at, row in enumerate(self.rows) if row.error}

    @property
    def counts(self) -> Counter[str]:
        """The number of rows in each status."""
        return Counter(row.status for row in self.rows)

    @property
    def cost(self) -> float | None:
        """Total cost in dollars; None if unknown."""
        known = [row.cost for row in self.rows if row.cost is not None]
        return sum(known) if known else None

    async def retry(self) -> Results:
        """Ask again for rows that failed or were skipped; return all rows, old and new."""
        if self._again is None:
            return self
        return await self._again(self)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with the index of the data."""
        import pandas as pd

        columns = ("value", "text", "status", "attempts", "cost")
        given: dict[str, list[Any]] = {
            name: [getattr(row, name) for row in self.rows] for name in columns
        }
        given["error"] = [None if row.error is None else str(row.error) for row in self.rows]
        index = None if self.labels is None else pd.Index(self.labels[: len(self)])
        return pd.DataFrame(given, index=index)

    def to_series(self) -> Any:
        """Return the values as a pandas Series with the index of the data."""
        return self.to_frame()["value"]

    # -- as it is shown

    def __repr__(self) -> str:
        counts = self.counts
        order = ("done", "cached", "failed", "skipped")
        said = ", ".join(f"{counts[name]:,} {name}" for name in order if counts[name])
        cost = f" · {dollars(self.cost)}" if self.cost else ""
        why = f" · stopped: {str(self.stopped).splitlines()[0]}" if self.stopped else ""
        return f"<Results: {len(self):,} rows{': ' + said if said else ''}{cost}{why}>"

    def _shown(self) -> Iterator[tuple[Hashable, Row]]:
        """Yield the rows to display: the first ones, and failed ones among the others."""
        failed = [
            at for at, row in enumerate(self.rows) if at >= SHOWN_ROWS and row.status == "failed"
        ]
        for at in (*range(min(SHOWN_ROWS, len(self))), *failed[:SHOWN_ROWS]):
            yield (at if self.labels is None else self.labels[at]), self.rows[at]

    def _repr_html_(self) -> str:
        rows = []
        for label, row in self._shown():
            said = str(row.error or row.value if row.value is not None else row.error or row.text)
            said = " ".join(said.split())
            said = said if len(said) <= SHOWN_CHARACTERS else said[:SHOWN_CHARACTERS] + " …"
            rows.append((str(label), row.status, said))
        head = f"<p>{escape(repr(self)[1:-1])}</p>"
        left = len(self) - len(rows)
        rest = f"<p>… and {left:,} more rows: .to_frame() has all</p>" if left else ""
        return f"{head}{tables.html(rows)}{rest}"
