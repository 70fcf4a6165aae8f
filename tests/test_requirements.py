"""How optional packages are installed: never by a name that is another project's on PyPI."""

import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from ipychat import errors, requirements

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(requirement: str) -> tuple[str, set[str]]:
    """A requirement's name and its limits, in whichever order they stand."""
    name = requirement.partition(";")[0].strip()
    cut = min(at for at in (name.find(sign) for sign in "<>=!~") if at > 0)
    return name[:cut], set(name[cut:].split(","))


@pytest.mark.parametrize("extra", ["local", "keyring", "socks", "dask", "schema"])
def test_an_extra_is_installed_by_the_packages_that_it_needs(extra):
    pip, verb, *wanted = shlex.split(requirements.install(extra))
    assert (pip, verb) == ("pip", "install")
    assert dict(map(names, wanted)) == dict(map(names, PROJECT["optional-dependencies"][extra]))


def test_the_line_is_quoted_as_windows_reads_it_too():
    assert "'" not in requirements.install("local")


def test_an_extra_that_is_not_known_is_no_line_that_installs_nothing():
    assert requirements.install("nothing") == "install what its extra nothing lists"


def test_the_distribution_is_called_what_the_project_calls_it():
    assert PROJECT["name"] == requirements.DISTRIBUTION


def test_no_message_installs_ipychat_by_its_name():
    for path in (ROOT / "ipychat").rglob("*.py"):
        assert "install 'ipychat" not in path.read_text(), path
        assert 'install "ipychat' not in path.read_text(), path


def test_a_cluster_without_dask_says_how_to_install_it(monkeypatch):
    from ipychat.batch.cluster import Cluster

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(errors.MissingRequirementsError, match='pip install "distributed>='):
        Cluster("tcp://127.0.0.1:1", "run", {})
