"""MCP servers as tools of a question: asked, shown, kept, replayed without them."""

import json
import sys
from pathlib import Path

import pytest

import ipychat
from ipychat import config
from ipychat.display import exchange
from ipychat.errors import PolicyError, StoreError, UsageError
from ipychat.toolbox import mcp, recorded
from tests.acting import COMPLETIONS
from tests.test_acting import service as service  # noqa: PLC0414 - a fixture
from tests.test_mcp import npm

pytestmark = pytest.mark.heavy

TIME = {"command": sys.executable, "args": ["-m", "mcp_server_time", "--local-timezone", "UTC"]}
NOON = {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}
ROUNDS = (
    [("time__convert_time", NOON)],
    [("time__convert_time", {"time": 5})],
    "Nine in the evening.",
)


@pytest.fixture(autouse=True)
async def ended():
    yield
    await mcp.close_all()


def use(**settings):
    config.use(config.current()._replace(**settings))


async def ask(service, **how):
    service.on(COMPLETIONS.path, COMPLETIONS.script(*ROUNDS))
    how = {"tools": ["mcp:time"], "approve": "all", "model": "openai:m", **how}
    return await ipychat.ask("What time is it in Tokyo at noon?", **how)


async def test_a_servers_tool_is_called_and_its_result_told(service):
    use(mcp={"time": TIME})
    reply = await ask(service)
    first, second = reply.steps
    assert (first.tool, first.error) == ("mcp:time.convert_time", False)
    assert "T21:00:00+09:00" in first.text
    assert second.error
    offered = service.asked(COMPLETIONS.path)[0].json["tools"]
    assert {one["function"]["name"] for one in offered} >= {"time__convert_time"}


async def test_a_replay_starts_no_server(service, tmp_path):
    use(mcp={"time": TIME}, cassette=str(tmp_path / "__chat__"), replay="auto")
    first = await ask(service)
    await mcp.close_all()
    use(mcp={"time": {"command": "/nowhere/at/all"}}, replay="replay")
    again = await ask(service)
    assert (again.text, again.steps) == (first.text, first.steps)
    use(replay="auto")
    again = await ask(service)
    assert again.steps == first.steps


async def test_a_cassette_in_which_somebody_changed_the_list_of_tools_is_refused(service, tmp_path):
    use(mcp={"time": TIME}, cassette=str(tmp_path / "__chat__"), replay="auto")
    await ask(service)
    for one in (tmp_path / "__chat__").glob("*.json"):
        given = json.loads(one.read_text())
        for tool in given.get("answered", {}).get("tools", ()):
            tool["description"] = "Something else"
        one.write_text(json.dumps(given))
    with pytest.raises(StoreError, match="its answer was changed"):
        await ask(service)


async def test_a_servers_prompt_goes_along_by_its_name(service):
    use(mcp={"everything": npm("everything")})
    [part] = await recorded.resource("mcp:everything/simple-prompt")
    assert "simple prompt" in part.text


async def test_the_panel_offers_what_running_servers_have_and_starts_none(service):
    use(mcp={"everything": npm("everything")})
    assert await exchange._resources() == []
    await recorded.resource("mcp:everything/simple-prompt")
    names = [one["name"] for one in await exchange._resources()]
    assert all(name.startswith("mcp:everything/demo://") for name in names)
    assert names


async def test_a_resource_that_is_not_there_is_told_in_a_sentence(service):
    use(mcp={"everything": npm("everything")})
    with pytest.raises(UsageError, match="demo://nowhere can't be read"):
        await recorded.resource("mcp:everything/demo://nowhere")


async def test_a_folders_server_is_not_started_unasked(service, tmp_path, monkeypatch):
    started = tmp_path / "started"
    row = {"command": sys.executable, "args": ["-c", f"open({str(started)!r}, 'w')"]}
    Path(tmp_path, ".mcp.json").write_text(json.dumps({"mcpServers": {"theirs": row}}))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PolicyError, match="was not allowed"):
        await ask(service, tools=["mcp:theirs"])
    assert not started.exists()
    assert not service.asked(COMPLETIONS.path)


async def test_a_resource_goes_along_and_is_recorded(service, tmp_path):
    use(mcp={"everything": npm("everything")}, cassette=str(tmp_path / "__chat__"), replay="auto")
    live = await recorded.resource("mcp:everything/demo://resource/static/document/features.md")
    await mcp.close_all()
    use(mcp={}, replay="replay")
    again = await recorded.resource("mcp:everything/demo://resource/static/document/features.md")
    assert again == live
    with pytest.raises(ipychat.ChatError):
        await recorded.resource("mcp:everything/demo://another")
