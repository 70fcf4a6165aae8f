"""A picker of models, built of ipywidgets; its `value` can be observed and linked."""

from __future__ import annotations

from typing import Any

import ipywidgets  # type: ignore[import-untyped] # it has none
import traitlets

from ipychat import requirements
from ipychat.catalog import ranking, resolve
from ipychat.catalog.offers import Offer

ROWS = 12


def model_picker(value: str | None = None) -> ModelPicker:
    """Return a picker of models."""
    requirements.check("ipywidgets")
    return ModelPicker(value)


class ModelPicker(ipywidgets.VBox):  # type: ignore[misc] # ipywidgets has no hints
    """A list of models, narrowed by words; it says what those lack that aren't ready."""

    value = traitlets.Unicode()
    """The model that is chosen, as provider:name; empty while none is."""

    def __init__(self, value: str | None = None) -> None:
        self._words = ipywidgets.Text(
            placeholder="words narrow the list: open mini", description="Model"
        )
        self._list = ipywidgets.Select(rows=ROWS, description=" ")
        self._missing = ipywidgets.Label()
        super().__init__([self._words, self._list, self._missing])
        self.value = value or ""
        self._words.observe(self._narrow, names="value")
        self._list.observe(self._choose, names="value")
        self.observe(self._show, names="value")
        self._narrow()

    @traitlets.validate("value")
    def _resolve(self, proposal: Any) -> str:
        return resolve.lasting(proposal["value"]) if proposal["value"] else ""

    def _narrow(self, _: Any = None) -> None:
        found = ranking.models(self._words.value, current=self.value or None)
        self._offers = {str(offer.model): offer for offer in found}
        self._list.options = [
            (f"{name} ({_marked(offer)})" if _marked(offer) else name, name)
            for name, offer in self._offers.items()
        ]
        self._show()

    def _choose(self, change: Any) -> None:
        if change["new"] is not None:
            self.value = change["new"]

    def _show(self, _: Any = None) -> None:
        """Mark the value in the list, where it is there, and say what it lacks."""
        self._list.value = self.value if self.value in self._offers else None
        offer = self._offers.get(self.value)
        self._missing.value = (offer and offer.missing) or ""


def _marked(offer: Offer) -> str:
    """Return what must be known before an offer is chosen."""
    return "not ready" if offer.missing else offer.state if offer.emulated_by else ""
