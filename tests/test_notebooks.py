"""The project's notebooks: they run on their cassette, with no network, and are always the same."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from tests.kernels import reached_by_files

pytestmark = pytest.mark.kernel

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
NOT_OURS = {"image/png", "application/vnd.jupyter.widget-view+json"}
NO_NETWORK = """
import sys

def _refuse(event, args):
    if event in {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"}:
        raise OSError(f"no network: {event} {args[1:]}")

sys.addaudithook(_refuse)
"""

NO_RUN = """
from ipychat.toolbox import running

running.Running._run = None
"""


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Another machine: the notebooks and nothing else, no key, no network but the kernel's own."""
    folder = tmp_path / "another machine"
    shutil.copytree(FOLDER, folder)
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-no-network.py").write_text(NO_NETWORK)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("IPYCHAT_REPLAY", "replay")
    monkeypatch.setenv("IPYCHAT_CASSETTE", "__chat__")
    return folder


def run(path: Path):
    notebook = nbformat.read(path, 4)
    with reached_by_files() as reached:
        client = NotebookClient(
            notebook,
            record_timing=False,
            coalesce_streams=True,  # where a text is cut depends on the machine
            resources={"metadata": {"path": str(path.parent)}},
            config=Config(KernelManager=reached),
        )
        client.execute()
    return notebook


def outputs(notebook) -> str:
    """All that the cells show, but for what other packages make of it: tracebacks, images, ids."""
    shown = [dict(one) for cell in notebook.cells for one in cell.get("outputs", [])]
    for one in shown:
        one["traceback"] = None
        data = one.get("data", {})
        one["data"] = {kind: kind in NOT_OURS or data[kind] for kind in data}
    return json.dumps(shown, indent=1, sort_keys=True)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_shows_the_same_to_the_byte_without_a_key_and_a_network(
    elsewhere, monkeypatch, tmp_path, name
):
    monkeypatch.setenv("IPYCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("IPYCHAT_MODEL", "openai:something-else")
    assert outputs(run(elsewhere / name)) == outputs(nbformat.read(FOLDER / name, 4))
    assert not (tmp_path / "home").exists(), "a replay keeps nothing"


def test_a_replay_of_tools_runs_neither_functions_nor_code(elsewhere):
    path = elsewhere / "tools.ipynb"
    notebook = nbformat.read(path, 4)
    ran = 'raise AssertionError("this ran")'
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].source += f"\n\n{NO_RUN}"
    bodies = ["    if fruit not in counts:", "    counts[fruit] -= count", "    count = json.loads"]
    for body in bodies:
        [cell] = [cell for cell in code if body in cell.source]
        cell.source = cell.source.replace(body, f"    {ran}\n{body}")
    nbformat.write(notebook, path)
    assert outputs(run(path)) == outputs(nbformat.read(FOLDER / "tools.ipynb", 4))


def test_no_answer_is_kept_for_two_notebooks():
    """The later one to be recorded would replace it, and the earlier one show another answer."""
    kept = FOLDER.glob(f"__chat__/{'?' * 64}.json")
    assert not [one.name for one in kept if len(json.loads(one.read_text())["notebooks"]) != 1]


def test_those_runs_really_have_no_network(elsewhere):
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("import socket; socket.create_connection(('127.0.0.1', 9))")
        ]
    )
    nbformat.write(notebook, elsewhere / "connects.ipynb")
    with pytest.raises(CellExecutionError, match="no network: socket"):
        run(elsewhere / "connects.ipynb")


def test_a_question_that_was_never_asked_fails_such_a_run(elsewhere):
    path = elsewhere / "quickstart.ipynb"
    notebook = nbformat.read(path, 4)
    [cell] = [cell for cell in notebook.cells if "a Python list comprehension?" in cell.source]
    cell.source = cell.source.replace("list comprehension?", "list comprehension")
    nbformat.write(notebook, path)
    with pytest.raises(CellExecutionError) as caught:
        run(path)
    asked = "In one sentence: what is a Python list comprehension"
    assert f'-   "text": "{asked}?"' in str(caught.value)
    assert f'+   "text": "{asked}"' in str(caught.value)


COMMANDS = {
    "nbconvert": ["--execute", "--to", "notebook", "--output", "out.ipynb", "quickstart.ipynb"],
    "papermill": ["--no-progress-bar", "quickstart.ipynb", "out.ipynb"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow("each starts a program, a kernel and all of nbconvert")
def test_other_runners_show_the_same(elsewhere, command):
    done = subprocess.run(
        [sys.executable, "-m", command, *COMMANDS[command]],
        cwd=elsewhere,
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    recorded = nbformat.read(FOLDER / "quickstart.ipynb", 4)
    ran = nbformat.read(elsewhere / "out.ipynb", 4)
    # papermill counts an error that a cell is meant to show as one, and puts a cell above it
    assert done.returncode == 0 or (command == "papermill" and b"FrontEndAgnet" in done.stderr)
    known = {cell.id for cell in recorded.cells}
    ran.cells = [cell for cell in ran.cells if cell.id in known]
    assert outputs(ran) == outputs(recorded)
