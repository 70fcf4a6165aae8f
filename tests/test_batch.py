"""Many prompts: rows in, results out, asked once, at the service's pace, resumed where it ended."""

import asyncio
import io
import json
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic
import pytest

from ipychat import batch, config
from ipychat.batch.pace import CATCH_UP, Pace
from ipychat.batch.rows import parse_template
from ipychat.errors import (
    AuthenticationError,
    BrokenAnswerError,
    FormatError,
    MissingKeyError,
    NotRecordedError,
    QuotaError,
    RequestError,
    ServerError,
    UnreachableError,
    UsageError,
)
from ipychat.providers.openai import OpenAI
from ipychat.text import schemas
from ipychat.wire import limits
from ipychat.wire.limits import Limit
from tests.loopback import HANG, answer, head
from tests.protocols import PROTOCOLS, completion, sse

pytestmark = pytest.mark.usefixtures("sessions")

PROTOCOL = PROTOCOLS[0]
PATH = PROTOCOL.path
MODEL = "openai:m"


def asked_of(received) -> str:
    return received.json["messages"][-1]["content"]


def echo(received):
    return PROTOCOL.whole(f"You said {asked_of(received)}")


def refusal(status: int, said: str = "no", **headers: str):
    body = json.dumps({"error": {"message": said, "code": said}}).encode()
    return answer(body, status=status, content_type="application/json", **headers)


def counted(text: str, tokens: tuple[int, int]):
    count = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    last = sse(json.dumps({"choices": [], "usage": count}))
    return answer(completion({"content": text}), completion(finish="stop"), last, sse("[DONE]"))


@pytest.fixture
def openai(service, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    monkeypatch.setattr(limits, "_seen", {})
    monkeypatch.setattr("ipychat.batch.asker.FIRST_PAUSE", 0.001)
    service.on(PATH, echo)
    return service


def Series(*given, **how):  # noqa: N802, it is pandas', which is imported on use
    import pandas as pd

    return pd.Series(*given, **how)


def prompts(service) -> list[str]:
    return [asked_of(one) for one in service.asked(PATH)]


async def run(data, template="{{it}}", **how):
    return await batch.map(data, template, **{"model": MODEL, **how})


# -- rows


async def test_each_row_has_its_answer_in_the_order_of_the_data(openai):
    results = await run(range(50), "Row {{it}}", concurrency=16)
    assert results.texts == [f"You said Row {n}" for n in range(50)]
    assert results.counts == {"done": 50}
    assert results.errors == {}


@pytest.mark.parametrize(
    "make",
    [list, tuple, lambda rows: dict(zip("xy", rows, strict=True)), Series, iter],
    ids=["list", "tuple", "dict", "Series", "generator"],
)
async def test_whatever_holds_rows_is_gone_through(openai, make):
    assert (await run(make(["a", "b"]))).texts == ["You said a", "You said b"]


async def test_the_columns_of_a_frame_stand_in_the_template(openai):
    import pandas as pd

    frame = pd.DataFrame({"name": ["Ada", "Alan"], "born in": [1815, 1912]}, index=["x", "y"])
    results = await run(frame, "{{it.name}} was born in {{ it['born in'] }}; {{other}} {it}")
    assert results.texts[1] == "You said Alan was born in 1912; {{other}} {it}"


async def test_the_index_of_a_frame_or_a_series_is_that_of_its_results(openai):
    series = Series(["a", "b"], index=[30, 10])
    results = await run(series)
    assert [*results.to_frame().index] == [30, 10]
    assert results.to_series()[10] == "You said b"
    assert [*results.to_frame().columns] == [
        "value", "text", "status", "attempts", "cost", "error",
    ]  # fmt: skip


async def test_a_dict_has_its_keys_as_labels(openai):
    assert [*(await run({"x": "a", "y": "b"})).to_frame().index] == ["x", "y"]


async def test_dicts_are_rows_with_columns(openai):
    results = await run([{"a": {"b": 1}}, {"a": {"b": 2}}], "{{it.a.b}} {{it['a']['b']}}")
    assert results.texts == ["You said 1 1", "You said 2 2"]


async def test_a_function_makes_prompts_too(openai):
    results = await run([1, 2], lambda n: [{"role": "system", "content": "S"}, "x" * n])
    assert results.texts == ["You said x", "You said xx"]
    assert openai.asked(PATH)[0].json["messages"][0] == {"role": "system", "content": "S"}


async def test_no_rows_are_no_results(openai):
    results = await run([])
    assert len(results) == 0
    assert repr(results) == "<Results: 0 rows>"
    assert openai.asked(PATH) == []


async def test_a_row_without_a_prompt_fails_by_itself(openai):
    results = await run(["a", " ", "b"])
    assert results.texts == ["You said a", None, "You said b"]
    assert "empty" in str(results.errors[1])


async def test_a_row_whose_function_fails_fails_by_itself(openai):
    results = await run([1, 0], lambda n: f"{1 / n}")
    assert results.texts == ["You said 1.0", None]
    assert "ZeroDivisionError" in str(results.errors[1])


@pytest.mark.parametrize(
    ("data", "template", "said"),
    [
        ("text", "{{it}}", "rows"),
        (7, "{{it}}", "rows"),
        ([1], "no place", "has no {{it}}"),
        ([1], "{{it.upper()}}", "not {{it.upper()}}"),
        ([1], 5, "a text or a function"),
    ],
)
async def test_what_can_be_no_run_is_said_before_anything_is_sent(openai, data, template, said):
    with pytest.raises(UsageError) as caught:
        await run(data, template)
    assert said in str(caught.value)
    assert openai.asked(PATH) == []


@pytest.mark.parametrize(
    "how",
    [{"concurrency": 0}, {"rpm": -1}, {"tpm": "many"}, {"retries": -1}, {"max_cost": 0}],
)
async def test_a_number_that_can_not_be_is_refused(openai, how):
    with pytest.raises(UsageError):
        await run([1], **how)


async def test_a_missing_column_is_named_with_those_there_are(openai):
    results = await run([{"name": "Ada"}], "{{it.nam}}")
    assert str(results.errors[0]) == "A row has no 'nam'. It has: name."


def test_a_column_called_like_a_method_is_a_column():
    assert parse_template("{{it.items}}")({"items": 3}) == "3"


@pytest.mark.heavy
def test_pandas_is_not_imported_for_data_that_are_not_its_own():
    code = (
        "import sys; from ipychat.batch import rows; list(rows.values([1]));"
        "from ipychat import batch; sys.exit('pandas' in sys.modules or 'pydantic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- answers that are kept


async def test_a_second_run_sends_nothing_and_says_so(openai):
    await run(range(5))
    results = await run(range(5))
    assert len(openai.asked(PATH)) == 5
    assert results.counts == {"cached": 5}
    assert results[0].text == "You said 0"
    assert results[0].attempts == 0


async def test_only_what_is_missing_is_asked(openai):
    await run([1, 2])
    results = await run([1, 2, 3])
    assert prompts(openai) == ["1", "2", "3"]
    assert [row.status for row in results] == ["cached", "cached", "done"]


async def test_equal_prompts_are_asked_once(openai):
    results = await run(["a", "b", "a", "a"] * 5, concurrency=4)
    assert sorted(prompts(openai)) == ["a", "b"]
    assert results.texts[:3] == ["You said a", "You said b", "You said a"]
    assert results.counts == {"done": 2, "cached": 18}


async def test_what_fails_fails_for_all_rows_with_that_prompt(openai):
    openai.on(PATH, refusal(400))
    results = await run(["a", "a"])
    assert [row.status for row in results] == ["failed", "failed"]
    assert len(openai.asked(PATH)) == 1


async def test_another_model_option_or_system_is_another_question(openai):
    for how in ({}, {"model": "openai:n"}, {"temperature": 1}, {"system": "s"}, {"schema": str}):
        openai.on(PATH, PROTOCOL.whole('"a"'))
        await run(["a"], **how)
    assert len(openai.asked(PATH)) == 5


async def test_refresh_asks_anew_and_replay_asks_nothing(openai, monkeypatch):
    await run([1, 2])
    monkeypatch.setenv("IPYCHAT_REPLAY", "refresh")
    await run([1, 2])
    assert len(openai.asked(PATH)) == 4
    monkeypatch.setenv("IPYCHAT_REPLAY", "replay")
    results = await run([1, 2])
    assert results.counts == {"done": 2}  # as it was
    with pytest.raises(NotRecordedError):
        await run([1, 2, 3])
    assert len(openai.asked(PATH)) == 4


async def test_a_cassette_takes_the_answers(openai, tmp_path):
    config.use(config.Config(replay="auto", cassette=str(tmp_path / "__chat__")))
    await run(range(3))
    assert len([*(tmp_path / "__chat__").glob("*.json")]) == 4  # with the names
    await run(range(3))
    assert len(openai.asked(PATH)) == 3


async def test_an_answer_that_was_cut_off_is_no_answer_and_not_kept(openai):
    openai.on(PATH, answer(*PROTOCOL.pieces("half", reason="length")))
    results = await run(["a"])
    assert isinstance(results.errors[0], BrokenAnswerError)
    assert results[0].text == "half"
    assert results.texts == [None]
    openai.on(PATH, echo)
    assert (await run(["a"])).texts == ["You said a"]


# -- forms


class Person(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


@dataclass
class Place:
    city: str
    kind: Literal["town", "village"]
    tags: list[str]
    people: int | None = None


FORMS = [
    (Literal["good", "bad"], '{"value": "good"}', "good"),
    (Literal["good", "bad"], "good", "good"),
    (Literal[1, 2], '{"value": 2}', 2),
    (bool, '{"value": true}', True),
    (int, "```json\n7\n```", 7),
    (float, '{"value": 7}', 7.0),
    (str, '{"value": "x"}', "x"),
    (list[int], '{"value": [1, 2]}', [1, 2]),
    (int | None, '{"value": null}', None),
    (dict[str, int], '{"value": {"a": 1}}', {"a": 1}),
    (Person, '{"name": "Ada", "age": 36}', Person(name="Ada", age=36)),
    (
        Place,
        'Here it is:\n```json\n{"city": "B", "kind": "town", "tags": ["x"], "people": null}\n```',
        Place("B", "town", ["x"]),
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/n"}},
            "$defs": {"n": {"type": "number"}},
        },
        '{"a": 1.5}',
        {"a": 1.5},
    ),
    ({"type": "array", "items": {"type": "string"}, "minItems": 1}, '{"value": ["a"]}', ["a"]),
]


@pytest.mark.parametrize(("form", "said", "value"), FORMS, ids=lambda one: str(one)[:40])
async def test_an_answer_has_the_form_that_was_asked_for(openai, form, said, value):
    openai.on(PATH, PROTOCOL.whole(said))
    results = await run(["a"], schema=form)
    assert results.values == [value]
    assert type(results.values[0]) is type(value)
    body = openai.asked(PATH)[0].json
    assert body["response_format"]["json_schema"]["schema"]["type"] == "object"
    assert "JSON Schema" in body["messages"][0]["content"]


WRONG = [
    (Literal["good", "bad"], '{"value": "fine"}', "is not one of"),
    (Literal[1, 2], '{"value": true}', "is not of type integer"),
    (bool, '{"value": 1}', "is not of type boolean"),
    (int, '{"value": 1.5}', "is not of type integer"),
    (int, '{"value": true}', "is not of type integer"),
    (list[int], '{"value": [1, "2"]}', "it[1] is not of type integer"),
    (Person, '{"name": "Ada", "age": -1}', "age"),
    (Person, '{"name": "Ada"}', "needs all of"),
    (Place, '{"city": "B", "kind": "city", "tags": [], "people": null}', "kind is not one of"),
    (Place, '{"city": "B"}', "needs all of"),
    ({"type": "string", "maxLength": 2}, '{"value": "long"}', "longer than 2"),
    ({"type": "string", "pattern": "^a"}, '{"value": "b"}', "does not match"),
    (bool, "I can't say.", "is not JSON"),
    (bool, "", "is not JSON"),
]


@pytest.mark.parametrize(("form", "said", "fault"), WRONG, ids=lambda one: str(one)[:40])
async def test_an_answer_without_that_form_is_an_error_that_says_why(openai, form, said, fault):
    openai.on(PATH, PROTOCOL.whole(said) if said else answer(PROTOCOL.finish()))
    results = await run(["a"], schema=form, retries=0)
    assert isinstance(results.errors[0], FormatError)
    assert fault in str(results.errors[0])
    assert results.values == [None]
    assert results[0].text == said


async def test_a_wrong_answer_is_asked_again_and_told_what_is_wrong(openai):
    openai.on(PATH, PROTOCOL.whole('{"value": "maybe"}'), PROTOCOL.whole('{"value": true}'))
    results = await run(["a"], schema=bool)
    assert results.values == [True]
    assert results[0].attempts == 2
    *_, wrong, told = openai.asked(PATH)[1].json["messages"]
    assert wrong == {"role": "assistant", "content": '{"value": "maybe"}'}
    assert "it is not of type boolean" in told["content"]


async def test_it_is_asked_again_as_often_as_retries_says(openai):
    openai.on(PATH, PROTOCOL.whole("wrong"))
    results = await run(["a"], schema=bool, retries=3)
    assert results[0].attempts == 4
    assert len(openai.asked(PATH)) == 4


async def test_a_wrong_answer_is_never_served_from_disk(openai):
    openai.on(PATH, PROTOCOL.whole("wrong"))
    await run(["a"], schema=bool, retries=0)
    openai.on(PATH, PROTOCOL.whole("wrong"), PROTOCOL.whole("true"))
    assert (await run(["a"], schema=bool)).values == [True]
    results = await run(["a"], schema=bool)
    assert results.values == [True]
    assert results.counts == {"cached": 1}


async def test_a_kept_answer_that_does_not_fit_any_more_is_asked_for_anew(openai):
    openai.on(PATH, PROTOCOL.whole('{"name": "Ada", "age": 36}'))

    def reads(fits: Callable[[str], bool]):
        class Named(pydantic.BaseModel):
            name: str
            age: int

            @pydantic.field_validator("name")
            @classmethod
            def _fits(cls, name: str) -> str:
                if not fits(name):
                    raise ValueError("not that one")
                return name

        return Named

    await run(["a"], schema=reads(lambda name: True))
    openai.on(PATH, PROTOCOL.whole('{"name": "Alan", "age": 41}'))
    results = await run(["a"], schema=reads(lambda name: name != "Ada"))
    assert results.values[0].name == "Alan"


async def test_a_service_that_knows_no_such_option_is_asked_in_words_alone(openai):
    refused = refusal(400, "response_format json_schema is not supported")
    openai.on(PATH, refused, PROTOCOL.whole("true"))
    results = await run([1, 2], schema=bool, concurrency=1)
    assert results.values == [True, True]
    assert ["response_format" in one.json for one in openai.asked(PATH)] == [True, False, False]


@pytest.mark.parametrize(
    ("form", "schema"),
    [
        (
            Literal["good", "bad"],
            '{"type": "object", "properties": {"value": {"type": "string", "enum": '
            '["good", "bad"]}}, "required": ["value"], "additionalProperties": false}',
        ),
        (
            list[Place] | None,
            '{"type": "object", "properties": {"value": {"anyOf": [{"type": "array", "items": '
            '{"type": "object", "properties": {"city": {"type": "string"}, "kind": {"type": '
            '"string", "enum": ["town", "village"]}, "tags": {"type": "array", "items": {"type": '
            '"string"}}, "people": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}, '
            '"required": ["city", "kind", "tags", "people"], "additionalProperties": false}}, '
            '{"type": "null"}]}}, "required": ["value"], "additionalProperties": false}',
        ),
        (
            Person,
            '{"properties": {"name": {"title": "Name", "type": "string"}, "age": {"minimum": 0, '
            '"title": "Age", "type": "integer"}}, "required": ["name", "age"], "title": "Person", '
            '"type": "object"}',
        ),
    ],
    ids=["Literal", "dataclass", "model"],
)
def test_the_instruction_of_a_form_never_changes_as_kept_answers_are_found_by_it(form, schema):
    assert schemas.parse_schema(form).instruction.split("\n")[1] == schema


@dataclass
class Chain:
    link: "Chain | None"


@pytest.mark.parametrize(
    "form", [object, Chain, Callable, lambda: 1, {"$ref": "#/$defs/x"}, {"items": 3}]
)
async def test_a_form_that_can_not_be_checked_is_refused(form):
    with pytest.raises(UsageError):
        await run(["a"], schema=form)


NOT_X = {"type": "string", "not": {"const": "x"}}


async def test_further_keywords_of_a_schema_are_checked_by_jsonschema(openai):
    openai.on(PATH, PROTOCOL.whole('{"value": "x"}'), PROTOCOL.whole('{"value": "y"}'))
    results = await run(["a"], schema=NOT_X)
    assert results.values == ["y"]
    assert results[0].attempts == 2
    told = openai.asked(PATH)[1].json["messages"][-1]["content"]
    assert "it: 'x' should not be valid under {'const': 'x'}" in told


async def test_without_jsonschema_they_are_refused_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    with pytest.raises(UsageError, match=r"A schema with not .* pip install .jsonschema"):
        await run(["a"], schema=NOT_X)


async def test_a_schema_that_is_none_is_refused():
    with pytest.raises(UsageError, match="This is not a valid JSON Schema"):
        await run(["a"], schema=NOT_X | {"minLength": "many"})


# -- errors


async def test_a_service_that_fails_for_a_moment_is_asked_again(openai):
    openai.on(PATH, refusal(500), refusal(503), PROTOCOL.whole("ok"))
    results = await run(["a"])
    assert results.texts == ["ok"]
    assert results[0].attempts == 3


async def test_what_fails_to_the_end_is_an_error_of_its_row_alone(openai):
    openai.on(PATH, lambda received: refusal(500) if asked_of(received) == "1" else echo(received))
    results = await run(range(3), retries=2)
    assert [row.status for row in results] == ["done", "failed", "done"]
    assert isinstance(results.errors[1], ServerError)
    assert results[1].attempts == 3
    assert len(openai.asked(PATH)) == 5  # the wire does not ask again by itself


async def test_what_the_service_does_not_like_is_not_asked_again(openai):
    openai.on(PATH, lambda received: refusal(400) if asked_of(received) == "1" else echo(received))
    results = await run(range(3))
    assert isinstance(results.errors[1], RequestError)
    assert len(openai.asked(PATH)) == 3


async def test_retry_asks_for_what_failed_and_gives_all_rows(openai):
    openai.on(PATH, lambda received: refusal(400) if asked_of(received) == "1" else echo(received))
    results = await run(Series(range(3), index=list("xyz")))
    openai.on(PATH, echo)
    again = await results.retry()
    assert again.texts == ["You said 0", "You said 1", "You said 2"]
    assert [*again.to_series().index] == ["x", "y", "z"]
    assert len(openai.asked(PATH)) == 4
    assert results.texts[1] is None


async def test_rows_of_a_generator_can_be_asked_again_too(openai):
    openai.on(PATH, lambda received: refusal(400) if asked_of(received) == "1" else echo(received))
    results = await run(n for n in range(3))
    openai.on(PATH, echo)
    assert (await results.retry()).texts == ["You said 0", "You said 1", "You said 2"]


async def test_errors_hold_on_to_no_frames(openai):
    openai.on(PATH, refusal(400))
    [error] = (await run(["a"])).errors.values()
    assert error.__traceback__ is None
    assert error.__context__ is None
    assert error.reply is None


STOPS = {
    "a key that is not known": (refusal(401), AuthenticationError),
    "no credit left": (refusal(402), QuotaError),
    "a quota that is used up": (refusal(429, "insufficient_quota"), QuotaError),
}


@pytest.mark.parametrize("why", STOPS)
async def test_what_concerns_every_row_stops_the_run_at_once(openai, why):
    script, kind = STOPS[why]
    openai.on(PATH, script)
    with pytest.raises(kind):
        await run(range(100), concurrency=8)
    assert len(openai.asked(PATH)) == 1


@pytest.mark.parametrize("why", STOPS)
async def test_what_was_answered_before_a_stop_is_kept_and_returned(openai, why):
    script, kind = STOPS[why]
    openai.on(PATH, echo, echo, echo, script)
    results = await run(range(10), concurrency=1)
    assert results.counts == {"done": 3, "skipped": 7}
    assert isinstance(results.stopped, kind)
    assert "stopped" in repr(results)
    openai.on(PATH, echo)
    assert (await results.retry()).counts == {"done": 10}


async def test_without_a_key_nothing_is_sent(openai, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(OpenAI, "base_url", openai.url)
    with pytest.raises(MissingKeyError):
        await run(range(10))
    assert openai.asked(PATH) == []


async def test_where_everything_fails_the_run_stops(openai):
    openai.on(PATH, refusal(400))
    with pytest.raises(RequestError):
        await run(range(500), concurrency=4)
    assert len(openai.asked(PATH)) < 40


# -- pace


async def test_refusals_spend_no_retries_and_hold_all_back_together(openai):
    refused = [refusal(429, Retry_After="0.3")] * 5
    openai.on(PATH, echo, *refused, echo)
    begin = time.monotonic()
    results = await run(range(40), concurrency=4, retries=0)
    assert results.counts == {"done": 40}
    assert time.monotonic() - begin >= 0.3
    assert len(openai.asked(PATH)) == 45


async def test_a_rate_that_is_given_is_kept_to(openai):
    begin = time.monotonic()
    await run(range(20), rpm=6000)
    assert time.monotonic() - begin >= 19 / (100 * 0.95) - CATCH_UP


async def test_tokens_a_minute_are_kept_to(openai):
    begin = time.monotonic()
    await run([f"{n} " + "word " * 800 for n in range(5)], tpm=600_000)
    assert time.monotonic() - begin >= 4 * 1000 / (10_000 * 0.95) - CATCH_UP


async def test_the_headers_of_the_first_answer_set_the_pace(openai):
    allowed = {"limit": "100", "remaining": "50", "reset": "1s"}
    headers = {f"x_ratelimit_{name}_requests": value for name, value in allowed.items()}
    openai.on(PATH, answer(*PROTOCOL.pieces("ok"), **headers))
    begin = time.monotonic()
    await run(range(21), concurrency=64)
    assert time.monotonic() - begin >= 19 / (50 * 0.95) - CATCH_UP


async def test_the_first_prompt_goes_alone_until_its_answer_begins(openai):
    first = threading.Event()

    def scripted(received):
        if not first.is_set():
            first.set()
            return [0.2, *echo(received)]
        return echo(received)

    openai.on(PATH, scripted)
    task = asyncio.create_task(run(range(10)))
    while not first.is_set():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    assert len(openai.asked(PATH)) == 1
    assert (await task).counts == {"done": 10}


def test_what_a_service_allows_is_read_of_its_headers():
    openai = {"limit": "60", "remaining": "59", "reset": "1m2.5s"}
    limits.note("a", {f"x-ratelimit-{what}-requests": v for what, v in openai.items()})
    assert limits.seen("a") == {"requests": Limit(60, 59, 62.5)}
    soon = "2099-01-01T00:00:00Z"
    anthropic = {"limit": "4000", "remaining": "0", "reset": soon}
    limits.note("b", {f"anthropic-ratelimit-tokens-{what}": v for what, v in anthropic.items()})
    assert limits.seen("b")["tokens"].left == 0
    assert limits.seen("b")["tokens"].full_in > 3600
    limits.note("c", {"x-ratelimit-limit-requests": "many"})
    assert limits.seen("c") == {}


@pytest.mark.parametrize(
    ("limit", "rate"),
    [
        (Limit(60, 30, 30), 1),  # what was spent comes back
        (Limit(60, 59, 1), 59),  # what is left may be spent
        (Limit(60, 60, 0), None),
        (Limit(60, 60, 60), None),
    ],
)
def test_a_limit_says_how_fast_one_may_go(limit, rate):
    assert limit.rate == rate


async def test_without_limits_a_refusal_slows_down_and_answers_speed_up():
    pace = Pace()
    await pace.turn(1)
    pace.learn({})
    pace.answered(1, 1)
    pace.refused(0.0)
    first = pace._clocks["requests"].rate
    assert first
    pace.refused(0.0)
    assert pace._clocks["requests"].rate < first
    pace._guessed_at -= 1
    slow = pace._clocks["requests"].rate
    pace.answered(1, 1)
    assert pace._clocks["requests"].rate > slow


# -- cost

PRICED = "openai:gpt-4o-mini"
COST = (1000 * 0.15 + 200 * 0.6) / 1e6


@pytest.fixture
def priced(openai, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setattr(OpenAI, "base_url", openai.url)
    openai.on(PATH, counted("ok", (1000, 200)))
    return openai


async def test_every_row_says_what_it_cost_and_the_results_the_sum(priced):
    results = await run(range(3), model=PRICED)
    assert results[0].cost == pytest.approx(COST)
    assert results.cost == pytest.approx(3 * COST)
    again = await run(range(3), model=PRICED)
    assert again.cost == 0


async def test_the_run_stops_before_the_cost_is_exceeded(priced):
    results = await run(range(100), model=PRICED, max_cost=10 * COST, max_tokens=200)
    assert results.cost <= 10 * COST
    assert results.counts["done"] >= 8
    assert results.counts["skipped"] == 100 - results.counts["done"]
    assert "max_cost" in str(results.stopped)
    assert len(priced.asked(PATH)) == results.counts["done"]


async def test_without_a_price_a_cost_can_not_be_held(openai):
    with pytest.raises(UsageError, match=r"price of .* is unknown"):
        await run(range(3), max_cost=1)
    assert openai.asked(PATH) == []


async def test_all_that_was_answered_is_in_the_ledger(priced):
    from ipychat.store import ledger

    await run(range(3), model=PRICED)
    assert sum(entry["cost"] for entry in ledger.entries()) == pytest.approx(3 * COST)


# -- how far it is


async def test_progress_is_told_at_the_end_at_least(openai):
    told = []
    await run(range(10), progress=told.append)
    assert told[-1].done == told[-1].total == 10
    assert "10 of 10 answered" in str(told[-1])
    await run([*range(10), 10], progress=told.append)
    assert (told[-1].done, told[-1].cached) == (11, 10)


async def test_a_plan_says_what_a_run_would_do_and_sends_nothing(priced):
    await run([1], model=PRICED)
    plan = batch.plan([1, 2, 2, 3], "{{it}}", model=PRICED, max_tokens=100)
    assert (plan.rows, plan.prompts, plan.kept, plan.asked) == (4, 3, 0, 3)  # max_tokens is new
    plan = batch.plan([1, 2, 2, 3], "{{it}}", model=PRICED)
    assert (plan.rows, plan.prompts, plan.kept, plan.asked) == (4, 3, 1, 2)
    assert 0 < plan.least < plan.most
    assert "2 would be sent" in str(plan)
    assert len(priced.asked(PATH)) == 1


def test_a_plan_uses_no_data_up(openai):
    with pytest.raises(UsageError, match="list"):
        batch.plan((n for n in range(3)), "{{it}}", model=MODEL)


async def test_results_show_the_first_rows_and_those_that_failed(openai):
    openai.on(
        PATH, lambda received: refusal(400) if asked_of(received) == "<30>" else echo(received)
    )
    results = await run([f"<{n}>" for n in range(50)])
    shown = results._repr_html_()
    assert "You said &lt;0&gt;" in shown
    assert "<30>" not in shown
    assert shown.count("<tr>") == 11
    assert "and 39 more rows" in shown
    assert "rejected the request" in shown
    assert repr(results) == "<Results: 50 rows: 49 done, 1 failed>"


# -- being cut short

SCRIPT = """
import asyncio, sys
from ipychat import batch
async def main():
    results = await batch.map(range(40), "{{it}}", model="openai:m", concurrency=4)
    print(len(results), results.counts["cached"], results.counts["done"])
asyncio.run(main())
"""


@pytest.mark.heavy
def test_after_a_kill_only_what_is_missing_is_asked(openai):
    stuck = threading.Event()

    def half(received):
        if len(openai.asked(PATH)) <= 20:
            return echo(received)
        stuck.set()
        return [head(), HANG]

    openai.on(PATH, half)
    running = subprocess.Popen([sys.executable, "-c", SCRIPT])
    assert stuck.wait(30)
    running.kill()
    running.wait(30)
    openai.on(PATH, echo)
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    rows, cached, done = map(int, ran.stdout.split())
    assert (rows, cached + done) == (40, 40)
    assert cached >= 16
    assert len(openai.asked(PATH)) <= 40 + 4 + 4  # some may have been on their way to the disk


async def test_a_run_that_is_cancelled_keeps_what_it_has(openai):
    def half(received):
        return echo(received) if int(asked_of(received)) < 10 else [head(), HANG]

    openai.on(PATH, half)
    one = batch.Batch(range(20), "{{it}}", batch.How(model=MODEL, concurrency=4))
    task = asyncio.create_task(one.run())
    while one.progress.done < 10:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.results.counts == {"done": 10, "skipped": 10}
    openai.on(PATH, echo)
    assert (await run(range(20))).counts == {"cached": 10, "done": 10}


async def test_only_so_many_are_asked_at_a_time(openai):
    running, most, lock = 0, 0, threading.Lock()

    class Counting:
        def __init__(self, received):
            self.steps = iter([0.01, *echo(received)])

        def __iter__(self):
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            yield from self.steps
            with lock:
                running -= 1

    openai.on(PATH, Counting)
    await run(range(60), concurrency=7)
    assert most <= 7


async def test_rows_are_taken_from_the_data_as_they_are_asked(openai):
    taken = 0

    def rows():
        nonlocal taken
        for n in range(1000):
            taken += 1
            yield n

    openai.on(PATH, lambda received: [head(), HANG])
    task = asyncio.create_task(run(rows(), concurrency=4))
    while not openai.asked(PATH):
        await asyncio.sleep(0.005)
    assert taken <= 200
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- in a cell


def test_a_column_is_asked_in_a_cell_and_its_answers_become_a_column(notebook, service):
    service.on(PATH, lambda received: PROTOCOL.whole(f'"{asked_of(received)[-1]}"'))
    notebook.run("import pandas as pd; df = pd.DataFrame({'text': list('abc')}, index=[7, 8, 9])")
    flags = """--each df.text --into df.letter --schema "Literal['A', 'C']" --to found"""
    ran = notebook.run(f"%%chat {flags}\nWhich? {{{{it.upper()}}}}")
    assert ran.status == "ok", ran.error
    assert notebook.value("df.letter.fillna('-').tolist()") == ["A", "-", "C"]
    assert "2 of 3 answered · 1 failed" in ran.shown()
    assert "<progress" in ran.shown("text/html")
    assert "2 done, 1 failed" in ran.shown()
    assert notebook.value("[row.status for row in found]") == ["done", "failed", "done"]


def test_an_interrupt_keeps_what_is_done_and_the_cell_goes_on_from_there(notebook, service):
    def half(received):
        return echo(received) if asked_of(received) in "ab" else [head(), HANG]

    service.on(PATH, half)
    notebook.run("import pandas as pd; df = pd.DataFrame({'text': list('abcd')})")
    code = """%%chat --each df.text --into 'df["said"]' --concurrency 2\n{{it}}"""
    running = notebook.send(code)
    notebook.wait_for(lambda: len(service.asked(PATH)) == 4)
    notebook.interrupt()
    ran = notebook.wait(running)
    assert ran.status == "error"
    assert "2 of 4 rows are answered" in ran.error
    assert notebook.value("df.said.fillna('-').tolist()") == ["You said a", "You said b", "-", "-"]
    service.on(PATH, echo)
    assert notebook.run(code).status == "ok"
    assert notebook.value("df.said.tolist()") == [f"You said {c}" for c in "abcd"]
    assert len(service.asked(PATH)) == 6


def test_a_part_of_a_table_is_put_where_its_rows_are(notebook, service):
    service.on(PATH, echo)
    notebook.run("import pandas as pd; df = pd.DataFrame({'text': list('abc')})")
    notebook.run("%%chat --each df.text[1:] --into df.said\n{{it}}")
    assert notebook.value("df.said.fillna('-').tolist()") == ["-", "You said b", "You said c"]


def test_the_answers_go_into_a_variable(notebook, service):
    service.on(PATH, echo)
    assert notebook.run("%chat --each [1,2] --into said {{it}}").status == "ok"
    assert notebook.value("said") == ["You said 1", "You said 2"]


def test_a_dry_run_shows_the_plan_and_sends_nothing(notebook, service):
    ran = notebook.run("%%chat --each [1,2,2] --dry-run\n{{it}}")
    assert "3 rows, 2 different prompts: 0 are answered, 2 would be sent" in ran.shown()
    assert service.asked(PATH) == []


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("--each nonsense {{it}}", "--each nonsense failed: NameError"),
        ("--each [1] no", "has no {{it}}"),
        ("--each [1] --into '1 + 1' {{it}}", "--into takes a column"),
        ("--each [1] --into In.x {{it}}", "--into takes a column"),
        ("--each [1] --into print {{it}}", "--into takes a column"),
        ("--each [1] --schema nonsense {{it}}", "--schema nonsense failed"),
        ("--into df.x {{it}}", "go with --each"),
        ("--each [1] --background {{it}}", "--background goes with one question"),
        ("--each [1] --with x {{it}}", "--with goes with one question"),
        ("--each [1] -m openai:m -m openai:n {{it}}", "--each asks one model"),
    ],
)
def test_what_can_not_be_asked_is_said_in_the_cell(shared, said, why):
    kernel, service = shared
    before = len(service.requests)
    ran = kernel.run(f"%chat {said}")
    assert ran.status == "error"
    assert why in ran.error
    assert len(service.requests) == before


async def test_how_long_it_takes_is_reckoned_by_what_is_asked_side_by_side(openai):
    openai.on(PATH, lambda received: [0.2, *echo(received)])
    told: list[batch.Progress] = []
    run_ = batch.Batch([*range(33)], "{{it}}", batch.How(model=MODEL, concurrency=8))

    async def watch():
        while not (seen := run_.progress).done:
            await asyncio.sleep(0.01)
        told.append(seen)

    begun = time.monotonic()
    await asyncio.gather(run_.run(), watch())
    seconds = time.monotonic() - begun
    assert 1 <= told[0].done < 9
    assert told[0].left < 2 * seconds, "one alone has taken as long as each eight behind it"


async def test_a_known_limit_is_reckoned_with(openai):
    run_ = batch.Batch([*range(3)], "{{it}}", batch.How(model=MODEL, rpm=1200))
    await run_.run()
    assert run_.progress.rate <= 20


def test_where_nobody_watches_nothing_is_painted():
    from ipychat.display import progress

    assert progress.shown(lambda *_, **__: None, watched=False) is None
    with Path("/dev/null").open("w") as stream:
        assert progress.shown(None, watched=True, stream=stream) is None


def test_a_terminal_has_a_line_that_is_written_over_itself():
    from ipychat.display.progress import Line

    stream = io.StringIO()
    line = Line(stream)
    line(batch.Progress(done=1, total=2, rate=1, left=1))
    line(batch.Progress(done=2, total=2))
    first, second = stream.getvalue().split("\r")[1:]
    assert first == "1 of 2 answered · 1 a second, 1 s left"
    assert second.rstrip() == "2 of 2 answered"
    assert second.endswith("\n")
    assert len(second) > len(first)


# -- asked by an executor


@pytest.fixture(params=["threads", "processes"])
def executor(request):
    if request.param == "threads":
        made = ThreadPoolExecutor(2)
    else:
        made = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with made:
        yield made


@pytest.mark.heavy
async def test_the_workers_of_an_executor_ask_and_the_kernel_keeps(openai, executor):
    results = await run(range(120), executor=executor)
    assert results.texts == [f"You said {n}" for n in range(120)]
    assert len(openai.asked(PATH)) == 120
    assert (await run(range(120))).counts == {"cached": 120}
    assert len(openai.asked(PATH)) == 120


async def test_an_answer_from_a_worker_has_the_form_that_was_asked_for(openai, executor):
    openai.on(PATH, PROTOCOL.whole("wrong"), PROTOCOL.whole('{"name": "Ada", "age": 36}'))
    results = await run(["a"], schema=Person, executor=executor)
    assert results.values == [Person(name="Ada", age=36)]
    assert results[0].attempts == 2


@pytest.mark.heavy
async def test_what_stops_a_worker_stops_the_run(openai, executor):
    openai.on(PATH, refusal(401))
    with pytest.raises(AuthenticationError):
        await run(range(300), executor=executor)
    assert len(openai.asked(PATH)) <= 8


async def test_what_was_answered_in_a_share_that_stopped_is_kept(openai, executor):
    openai.on(PATH, *[echo] * 5, refusal(402))
    results = await run(range(40), executor=executor, concurrency=2)
    assert results.counts == {"done": 5, "skipped": 35}
    assert isinstance(results.stopped, QuotaError)


async def test_a_row_that_fails_at_a_worker_fails_alone(openai, executor):
    openai.on(PATH, lambda received: refusal(400) if asked_of(received) == "1" else echo(received))
    results = await run(range(3), executor=executor)
    assert [row.status for row in results] == ["done", "failed", "done"]
    assert isinstance(results.errors[1], RequestError)


async def test_a_share_shows_nothing_of_what_may_be_a_key(openai):
    sent = []

    class Looking(ThreadPoolExecutor):
        def submit(self, work, /, *given):
            sent.append((work, *given))
            return super().submit(work, *given)

    with Looking(1) as executor:
        await run(["a"], api_key="sk-given-by-hand-1234", executor=executor)
    assert "sk-given-by-hand-1234" not in repr(sent)
    assert openai.asked(PATH)[0].headers["Authorization"] == "Bearer sk-given-by-hand-1234"


async def test_a_cost_can_not_be_held_elsewhere(openai):
    with ThreadPoolExecutor(1) as executor, pytest.raises(UsageError, match="executor"):
        await run(["a"], max_cost=1, executor=executor)
    config.use(config.Config(dask="tcp://127.0.0.1:1"))
    with pytest.raises(UsageError, match="executor"):
        await run(["a"], max_cost=1)


# -- asked by a cluster

KEY = "sk-a-key-that-nobody-sees"


@pytest.fixture
def cluster():
    from distributed import LocalCluster

    options = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as made:
        yield made


@pytest.mark.heavy
async def test_a_cluster_asks_without_knowing_the_key_and_survives_a_worker(
    openai, cluster, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # of the kernel: the workers run already
    go_on, seen = threading.Event(), []

    def waiting(received):
        while not go_on.is_set():
            yield 0.02
        yield from echo(received)

    openai.on(PATH, waiting)
    config.use(config.Config(dask=cluster.scheduler_address))
    task = asyncio.create_task(run(range(200), retries=0))
    while len(openai.asked(PATH)) < 2:
        await asyncio.sleep(0.01)
    scheduler = cluster.scheduler
    for one in scheduler.tasks.values():
        seen += [repr(one), repr(one.run_spec), pickle.dumps(one.run_spec)]
    worker = next(iter(cluster.workers.values()))
    os.kill(worker.process.process.pid, signal.SIGKILL)
    go_on.set()
    results = await task
    assert results.texts == [f"You said {n}" for n in range(200)]
    seen += [repr(scheduler.get_logs()), repr(scheduler.get_events()), repr(scheduler.plugins)]
    assert seen[0]
    assert not [one for one in seen if KEY in str(one)]
    assert not scheduler.tasks
    assert not [one for one in scheduler.worker_plugins if one.startswith("ipychat")]
    assert {one.headers["Authorization"] for one in openai.asked(PATH)} == {f"Bearer {KEY}"}


async def test_a_cluster_that_does_not_answer_is_said(openai, monkeypatch):
    monkeypatch.setattr("ipychat.batch.cluster.TIMEOUT", "0.2s")
    config.use(config.Config(dask="tcp://127.0.0.1:1"))
    with pytest.raises(UnreachableError, match="scheduler"):
        await run([1])
