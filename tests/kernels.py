"""A real kernel, asked over its real channels, and what a front end would show of its answers."""

import contextlib
import json
import os
import queue
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import zmq
from jupyter_client import BlockingKernelClient, KernelManager

TIMEOUT = 60


@contextlib.contextmanager
def reached_by_files() -> Iterator[dict[str, str]]:
    """How a kernel is reached by what no other process can have; a free port may be taken soon."""
    with tempfile.TemporaryDirectory(prefix="kernel-") as folder:
        yield {"transport": "ipc", "ip": f"{folder}/at"}


@dataclass
class Ran:
    """What became of a cell."""

    status: str = ""
    reply: dict[str, Any] = field(default_factory=dict)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    stdout: str = ""
    idle: bool = False

    def shown(self, mime: str = "text/plain") -> str:
        """What stands in the cell at the end, in one form."""
        texts = [output["data"].get(mime, "") for output in self.outputs]
        return "\n".join(text for text in texts if text)

    @property
    def error(self) -> str:
        """The error that the cell failed with, or that it showed and went on."""
        shown = [one["content"] for one in self.messages if one["msg_type"] == "error"]
        failed = [self.reply] if "traceback" in self.reply else shown
        return "\n".join(line for one in failed for line in one.get("traceback", []))

    @property
    def next_input(self) -> str | None:
        for payload in self.reply.get("payload", []):
            if payload["source"] == "set_next_input":
                return payload["text"]
        return None


class Kernel:
    """One kernel; `run` is what a front end does with a cell.

    Where nobody measures a start, `fork` makes it cheap; `tests/test_kernels.py` holds that it is alike.
    """

    def __init__(
        self, env: dict[str, str] | None = None, python: str = sys.executable, *, fork: bool = False
    ) -> None:
        self._ended = contextlib.ExitStack()
        self._manager = KernelManager(**self._ended.enter_context(reached_by_files()))
        if python != sys.executable:
            self._manager.kernel_spec.argv[0] = python
        if fork:
            from tests import forks  # a copy of this module stands alone beside the wheel

            self._manager.kernel_spec.metadata["kernel_provisioner"] = forks.PROVISIONER
        quiet = ["--IPKernelApp.log_level=40"]
        self._manager.start_kernel(extra_arguments=quiet, env={**os.environ, **(env or {})})
        self.client: BlockingKernelClient = self._manager.client()
        self.client.start_channels()
        self._wait_until_it_listens()
        self._displays: dict[str, dict[str, Any]] = {}
        self.cells: dict[str, Ran] = {}
        self.comms: list[dict[str, Any]] = []
        """What was said on comms, oldest first."""
        self.answers: list[str] = []
        """What the user types when asked."""

    def _wait_until_it_listens(self) -> None:
        """Ask it until its answer comes on both channels; `wait_for_ready` waits longer, for silence."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            assert time.monotonic() < deadline, "the kernel did not start"
            assert self._manager.is_alive(), "the kernel ended as it started"
            asked = self.client.kernel_info()
            with contextlib.suppress(queue.Empty):
                self.client.shell_channel.get_msg(timeout=1)
                while (said := self.client.iopub_channel.get_msg(timeout=0.2))[
                    "msg_type"
                ] != "status" or (
                    said["parent_header"].get("msg_id"),
                    said["content"]["execution_state"],
                ) != (asked, "idle"):
                    pass
                return

    @property
    def pid(self) -> int:
        return self._manager.provisioner.pid

    def send(self, code: str, *, cell: str | None = None, watched: bool = True) -> str:
        content = {
            "code": code, "silent": False, "store_history": True, "user_expressions": {},
            "allow_stdin": watched, "stop_on_error": True,
        }  # fmt: skip
        metadata = {"cellId": cell} if cell else {}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        self.cells[message["header"]["msg_id"]] = Ran()
        return message["header"]["msg_id"]

    def wait(self, sent: str, timeout: float = TIMEOUT) -> Ran:
        """Wait until the cell's reply and its idle are there."""
        ran = self.cells[sent]
        heard = [self.client.iopub_channel.socket, self.client.shell_channel.socket]
        deadline = time.monotonic() + timeout
        while not (ran.idle and ran.reply):
            assert time.monotonic() < deadline, f"the cell did not end: {ran}"
            zmq.select(heard, [], [], 0.05)
            self.pump(0)
            self.take_replies()
            self.take_questions()
        ran.status = ran.reply["status"]
        return ran

    def run(self, code: str, **how: Any) -> Ran:
        while (ran := self.wait(self.send(code, **how))).status == "aborted":
            pass  # ipykernel 6 drops a cell that comes within a moment after one that failed
        return ran

    def fails_under_time(self) -> bool:
        """Whether `%time` lets an error fail its cell, which IPython before 9.4 only shows."""
        return self.run("%time 1 / 0").status == "error"

    def value(self, expression: str) -> Any:
        """The value of an expression that JSON can carry."""
        ran = self.run(f"import json as _json; print(_json.dumps({expression}))")
        assert ran.status == "ok", ran.error
        return json.loads(ran.stdout)

    def tell(self, comm: str, content: dict[str, Any], buffers: list[bytes] | None = None) -> None:
        """Send a widget a message, as its page does."""
        data = {"method": "custom", "content": content}
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        self.client.session.send(self.client.shell_channel.socket, message, buffers=buffers or [])

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def close(self) -> None:
        self.client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._ended.close()

    def wait_for(self, condition: Any, timeout: float = 20) -> None:
        """Take messages until `condition()` holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it never came to be"
            self.pump(0.02)

    def take_replies(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                reply = self.client.shell_channel.get_msg(timeout=0)
                parent = reply["parent_header"].get("msg_id")
                if parent in self.cells:
                    self.cells[parent].reply = reply["content"]

    def take_questions(self) -> None:
        if self.answers and self.client.stdin_channel.msg_ready():
            self.client.stdin_channel.get_msg(timeout=1)
            self.client.input(self.answers.pop(0))

    def pump(self, timeout: float) -> None:
        """Take what is there on iopub, waiting for the first of it."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._take(self.client.iopub_channel.get_msg(timeout=timeout))
                timeout = 0

    def _take(self, message: dict[str, Any]) -> None:
        parent = message["parent_header"].get("msg_id")
        content = message["content"]
        ran = self.cells.get(parent)
        if ran is not None:
            ran.messages.append(message)
        match message["msg_type"]:
            case "status" if ran is not None:
                ran.idle = content["execution_state"] == "idle"
            case "comm_open" | "comm_msg":
                self.comms.append(content)
            case "stream" if ran is not None:
                ran.stdout += content["text"]
            case "display_data" | "execute_result" if ran is not None:
                output = {"data": content["data"], "metadata": content["metadata"]}
                ran.outputs.append(output)
                if display_id := content.get("transient", {}).get("display_id"):
                    self._displays[display_id] = output
            case "update_display_data":
                output = self._displays[content["transient"]["display_id"]]
                output.update(data=content["data"], metadata=content["metadata"])
