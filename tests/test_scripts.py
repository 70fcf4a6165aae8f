"""Scripts outside of any notebook: they leave nothing open, and say nothing that nobody asked for.

Each runs as its user would start it, with every warning an error and in Python's development mode.
"""

import os
import ssl
import subprocess
import sys
import textwrap

import pytest

from tests.loopback import END, HANG, Service, chunk, head
from tests.protocols import OPENAI

pytestmark = pytest.mark.heavy

PATH = OPENAI.path
KEPT_OPEN = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def kept_open(*pieces: bytes) -> list:
    """An answer after which the connection waits for the next question, as services do it."""
    return [KEPT_OPEN, *map(chunk, pieces), END, HANG]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """The files of a certificate for this machine, and of its key."""
    folder = tmp_path_factory.mktemp("certificate")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-days", "1",
         "-out", files[0], "-keyout", files[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


@pytest.fixture(params=["http", "https"])
def asked(request, certificate):
    """A service that keeps its connections open, in the clear and with TLS."""
    context = None
    if request.param == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    service = Service(context)
    service.on(PATH, kept_open(*OPENAI.pieces("Hello ", "world")))
    yield service
    service.close()


@pytest.fixture
def run(asked, certificate, tmp_path):
    def run(script: str, *options: str) -> tuple[str, str]:
        """What a script says, and what else stands on its stderr."""
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(script))
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-X", "dev", *options, path],
            env=os.environ | {
                **asked.env,
                "SSL_CERT_FILE": str(certificate[0]),
            },
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        # asyncio's word on slow steps depends on what else runs here; another test has the imports
        noise = [line for line in ran.stderr.splitlines() if not line.startswith("Executing <")]
        return ran.stdout.strip(), "\n".join(noise)

    return run


def test_an_answer_leaves_nothing_open(run):
    assert run("""
        import asyncio, ipychat
        print(asyncio.run(ipychat.ask("hi")))
    """) == ("Hello world", "")


def test_several_at_once_leave_nothing_open(run, asked):
    def together(_):
        """Answer when all have asked: a connection that one leaves open hears no second one."""
        while len(asked.asked(PATH)) < 4:
            yield 0.01
        yield from kept_open(*OPENAI.pieces("Hello ", "world"))

    asked.on(PATH, together)
    assert run("""
        import asyncio, ipychat

        async def main():
            return await asyncio.gather(*(ipychat.ask(f"hi {n}") for n in range(4)))

        print(*asyncio.run(main()), sep=", ")
    """) == (", ".join(["Hello world"] * 4), "")


@pytest.mark.parametrize("kept", ["", "kept.append(answer)"])
def test_a_stream_that_is_left_early_leaves_nothing_open(run, asked, kept):
    asked.on(PATH, [KEPT_OPEN, chunk(OPENAI.text("Hello ")), HANG])
    assert run(f"""
        import asyncio, ipychat
        kept = []

        async def main():
            answer = ipychat.stream("hi")
            {kept}
            async for text in answer:
                print(text)
                break

        asyncio.run(main())
    """) == ("Hello", "")
    assert asked.asked(PATH)[0].gone.wait(5)


def test_a_question_that_nobody_waits_for_leaves_nothing_open(run, asked):
    asked.on(PATH, [KEPT_OPEN, chunk(OPENAI.text("Hello ")), HANG])
    assert run("""
        import asyncio, ipychat

        async def main():
            came = asyncio.Event()

            async def ask():
                async for text in ipychat.stream("hi"):
                    came.set()

            task = asyncio.create_task(ask())
            await came.wait()

        asyncio.run(main())
    """) == ("", "")


def test_an_answer_whose_service_hangs_up_leaves_nothing_open(run, asked):
    asked.on(PATH, [head(), *map(chunk, OPENAI.pieces("Hello ", "world")), END, HANG])
    assert run("""
        import asyncio, ipychat
        print(asyncio.run(ipychat.ask("hi")))
    """) == ("Hello world", "")


def test_a_provider_that_is_asked_directly_leaves_nothing_open(run):
    assert run("""
        import asyncio
        from ipychat.providers import OpenAI

        async def main():
            asked = [{"role": "user", "content": "hi"}]
            async for piece in OpenAI.create_async_generator("m", asked):
                if hasattr(piece, "text"):
                    print(piece.text, end="")

        asyncio.run(main())
    """) == ("Hello world", "")


def test_each_loop_has_connections_of_its_own_and_closes_them(run):
    assert run("""
        import asyncio, ipychat
        from ipychat.wire import http

        for _ in range(2):
            print(asyncio.run(ipychat.ask("hi")))
        with asyncio.Runner() as runner:
            print(runner.run(ipychat.ask("hi")))
        print(len(http._clients))
    """) == ("\n".join(["Hello world"] * 3 + ["0"]), "")


def test_a_loop_that_is_shut_down_by_hand_leaves_nothing_open(run):
    assert run("""
        import asyncio, ipychat

        loop = asyncio.new_event_loop()
        print(loop.run_until_complete(ipychat.ask("hi")))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """) == ("Hello world", "")


@pytest.mark.parametrize("end", ["loop.close()", ""])
def test_a_loop_that_is_never_shut_down_has_nothing_of_ours_on_stderr(run, end):
    # what Python itself finds unclosed there is the script's own, and shown by `-X dev` alone
    assert run(f"""
        import asyncio, gc, ipychat, warnings
        warnings.simplefilter("ignore", ResourceWarning)

        for _ in range(2):
            loop = asyncio.new_event_loop()
            print(loop.run_until_complete(ipychat.ask("hi")))
            {end}
    """) == ("Hello world\nHello world", "")


def test_what_takes_long_to_import_is_imported_outside_the_loop(run):
    shown, noise = run("""
        import asyncio, ipychat, sys, threading

        class Witness:
            @staticmethod
            def find_spec(name, *_):
                if name in {"aiohttp", "bs4"}:
                    print(name, threading.current_thread() is threading.main_thread())

        sys.meta_path.insert(0, Witness)
        print(asyncio.run(ipychat.ask("hi")))
    """)
    assert shown == "aiohttp False\nHello world"
    assert not noise


def test_a_first_cell_imports_outside_the_loop_too(notebook, service):
    service.on(PATH, OPENAI.whole("Hello"))
    notebook.run(
        "import sys, threading\n"
        "seen = {}\n"
        "class Witness:\n"
        "    @staticmethod\n"
        "    def find_spec(name, *_):\n"
        "        seen[name] = threading.current_thread() is threading.main_thread()\n"
        "sys.meta_path.insert(0, Witness)"
    )
    assert notebook.run("%%chat\nhi").status == "ok"
    imported = notebook.value("[seen[name] for name in ('aiohttp', 'ipychat.chat.conversations')]")
    assert imported == [False, False]
