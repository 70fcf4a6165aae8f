"""Make `ipychat/catalog/models.json` of the table that the package litellm keeps (MIT licence).

    pip download --no-deps litellm
    python tools/models.py litellm-*.whl

Kept are chat models of services that ipychat knows, which are on offer today: by the names that
stay, not by those with a date in them.
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
    r"live|codex|moderation|safeguard|^ft:|\d{4}-\d{2}-\d{2}|-\d{8}$|-\d{4}$|-\d{2}-\d{4}$|-exp|"
    r"experimental|cyber|daybreak|/routers/|-us$|-spot$|mistral-tiny|container|beta|voxtral|ocr"
)
MANY = {"fireworks", "together"}
"""Services that offer hundreds: those that know no tools are left to the service's own list."""
PRICES = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
}


def main(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        given: dict[str, dict[str, Any]] = json.loads(archive.read(SOURCE))
    today = datetime.now(UTC).date().isoformat()
    models: dict[str, dict[str, dict[str, Any]]] = {}
    for full, facts in given.items():
        service = NAMES.get(facts.get("litellm_provider", ""))
        name = full.removeprefix(f"{facts.get('litellm_provider')}/")
        gone = facts.get("deprecation_date") or "9999"
        if not service or facts.get("mode") != "chat" or gone <= today or NOT_CHAT.search(name):
            continue
        endpoints = facts.get("supported_endpoints")
        if facts.get("input_cost_per_token") is None or (
            endpoints and not any("chat/completions" in one for one in endpoints)
        ):
            continue
        if service == "fireworks" and not name.startswith("accounts/"):
            continue
        if service in MANY and not facts.get("supports_function_calling"):
            continue
        models.setdefault(service, {})[name] = {
            "context": facts.get("max_input_tokens"),
            "vision": bool(facts.get("supports_vision")),
            "tools": bool(facts.get("supports_function_calling")),
            **{ours: _a_million(facts.get(theirs)) for ours, theirs in PRICES.items()},
        }
    table = {
        "date": today,
        "source": f"{wheel.name.split('-cp')[0]}, model_prices_and_context_window (MIT licence)",
        "models": {s: dict(sorted(known.items())) for s, known in sorted(models.items())},
    }
    lines = json.dumps(table, indent=1)
    TARGET.write_text(re.sub(r"\{\n {4}([^{}]*?)\n {3}\}", _on_one_line, lines) + "\n")
    print({service: len(known) for service, known in models.items()}, TARGET.stat().st_size)


def _a_million(price: float | None) -> float | None:
    return None if price is None else round(price * 1e6, 6)


def _on_one_line(match: re.Match[str]) -> str:
    return "{" + re.sub(r"\n +", " ", match[1]) + "}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
