"""The cost of loading, of the first cell, and of an interrupt, in real kernels.

CPU time of the kernel's process, the minimum of several kernels, with byte code compiled as after
an installation. Floors: an extension with one magic that does nothing, aiohttp, `time.sleep`.
"""

import compileall
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import ipychat
from bench.rows import Figure
from tests.kernels import Kernel, Ran
from tests.loopback import HANG, Service, chunk, head
from tests.protocols import PROTOCOLS

KERNELS, FEW_KERNELS = 7, 3
INTERRUPTS = 15
ONE_MAGIC = """
from IPython.core.magic import Magics, line_magic, magics_class
@magics_class
class One(Magics):
    @line_magic
    def one(self, line):
        "Nothing."
def load_ipython_extension(shell):
    shell.register_magics(One)
"""
CPU = "_t = __import__('time').process_time()\n{}\nprint(__import__('time').process_time() - _t)"
LOAD = "get_ipython().run_line_magic('load_ext', '{}')"
SLEEP = "import time; print('so far', flush=True); time.sleep(60)"
PEERS = {
    "openai": "import openai",
    "litellm": "import litellm",
    "jupyter_ai_magics": LOAD.format("jupyter_ai_magics"),
}


def milliseconds(kernel: Kernel, code: str) -> float:
    ran = kernel.run(CPU.format(code))
    assert ran.status == "ok", ran.error
    return float(ran.stdout.splitlines()[-1]) * 1000


def loading(env: dict[str, str]) -> dict[str, float]:
    kernel = Kernel(env)
    try:
        kernel.run("pass")
        kernel.run("import IPython.core.magics.extension")
        floor = milliseconds(kernel, LOAD.format("ipychat_bench_one_magic"))
        load = milliseconds(kernel, LOAD.format("ipychat"))
        first, second = (milliseconds(kernel, "%chat hi") for _ in range(2))
        return {"floor": floor, "load": load, "first": first - second}
    finally:
        kernel.close()


def importing(env: dict[str, str], code: str) -> float:
    """The cost of one statement in a new kernel."""
    kernel = Kernel(env)
    try:
        kernel.run("import IPython.core.magics.extension")
        return milliseconds(kernel, code)
    finally:
        kernel.close()


def interrupts(kernel: Kernel, cell: str, begun: Callable[[Ran], bool]) -> float:
    """The median time from the signal to the cell's reply, in milliseconds."""
    took = []
    for _ in range(INTERRUPTS):
        sent = kernel.send(cell)
        ran = kernel.cells[sent]
        kernel.wait_for(lambda ran=ran: begun(ran))
        begin = time.perf_counter()
        kernel.interrupt()
        while not ran.reply:
            kernel.take_replies()
        took.append((time.perf_counter() - begin) * 1000)
        kernel.wait(sent)
    return statistics.median(took)


def measure() -> Iterator[Figure | str]:
    compileall.compile_dir(Path(ipychat.__file__).parent, quiet=1)
    protocol = PROTOCOLS[0]
    service = Service()
    service.on(protocol.path, protocol.whole("Hello"))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ipychat_bench_one_magic.py").write_text(ONE_MAGIC)
        env = {
            "PYTHONPATH": os.pathsep.join([folder, str(Path(ipychat.__file__).parent.parent)]),
            "PYTHONDONTWRITEBYTECODE": "",
            "IPYCHAT_HOME": folder,
            "OPENAI_BASE_URL": service.url,
            "OPENAI_API_KEY": "a-key-for-the-bench",
            "IPYCHAT_MODEL": "openai:m",
        }
        yield from loads(env)
        service.on(protocol.path, [head(), chunk(protocol.text("so far")), HANG])
        kernel = Kernel(env)
        kernel.run("%load_ext ipychat")
        for name, prefix in (("an interrupt", ""), ("an interrupt under `%%time`", "%%time\n")):
            ours = interrupts(
                kernel, f"{prefix}%chat hi", lambda ran: "so far" in ran.shown("text/html")
            )
            floor = interrupts(kernel, f"{prefix}{SLEEP}", lambda ran: "so far" in ran.stdout)
            yield Figure(name, ours, floor)
        kernel.close()
    service.close()


def loads(env: dict[str, str]) -> Iterator[Figure | str]:
    there = {name: code for name, code in PEERS.items() if find_spec(name)}
    for name in PEERS.keys() - there:
        yield f"{name} is not installed: it is not loaded beside ours."
    runs = [loading(env) for _ in range(KERNELS)]
    least = {name: min(run[name] for run in runs) for name in ("floor", "load", "first")}
    peers = {name: importing(env, code) for name, code in there.items()}
    yield Figure("`%load_ext ipychat`", least["load"], least["floor"], others=peers)
    floor = min(importing(env, "import aiohttp") for _ in range(FEW_KERNELS))
    yield Figure("the first cell beyond the second", least["first"], floor)
