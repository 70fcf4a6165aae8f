"""An independent reading of what services answer: short, slow, of the whole body at once.

It shares nothing with the package: where the two differ, one of them is wrong, or there is a reason,
which `tests/test_independent.py` lists.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reading:
    text: str = ""
    reasoning: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    usage: tuple[int, int, int, int] | None = None
    """Read, written, of these thought, of the read ones cached."""
    finish: str | None = None
    error: Any = None


def payloads(body: str) -> list[dict]:
    """The objects of a body: events of a stream, lines, or the body itself."""
    body = body.lstrip("\ufeff \r\n\t")
    if body.startswith(("{", "[")):
        try:
            whole = json.loads(body)
        except ValueError:
            return [json.loads(line) for line in body.splitlines() if line.strip()]
        return whole if isinstance(whole, list) else [whole]
    events = []
    for block in re.split(r"\r?\n\r?\n", body):
        lines = (line[5:].removeprefix(" ") for line in block.splitlines() if line[:5] == "data:")
        if (data := "\n".join(lines)).strip() == "[DONE]":
            break
        events += [json.loads(data)] if data else []
    return events


def count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else 0
    return int(value) if isinstance(value, int | float) else 0


def completions(given: list[dict]) -> Reading:
    reading, calls = Reading(), {}
    for payload in given:
        reading.error = payload.get("error") or reading.error
        for choice in payload.get("choices") or ():
            said = choice.get("delta") or choice.get("message") or {}
            content = said.get("content") or ""
            for part in content if isinstance(content, list) else [{"text": content}]:
                reading.text += part.get("text") or ""
            reading.text += said.get("refusal") or ""
            details = said.get("reasoning_details") or ()
            thought = said.get("reasoning_content") or said.get("reasoning")
            reading.reasoning += thought or "".join(one.get("text") or "" for one in details)
            for number, call in enumerate(said.get("tool_calls") or ()):
                known = calls.setdefault(call.get("index", number), ["", ""])
                function = call["function"]
                known[0] += function.get("name") or ""
                known[1] += function.get("arguments") or ""
            reading.finish = choice.get("finish_reason") or reading.finish
        if usage := payload.get("usage"):
            reading.usage = (
                count(usage, "prompt_tokens"),
                count(usage, "completion_tokens"),
                count(usage.get("completion_tokens_details"), "reasoning_tokens"),
                count(usage.get("prompt_tokens_details"), "cached_tokens"),
            )
    reading.calls = [(name, arguments) for name, arguments in calls.values()]
    return reading


ANTHROPIC = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "tool_use": "tool_calls",
    "refusal": "content_filter", "model_context_window_exceeded": "length",
}  # fmt: skip


DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


def anthropic(given: list[dict]) -> Reading:
    reading, blocks, usage = Reading(), {}, {}
    for payload in given:
        kind = payload.get("type")
        message = payload.get("message") if kind == "message_start" else payload
        if kind in {"message", "message_start"}:
            blocks |= {at: {**block} for at, block in enumerate(message.get("content") or ())}
        if kind == "content_block_start":
            blocks[payload["index"]] = {**payload["content_block"]}
        if kind == "content_block_delta":
            block = blocks.setdefault(payload["index"], {"type": "text"})
            delta = payload["delta"]
            name = DELTAS.get(delta["type"])
            if name:
                block[name] = (block.get(name) or "") + delta[name]
        reading.error = payload.get("error") or reading.error
        ended = payload.get("delta") if kind == "message_delta" else message
        reason = ended.get("stop_reason") if isinstance(ended, dict) else None
        reading.finish = ANTHROPIC.get(reason, reason) or reading.finish
        counted = message.get("usage") if isinstance(message, dict) else None
        usage |= {name: one for name, one in (counted or {}).items() if one is not None}
    for _, block in sorted(blocks.items()):
        match block["type"]:
            case "text":
                reading.text += block.get("text") or ""
            case "thinking":
                reading.reasoning += block.get("thinking") or ""
            case "tool_use":
                said = block.get("partial_json") or json.dumps(block.get("input") or {})
                reading.calls.append((block["name"], said))
    if usage:
        cached = count(usage, "cache_read_input_tokens")
        stored = count(usage, "cache_creation_input_tokens")
        thought = count(usage.get("output_tokens_details"), "thinking_tokens")
        read = count(usage, "input_tokens") + cached + stored
        reading.usage = (read, count(usage, "output_tokens"), thought, cached)
    return reading


def gemini(given: list[dict]) -> Reading:
    reading = Reading()
    for payload in given:
        reading.error = payload.get("error") or reading.error
        for candidate in payload.get("candidates") or ():
            for part in (candidate.get("content") or {}).get("parts") or ():
                if call := part.get("functionCall"):
                    reading.calls.append((call["name"], json.dumps(call.get("args") or {})))
                elif part.get("thought"):
                    reading.reasoning += part.get("text") or ""
                else:
                    reading.text += part.get("text") or ""
            reason = candidate.get("finishReason")
            reading.finish = {"STOP": "stop", "MAX_TOKENS": "length"}.get(
                reason, reason
            ) or reading.finish
        if usage := payload.get("usageMetadata"):
            thought = count(usage, "thoughtsTokenCount")
            reading.usage = (
                count(usage, "promptTokenCount") + count(usage, "toolUsePromptTokenCount"),
                count(usage, "candidatesTokenCount") + thought,
                thought,
                count(usage, "cachedContentTokenCount"),
            )
    if reading.calls and reading.finish == "stop":
        reading.finish = "tool_calls"
    return reading


def ollama(given: list[dict]) -> Reading:
    reading = Reading()
    for payload in given:
        message = payload.get("message") or {}
        reading.error = payload.get("error") or reading.error
        reading.text += message.get("content") or ""
        reading.reasoning += message.get("thinking") or ""
        for call in message.get("tool_calls") or ():
            function = call["function"]
            reading.calls.append((function["name"], json.dumps(function.get("arguments") or {})))
        if payload.get("done"):
            reading.finish = payload.get("done_reason") or "stop"
            counted = count(payload, "prompt_eval_count"), count(payload, "eval_count")
            reading.usage = (*counted, 0, 0) if any(counted) else None
    if reading.calls and reading.finish == "stop":
        reading.finish = "tool_calls"
    return reading


def responses(given: list[dict]) -> Reading:
    """Read the items: as each ends, else as the response has them at its end."""
    reading, items, final = Reading(), {}, {}
    for payload in given:
        kind = payload.get("type", "")
        if kind == "error":
            reading.error = payload
        if kind == "response.output_item.done":
            known = items.get(payload["output_index"], {})
            items[payload["output_index"]] = {**known, **payload["item"]}
        if kind == "response.reasoning_text.delta":  # an item may end without its text
            item = items.setdefault(
                payload["output_index"], {"type": "reasoning", "content": [{"text": ""}]}
            )
            item["content"][0]["text"] += payload["delta"]
        if kind in {"response.completed", "response.incomplete", "response.failed"} or not kind:
            final = payload.get("response", payload)
    items = {**dict(enumerate(final.get("output") or ())), **items}
    for _, item in sorted(items.items()):
        match item["type"]:
            case "message":
                reading.text += "".join(
                    p.get("text") or p.get("refusal") or "" for p in item["content"]
                )
            case "reasoning":
                texts = [*(item.get("summary") or ()), *(item.get("content") or ())]
                reading.reasoning += "\n\n".join(one["text"] for one in texts)
            case "function_call":
                reading.calls.append((item["name"], item["arguments"]))
    if usage := final.get("usage"):
        reading.usage = (
            count(usage, "input_tokens"),
            count(usage, "output_tokens"),
            count(usage.get("output_tokens_details"), "reasoning_tokens"),
            count(usage.get("input_tokens_details"), "cached_tokens"),
        )
    why = (final.get("incomplete_details") or {}).get("reason")
    whole = "tool_calls" if reading.calls else "stop"
    ends = {"completed": whole, "incomplete": {"max_output_tokens": "length"}.get(why, why)}
    reading.finish = ends.get(final.get("status"))
    reading.error = final.get("error") or reading.error
    return reading
