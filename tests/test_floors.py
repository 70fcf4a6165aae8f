"""Packages that are older than what ipychat works with: a sentence says so, no traceback."""

import sys
from pathlib import Path

import pytest

from ipychat import requirements
from tests.protocols import OPENAI
from tools.floors import floors as lowest

OLDER = Path(sys.prefix) / "older"
"""Each with one package of an older version, as `make test` puts them there."""


@pytest.fixture
def kernel_with(kernel):
    def start(package: str):
        if not (OLDER / package).exists():
            pytest.skip(f"an older {package} is not installed beside the newest: make test does it")
        return kernel(PYTHONPATH=str(OLDER / package))

    return start


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("nh3", 'ipychat needs nh3 {} or newer; 0.2.18 is installed.\npip install -U "nh3>={}"'),
        (
            "filelock",
            "ipychat needs filelock {} or newer; 3.16.0 is installed.\n"
            'pip install -U "filelock>={}"',
        ),
    ],
)
def test_a_cell_that_uses_an_older_package_says_so(kernel_with, service, package, sentence):
    service.on(OPENAI.path, OPENAI.whole("**hi**"))
    floor = dict(one.split("==") for one in lowest())[package]
    ran = kernel_with(package).run("%%chat\nhi")
    assert ran.status == "error"
    assert ran.error == f"OutdatedError: {sentence.format(floor, floor)}"


def test_an_older_package_is_no_matter_until_it_is_used(kernel_with, service):
    service.on(OPENAI.path, OPENAI.whole("**hi**"))
    ran = kernel_with("nh3").run("import ipychat\nprint((await ipychat.ask('hi')).text)")
    assert ran.stdout == "**hi**\n", ran.error


@pytest.mark.parametrize("package", [one.partition("==")[0] for one in lowest()])
def test_what_is_installed_here_is_new_enough(package):
    requirements.check(package)


@pytest.mark.parametrize(
    ("version", "is_enough"),
    [("3.24", True), ("3.24.0", True), ("3.24.1rc1", True), ("4", True), ("10.1", True),
     ("3.23.9", False), ("3.9", False), ("3", False), ("2027.1", True)],
)  # fmt: skip
def test_versions_are_compared_as_numbers(tmp_path, monkeypatch, version, is_enough):
    about = tmp_path / f"filelock-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: filelock\nVersion: {version}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(requirements, "_checked", set())
    if is_enough:
        requirements.check("filelock")
    else:
        with pytest.raises(requirements.OutdatedError, match=rf"{version} is installed"):
            requirements.check("filelock")


def test_a_package_without_metadata_is_taken_as_it_is():
    requirements.check("no-such-package")


def test_every_requirement_has_a_floor_and_the_tool_prints_it():
    printed = lowest("keyring", "socks")
    assert len(printed) == len({one.partition("==")[0] for one in printed}) > 10
    assert "nh3==0.3.6" in printed
    assert "keyring==25" in printed
