"""A Dask cluster as an executor: its workers get the shares, and keys by a separate way.

Arguments of tasks are part of the scheduler's graph, and its dashboard may show them. So keys are
removed from the shares. A plugin, which the scheduler sends as bytes to each worker, also to new
ones, keeps them in the worker's memory during the run.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from ipychat import requirements
from ipychat.errors import MissingRequirementsError, UnreachableError

TIMEOUT = "10s"
"""Time for a scheduler to answer."""

_held: dict[str, Mapping[str, Any]] = {}
"""In a worker: secret options, by run."""


def held(run: str) -> Mapping[str, Any]:
    """Return the secret options of a run, if this worker has them."""
    return _held.get(run, {})


def hold(run: str, options: Mapping[str, Any]) -> None:
    """Store the secret options of a run."""
    _held[run] = options


def forget(run: str) -> None:
    """Delete the secret options of a run."""
    _held.pop(run, None)


def _plugin(run: str, options: Mapping[str, Any]) -> Any:
    from distributed import WorkerPlugin

    class Keys(WorkerPlugin):
        """Carries the secret options of a run; its repr shows none."""

        name = run

        def __init__(self) -> None:
            self._options = dict(options)

        def __repr__(self) -> str:
            return "<Keys>"

        def setup(self, worker: Any) -> None:  # noqa: ARG002 - Dask's parameter
            from ipychat.batch import cluster  # noqa: PLW0406 - the worker's own module, not a copy

            cluster.hold(run, self._options)

        def teardown(self, worker: Any) -> None:  # noqa: ARG002 - Dask's parameter
            from ipychat.batch import cluster  # noqa: PLW0406 - as above

            cluster.forget(run)

    return Keys()


class Cluster(Executor):
    """The workers of the cluster at an address, for one run."""

    def __init__(self, address: str, run: str, secret_options: Mapping[str, Any]) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise MissingRequirementsError(
                f"A Dask cluster needs the package distributed: {requirements.install('dask')}"
            ) from None
        connect: Any = Client  # which is untyped
        try:
            # on a loop of its own: on the kernel's, a cell that blocks would stall the cluster
            self._client: Any = connect(address, set_as_default=False, timeout=TIMEOUT)
        except (OSError, ValueError, TimeoutError):
            raise UnreachableError(f"No Dask scheduler answers at {address}.") from None
        self._run = run
        self._client.register_plugin(_plugin(run, secret_options))
        self._max_workers = max(sum(self._client.nthreads().values()), 1)

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        """Run `work` on a worker; if that worker dies, on another."""
        back: Future[Any] = Future()
        back.set_running_or_notify_cancel()
        key = f"ipychat-{uuid.uuid4().hex}"
        sent: Any = self._client.submit(work, *given, **named, key=key, pure=False)

        def done(sent: Any) -> None:
            try:
                back.set_result(sent.result())
            except BaseException as error:  # noqa: BLE001 - reported to the caller
                back.set_exception(error)
            finally:
                sent.release()

        sent.add_done_callback(done)
        return back

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - Executor's signature
        """Delete the keys from the workers, and disconnect from the cluster."""
        with contextlib.suppress(Exception):  # it may have gone
            self._client.unregister_worker_plugin(self._run)
        self._client.close()
