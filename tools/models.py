"""Make `ipychat/catalog/models.json` of the table that the package litellm keeps (MIT licence).

    pip download --no-deps litellm
    python tools/models.py litellm-*.whl

Kept are chat models of services that ipychat knows, which are on offer today: by the names that
stay, not by those with a date in them. What it makes says from which release it is.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parents[1] / "ipychat" / "catalog" / "models.json"
SOURCE = "litellm/model_prices_and_context_window_backup.json"
NAMES = {
    "anthropic": "anthropic",
    "openai": "openai",
    "gemini": "gemini",
    "groq": "groq",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "xai": "xai",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
}
NOT_CHAT = re.compile(
    r"audio|realtime|search|transcribe|tts|image|embed|guard|computer-use|research|lyria|robotics|"
    r"live|omni|moderation|safeguard|^ft:|\d{4}-\d{2}-\d{2}|-\d{8}$|-\d{4}$|-\d{2}-\d{4}$|-exp|"
    r"experimental|cyber|daybreak|/routers/|-us$|-spot$|mistral-tiny|container|beta|voxtral|ocr"
)
MANY = {"fireworks", "together"}
"""Services that offer hundreds: those that know no tools are left to the service's own list."""
PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "stored": "cache_creation_input_token_cost",
    "stored_hour": "cache_creation_input_token_cost_above_1hr",
}
LONG = re.compile(r"input_cost_per_token_above_(\d+)k_tokens")
"""How the price of a long prompt is called; those of all else have the same end."""
RESPONSES_ONLY = {"openai"}
"""Services whose models may be asked by Responses alone: ipychat asks these by it."""
LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
EVERY = ("low", "medium", "high")
"""Efforts of each model that reasons, unless the table says otherwise."""


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        given: dict[str, dict[str, Any]] = json.loads(archive.read(SOURCE))
    today = datetime.now(UTC).date().isoformat()
    models: dict[str, dict[str, dict[str, Any]]] = {}
    for full, facts in given.items():
        service = NAMES.get(facts.get("litellm_provider", ""))
        name = full.removeprefix(f"{facts.get('litellm_provider')}/")
        gone = facts.get("deprecation_date") or "9999"
        if not service or gone <= today or NOT_CHAT.search(name) or not _chats(service, facts):
            continue
        if facts.get("input_cost_per_token") is None:
            continue
        if service == "fireworks" and not name.startswith("accounts/"):
            continue
        if service in MANY and not facts.get("supports_function_calling"):
            continue
        models.setdefault(service, {})[name] = {
            "context": facts.get("max_input_tokens"),
            "vision": bool(facts.get("supports_vision")),
            "tools": bool(facts.get("supports_function_calling")),
            **_prices(facts, ""),
            **_long(facts),
            **_limits(service, name, facts),
        }
    table = {
        "date": today,
        "source": f"{wheel.name.split('-cp')[0]}, model_prices_and_context_window (MIT licence)",
        "models": {s: dict(sorted(known.items())) for s, known in sorted(models.items())},
    }
    TARGET.write_text(_written(table))
    print({service: len(known) for service, known in models.items()}, TARGET.stat().st_size)


def _chats(service: str, facts: dict[str, Any]) -> bool:
    endpoints = facts.get("supported_endpoints") or ["chat/completions"]
    if facts.get("mode") == "responses" or not any("chat/completions" in one for one in endpoints):
        return service in RESPONSES_ONLY and any("responses" in one for one in endpoints)
    return facts.get("mode") == "chat"


def _prices(facts: dict[str, Any], end: str) -> dict[str, float]:
    """Return the prices that are known, of prompts of a size that the names' end tells."""
    given = {ours: facts.get(f"{theirs}{end}") for ours, theirs in PRICES.items()}
    return {name: _a_million(price) for name, price in given.items() if price is not None}


def _long(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the prices of a prompt that is longer than some size, which hold for all of it."""
    found = [match for name in facts if (match := LONG.fullmatch(name))]
    if not found:
        return {}
    [size] = [match[1] for match in found]
    return {"long": {"above": int(size) * 1000, **_prices(facts, f"_above_{size}k_tokens")}}


def _limits(service: str, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a model refuses, which efforts it knows, and until when it is there."""
    known: dict[str, Any] = {}
    reasons = bool(facts.get("supports_reasoning"))
    efforts = _efforts(service, name, facts) if reasons else []
    if service == "anthropic":  # it thinks where it is told to, but for the newest
        reasons = bool(facts.get("thinking_always_on") or facts.get("thinking_on_by_default"))
    known["reasons"] = reasons
    if efforts is not None:
        known["efforts"] = efforts
    if facts.get("supports_sampling_params") is False:
        known["sampling"] = "none"
    elif service == "openai" and reasons and facts.get("default_reasoning_effort") != "none":
        known["sampling"] = "without effort" if "none" in (efforts or ()) else "none"
    if facts.get("supports_forced_tool_use") is False:
        known["forced_tools"] = False
    if date := facts.get("deprecation_date"):
        known["retires"] = date
    return known


def _efforts(service: str, name: str, facts: dict[str, Any]) -> list[str] | None:
    """Return the efforts that a model knows, in the service's words; None: not known."""
    if levels := facts.get("reasoning_effort_levels"):
        return [one for one in LEVELS if one in levels]
    known = {one for one in LEVELS if facts.get(f"supports_{one}_reasoning_effort")}
    match service:
        case "openai":
            known |= {*EVERY}
        case "anthropic":
            known |= {*EVERY, *(() if facts.get("thinking_always_on") else ("none",))}
        case "gemini":  # no Pro can do without
            known |= {*EVERY, *(() if "pro" in name else ("none",))}
        case _:
            return None
    return [one for one in LEVELS if one in known]


def _a_million(price: float) -> float:
    return round(price * 1e6, 6)


def _written(table: dict[str, Any]) -> str:
    """Write the table with a model a line."""
    services = [
        f"  {json.dumps(service)}: {{\n"
        + ",\n".join(f"   {json.dumps(one)}: {json.dumps(facts)}" for one, facts in known.items())
        + "\n  }"
        for service, known in table["models"].items()
    ]
    head = "".join(f" {json.dumps(n)}: {json.dumps(table[n])},\n" for n in ("date", "source"))
    return f'{{\n{head} "models": {{\n' + ",\n".join(services) + "\n }\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
