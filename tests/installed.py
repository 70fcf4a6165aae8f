"""What a user does first with the wheel; `tests/wheel.py` runs it where nothing else of ours is.

Beside it stands a copy of `kernels.py`. It uses what the wheel brings along and nothing more.
"""

import json
import os
import pkgutil
import subprocess
import sys
import urllib.request
from importlib import import_module, metadata
from pathlib import Path

from kernels import Kernel

import ipychat
from ipychat import providers

HERE = Path(__file__).parent
PACKAGE = Path(ipychat.__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60
    )


def it_is_the_installed_one():
    assert PACKAGE.is_relative_to(sys.prefix), PACKAGE
    assert metadata.version("ipychat") == ipychat.__version__
    assert (PACKAGE / "py.typed").exists()


OF_THE_SDK = {"ipychat.toolbox._links", "ipychat.toolbox._sdk"}
"""What only the extra `mcp` imports, which is not installed here."""


def every_module_and_name_can_be_imported():
    for module in pkgutil.walk_packages([str(PACKAGE)], "ipychat."):
        if not (module.name.endswith("__main__") or module.name in OF_THE_SDK):
            import_module(module.name)
    for package in (ipychat, providers):
        assert all(getattr(package, name) is not None for name in package.__all__)


def a_cell_is_answered_and_the_panel_has_its_page():
    kernel = Kernel()
    try:
        assert kernel.run("%load_ext ipychat").status == "ok"
        kernel.run("print(valeu)")
        answered = kernel.run("%%chat\nwhat went wrong?")
        assert answered.status == "ok", answered.error
        assert "no AI model" in answered.shown()
        assert "valeu" in answered.shown()
        panel = kernel.run("%chat_panel")
        assert panel.status == "ok", panel.error
        states = [comm.get("data", {}).get("state", {}) for comm in kernel.comms]
        [page] = [state["_esm"] for state in states if "_esm" in state]
        assert page == (PACKAGE / "display/panel.js").read_text(encoding="utf-8")
    finally:
        kernel.close()


def the_gateway_runs_and_scripts_that_ask_it_are_quiet():
    command = [sys.executable, "-m", "ipychat.gateway", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
        try:
            root = gateway.stdout.readline().strip()
            with urllib.request.urlopen(f"{root}/openai/v1/models", timeout=20) as answer:
                assert json.load(answer)["data"]
            for script in SCRIPTS:
                is_quiet(script, f"{root}/openai/v1")
        finally:
            gateway.terminate()


SCRIPTS = (
    "asyncio.run(ipychat.ask('hi'))",
    "asyncio.run(together())",
    "asyncio.run(left_early())",
    "asyncio.run(directly())",
)


def is_quiet(script: str, url: str):
    """Run it with every warning an error; nothing may stand on its stderr."""
    (HERE / "script.py").write_text(f"""
import asyncio, ipychat
from ipychat.providers import OpenAI

async def together():
    await asyncio.gather(*(ipychat.ask("hi") for _ in range(3)))

async def left_early():
    async for _ in ipychat.stream("hi"):
        break

async def directly():
    async for _ in OpenAI.create_async_generator("helper", [{{"role": "user", "content": "hi"}}]):
        pass

{script}
""")
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", HERE / "script.py"],
        env=os.environ
        | {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "any", "IPYCHAT_MODEL": "openai:helper"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    # asyncio's word on slow steps depends on what else the machine does
    noise = [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]
    assert not ran.returncode, ran.stderr
    assert not noise, f"{script}: {ran.stderr}"


def the_audit_finds_a_key():
    clean, leaky = HERE / "clean.ipynb", HERE / "leaky.ipynb"
    clean.write_text('{"cells": []}')
    leaky.write_text('{"cells": [{"source": "key = \\"sk-proj-%s\\""}]}' % ("aB3" * 16))
    assert run("ipychat.audit", str(clean)).returncode == 0
    assert run("ipychat.audit", str(leaky)).returncode == 1


def the_weights_are_listed():
    listed = run("ipychat.local", "list")
    assert listed.returncode == 0, listed.stderr
    assert "qwen2.5-0.5b" in listed.stdout


if __name__ == "__main__":
    os.environ |= {"IPYCHAT_HOME": str(HERE / "home"), "IPYCHAT_SERVERS": "off"}
    it_is_the_installed_one()
    every_module_and_name_can_be_imported()
    a_cell_is_answered_and_the_panel_has_its_page()
    the_gateway_runs_and_scripts_that_ask_it_are_quiet()
    the_audit_finds_a_key()
    the_weights_are_listed()
