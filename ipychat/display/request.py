"""What was asked, or would be: as `--dry-run` and `%chat_receipt` show it, secrets masked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from html import escape
from typing import Any

from ipychat import secrets
from ipychat.catalog import firewall, lists, receipts, routes
from ipychat.display import steps
from ipychat.messages import (
    FilePart,
    ImagePart,
    Message,
    Question,
    Reply,
    TextPart,
    Thought,
    ToolCall,
    Usage,
    date,
    dollars,
)
from ipychat.store.answers import Receipt
from ipychat.text import shapes, tables

MAX_SHOWN = 200_000
"""Characters of a message that are shown."""
MAX_URL = 60
"""Characters of an image's address that are shown; its bytes are not."""


def bundle(request: Question) -> dict[str, str]:
    """Return the MIME bundle of a question that is not sent."""
    receipts.check_named(request)
    receipt = receipts.receipt(request)
    tokens = lists.estimate_tokens(request)
    asking = routes.cost(request, Usage(input=tokens))
    _, masked = firewall.masked(request)
    rows = [
        ("model", str(request.model)),
        ("address", routes.address(request)),
        ("tokens", f"about {tokens:,}"),
        ("cost", "not known" if asking is None else f"about {dollars(asking)}, and the answer's"),
        *((name, secrets.without_login(str(one))) for name, one in request.options.items()),
        ("hash", receipt.hash),
    ]
    if masked:
        how = "sent, masked here only" if request.allow_secrets else "masked"
        rows.append(("secrets", f"{', '.join(masked)}: {how}"))
    return _bundle("Nothing was sent. This would be:", rows, request, receipt)


def receipt(reply: Reply, receipt: Receipt | None) -> dict[str, str]:
    """Return the MIME bundle of an answer's receipt; None if its question is not known in full."""
    rows = [
        ("model", str(reply.model)),
        ("asked at", date(reply.at) if reply.at else "not known"),
        ("ended with", reply.finish or "nothing: it did not come to its end"),
        ("took", f"{reply.seconds:.1f} s"),
        ("usage", str(reply.usage or "not counted")),
        *([("cached", "an earlier answer: nothing was sent")] if reply.cached else []),
        ("hash", reply.hash or "none: it is older than receipts"),
        *_run(reply),
    ]
    if receipt:
        return _bundle("This was asked:", rows, reply.request, receipt)
    note = "What was asked can't be told word by word any more: what stood before it has changed."
    return {
        "text/html": f"<div>{tables.html(rows)}<em>{note}</em></div>",
        "text/plain": f"{tables.plain(rows)}\n\n{note}",
    }


def _run(reply: Reply) -> Iterator[tuple[str, str]]:
    """Yield a row for each request of a run after the first, with its hash, and for each step."""
    if not reply.steps:
        return
    make = receipts.receipts(reply.request)
    sent = [*reply.request.messages]
    is_known = make(sent).hash == reply.hash  # else what stood before it has changed
    told = iter(reply.steps)
    for number, (message, following) in enumerate(itertools.pairwise(reply.messages)):
        sent.append(message)
        if message.role == "tool":
            yield "├ step", steps.line(next(told))
            if following.role == "assistant":
                hash_ = make(sent).hash if is_known else "not known any more"
                yield ("└ " if number == len(reply.messages) - 2 else "├ ") + "request", hash_
    for step in told:
        yield "└ step", steps.line(step)


def _bundle(
    title: str, rows: list[tuple[str, str]], request: Question, receipt: Receipt
) -> dict[str, str]:
    """Show a summary, the messages as they read, and exactly what the hash is of."""
    exact = _bounded(receipt.text)
    *before, last = (_shown(message) for message in request.messages)
    along = f"{len(before)} message{'' if len(before) == 1 else 's'} before it"
    folded = f"<details><summary>{along}</summary>{''.join(before)}</details>" if before else ""
    size = f"{len(receipt.text.encode()):,} bytes"
    html = (
        f"<div><em>{title}</em>{tables.html(rows)}{folded}{last}"
        f"<details><summary>Exactly, in {size}: what the hash is of</summary>"
        f"<pre style='white-space:pre-wrap'>{escape(exact)}</pre></details></div>"
    )
    return {"text/html": html, "text/plain": f"{title}\n{tables.plain(rows)}\n\n{exact}"}


def _shown(message: Message) -> str:
    text = escape(_bounded(shapes.mask(_text(message))))
    return f"<div><b>{escape(message.role)}</b><pre style='white-space:pre-wrap'>{text}</pre></div>"


def _bounded(text: str) -> str:
    """Return as much of a message as a notebook can hold, and say what is left out."""
    if len(text) <= MAX_SHOWN:
        return text
    half = MAX_SHOWN // 2
    left_out = f"… {len(text) - MAX_SHOWN:,} characters that would be sent are not shown …"
    return f"{text[:half]}\n\n{left_out}\n\n{text[-half:]}"


def _text(message: Message) -> str:
    return "\n".join(map(_part, message.parts))


def _part(part: Any) -> str:
    match part:
        case TextPart(text):
            return text
        case ImagePart(url) if len(url) > MAX_URL:
            return f"(image: {shapes.mask(url)[:MAX_URL]}… {len(url):,} characters)"
        case ImagePart(url):
            return f"(image: {url})"
        case FilePart(name, data, media_type):
            return f"(file: {name}, {media_type}, {len(data):,} bytes)"
        case ToolCall(_, name, arguments):
            return f"(call: {name}, {arguments})"
        case Thought(_, seal):
            return f"(thought: {len(seal):,} characters that only its service reads)"
    raise AssertionError(part)
