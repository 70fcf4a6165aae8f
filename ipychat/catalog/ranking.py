"""The order in which models are listed, everywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import IntEnum

from ipychat.catalog import offers, registry, resolve
from ipychat.catalog.offers import Models, Offer
from ipychat.messages import ModelId
from ipychat.store import ledger, replay
from ipychat.text import words as words_

MAX_RECENT = 5
"""Recent models that are listed above the others."""


class Rank(IntEnum):
    """Why a model is listed where it is, the best reason first."""

    CURRENT = 0
    RECENT = 1
    READY = 2
    LACKING = 3
    EMULATED = 4
    """Its service is gone: the notebook's own gateway stands in for it, if anything does."""


def models(words: str = "", *, current: str | None = None) -> Models:
    """List the models whose names contain all the words, and whether each is ready.

    The `current` model comes first (by default the default model), then recent ones, ready ones,
    those that need something, and emulated ones.
    """
    offers.look_for_servers()  # the search tells some providers their address
    return known(words, current=current)


def known(words: str = "", *, current: str | None = None) -> Models:
    """List them as `models` does, without searching for servers."""
    wanted = words.split()
    return Models(offer for offer, _ in ranked(current) if words_.has_all(str(offer.model), wanted))


def ranked(current: str | None = None) -> list[tuple[Offer, Rank]]:
    """Return every model in its order, and why it is listed there."""
    offered = {offer.model: offer for offer in offers.known()}
    first = _meant([current or resolve.default().name])
    recent = [] if replay.is_apart() else _meant(ledger.recent(MAX_RECENT))
    for model in (*first, *recent):
        offered.setdefault(model, offers.offer(model))
    known = {model: number for number, model in enumerate(recent)}
    beside = {model.provider for model in first}

    def rank(model: ModelId) -> Rank:
        if registry.is_offline(model.provider):
            return Rank.EMULATED
        if offered[model].missing:
            return Rank.LACKING
        return Rank.CURRENT if model in first else Rank.RECENT if model in known else Rank.READY

    def key(model: ModelId) -> tuple[Rank, int, bool, bool]:
        is_helper = model.provider == registry.HELPER
        return rank(model), known.get(model, 0), model.provider not in beside, is_helper

    stand_in = str(resolve.stand_in() or "nobody")
    return [(_marked(offered[model], stand_in), rank(model)) for model in sorted(offered, key=key)]


def _meant(names: Iterable[str]) -> list[ModelId]:
    """Return the models that the names mean; names that mean none are left out."""
    return list(filter(None, map(resolve.meaning, names)))


def _marked(offer: Offer, stand_in: str) -> Offer:
    """Return the offer; if its service is gone, with the model that stands in for it."""
    if offer.missing or not registry.is_offline(offer.model.provider):
        return offer
    return dataclasses.replace(offer, emulated_by=stand_in)
