"""What loading, the first cell and an interrupt cost, in real kernels.

CPU time of the kernel's process, the least of several kernels, with the byte code compiled as after
any installation. The floor is an extension that has one magic and does nothing.
"""

import compileall
import os
import statistics
import tempfile
import time
from pathlib import Path

import ipychat
from tests.kernels import Kernel
from tests.loopback import HANG, Service, chunk, head
from tests.protocols import PROTOCOLS

KERNELS = 7
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


def interrupts(kernel: Kernel, service: Service, cell: str) -> float:
    """The median from the signal to the cell's reply, in milliseconds, on a silent connection."""
    protocol = PROTOCOLS[0]
    service.on(protocol.path, [head(), chunk(protocol.text("so far")), HANG])
    took = []
    for _ in range(INTERRUPTS):
        sent = kernel.send(cell)
        ran = kernel.cells[sent]
        kernel.wait_for(lambda ran=ran: "so far" in ran.shown("text/html"))
        begin = time.perf_counter()
        kernel.interrupt()
        while not ran.reply:
            kernel.take_replies()
        took.append((time.perf_counter() - begin) * 1000)
        kernel.wait(sent)
    return statistics.median(took)


def row(what: str, value: float, bound: float | None = None) -> None:
    verdict = (
        "" if bound is None else f"at most {bound:g}: " + ("met" if value <= bound else "NOT MET")
    )
    print(f"{what:44} {value:8.1f} ms  {verdict}")


def main() -> None:
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
        runs = [loading(env) for _ in range(KERNELS)]
        row("an extension with one magic (the floor)", min(run["floor"] for run in runs))
        row("%load_ext ipychat", min(run["load"] for run in runs), 5)
        row("the first cell beyond the second", min(run["first"] for run in runs), 170)
        kernel = Kernel(env)
        kernel.run("%load_ext ipychat")
        row("an interrupt to the reply, median", interrupts(kernel, service, "%chat hi"), 50)
        row("the same under %%time", interrupts(kernel, service, "%%time\n%chat hi"), 100)
        kernel.close()
    service.close()


if __name__ == "__main__":
    main()
