"""Builds sdist and wheel, looks into them, and tries the wheel where nothing else of ours is.

`make wheel` runs it, and leaves both in `dist`. Every Python that we promise and the machine has
gets a new environment, in which `installed.py` runs; one of them also checks the types of
`typed_sample.py`. Those that the machine has not are named.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DIST = ROOT / "dist"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
THEIRS = ("IPYCHAT_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_", "OLLAMA_", "PYTHONPATH")


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command without any setting of the user's; return what it says."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
    ran = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
    )
    if ran.returncode:
        raise SystemExit(f"{ran.stdout}\n{' '.join(map(str, command))} failed: {ran.returncode}")
    return ran.stdout


# -- what is built


def build(source: Path, to: Path, *what: str) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-d", to, *what, cwd=source)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def look_into(wheel: Path) -> None:
    """The wheel holds the package as it stands here, its licence, and nothing else."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ipychat").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for needed in ("py.typed", "catalog/models.json", "display/panel.js", "display/panel.css"):
        assert f"ipychat/{needed}" in package, needed
    name = "-".join(wheel.name.split("-")[:2])
    about = ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")
    beside = {f"{name}.dist-info/{file}" for file in about}
    extension = f"{name}.data/data/share/jupyter/labextensions/jupyter-ipychat"
    beside |= {
        f"{extension}/{path.relative_to(ROOT / 'ui/built/jupyter-ipychat').as_posix()}"
        for path in (ROOT / "ui/built/jupyter-ipychat").rglob("*")
        if path.is_file()
    }
    beside.add(f"{extension}/install.json")
    found = {*contents(wheel)}
    assert found == package | beside, f"not as it stands here: {found ^ (package | beside)}"


def same_from(sdist: Path, wheel: Path, folder: Path) -> None:
    """A wheel that is built from the sdist is the same."""
    with tarfile.open(sdist) as opened:
        opened.extractall(folder, filter="data")
    [source] = folder.iterdir()
    build(source, folder / "dist", "-t", "wheel")
    [again] = (folder / "dist").iterdir()
    one, other = contents(wheel), contents(again)
    differ = [name for name in one.keys() | other.keys() if one.get(name) != other.get(name)]
    assert not differ, f"differ when built from the sdist: {differ}"


# -- what is installed


def pythons() -> dict[str, str]:
    """The interpreters of this machine, by version: this one, those on the path, and pyenv's."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = {}
    for version in PYTHONS:
        name = f"python{version}"
        others = versions.glob(f"{version}.*/bin/{name}")
        for path in (sys.executable, shutil.which(name), *others):
            code = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
            if path is None:
                continue
            asked = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60)
            if asked.stdout.strip() == version:  # pyenv's shims stand for nothing at times
                found[version] = str(path)
                break
    return found


def install(python: str, wheel: Path, folder: Path) -> Path:
    """Make an environment with the wheel alone; return its Python."""
    run(python, "-m", "venv", "--without-pip", folder)  # this one's will do, and costs nothing
    made = folder / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", made)
    run(*pip, "install", "--quiet", "--disable-pip-version-check", wheel)
    return made


def try_out(python: str, wheel: Path, folder: Path) -> Path:
    """Install the wheel, and do there what a user does first."""
    made = install(python, wheel, folder / "environment")
    outside = folder / "outside"
    outside.mkdir()
    for name in ("installed.py", "kernels.py", "typed_sample.py"):
        shutil.copy(TESTS / name, outside)
    run(made, "installed.py", cwd=outside)
    return made


def check_types(python: Path, folder: Path) -> None:
    """Check the sample against the installed package, from outside."""
    options = ("--strict", "--config-file=", "--no-incremental", "--python-executable", python)
    run(sys.executable, "-m", "mypy", *options, "typed_sample.py", cwd=folder)


def main() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    build(ROOT, DIST)
    [wheel], [sdist] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    look_into(wheel)
    found = pythons()
    with tempfile.TemporaryDirectory() as made, ThreadPoolExecutor(2) as pool:
        folders = {version: Path(made) / version for version in ("sdist", *found)}
        for folder in folders.values():
            folder.mkdir()
        same_from(sdist, wheel, folders["sdist"])
        tried = {
            version: pool.submit(try_out, python, wheel, folders[version])
            for version, python in found.items()
        }
        for version, trial in tried.items():
            trial.result()
            print(f"{wheel.name} works with Python {version}", flush=True)
        mine = next(iter(found))
        check_types(tried[mine].result(), folders[mine] / "outside")
        print(f"{wheel.name} has types")
    for version in PYTHONS:
        if version not in found:
            print(f"not tried: Python {version}, which is not installed")


if __name__ == "__main__":
    main()
