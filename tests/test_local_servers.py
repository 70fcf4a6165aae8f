"""Servers that run on this machine: what is found, what is left alone, and how long it takes."""

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import ipychat
from ipychat import config
from ipychat.catalog import offers, ranking, resolve
from ipychat.local import servers
from ipychat.local.servers import Server
from ipychat.messages import ModelId
from ipychat.providers.presets import PRESETS
from tests.loopback import FIN, HANG, Service, answer, byte_by_byte, chunk, head
from tests.protocols import ONLINE, OPENAI

OLLAMA = ONLINE[-1]
ELSEWHERE = "http://192.0.2.1:11434"
"""An address of nobody's: https://www.rfc-editor.org/rfc/rfc5737"""
SOON = 1.5
"""Seconds within which a search with a limit of 0.3 is over, on busy cores too."""
PATIENT = 30
"""A limit that no test waits for: what ends before it ended by itself."""
USUAL = dict(servers.PORTS)
DJANGO = b"<!doctype html><title>The install worked successfully! Congratulations!</title>"


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch):
    """Nothing is asked but what a test puts up, and nothing remembered of an earlier one."""
    monkeypatch.setenv("OLLAMA_HOST", ELSEWHERE)
    for name in os.environ:
        if name.startswith("JUPYTERHUB_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(servers, "PORTS", {})
    monkeypatch.setattr(servers, "_last", None)


@pytest.fixture
def start(monkeypatch):
    """Start a server where one usually listens that `provider` asks."""
    running = []

    def start(provider, **scripts):
        service = Service()
        running.append(service)
        for path, script in scripts.items():
            service.on("/" + path.replace("_", "/"), script)
        if provider == "ollama":
            monkeypatch.setenv("OLLAMA_HOST", service.url)
        else:
            monkeypatch.setitem(servers.PORTS, service.port, provider)
        return service

    yield start
    for service in running:
        service.close()


def says(value, **how):
    return answer(json.dumps(value).encode(), content_type="application/json", **how)


def tags(*rows):
    """What Ollama says it has."""
    return says({"models": [{"name": row} if isinstance(row, str) else row for row in rows]})


def listed(*rows, owner=None, **how):
    """A list of models in OpenAI's form."""
    named = [{"id": row, "owned_by": owner} if isinstance(row, str) else row for row in rows]
    return says({"object": "list", "data": named}, **how)


def only(found):
    assert len(found) == 1, found
    return found[0]


# -- what each says


def test_ollama_is_found_where_its_variable_says_with_its_models_in_its_own_order(start):
    service = start("ollama", api_tags=tags("qwen3:8b", "llama3.2:latest"))
    models = ("qwen3:8b", "llama3.2:latest")
    assert servers.find(PATIENT) == [Server("Ollama", "ollama", service.url, models, None)]
    assert [(one.method, one.path) for one in service.requests] == [("GET", "/api/tags")]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:{}", "localhost:{}", ":{}", "0.0.0.0:{}", "http://localhost:{}/", " '127.0.0.1:{}' "]
)  # fmt: skip
def test_ollamas_variable_is_read_in_the_forms_that_ollama_reads(start, monkeypatch, host):
    service = start("ollama", api_tags=tags("m"))
    monkeypatch.setenv("OLLAMA_HOST", host.format(service.port))
    assert only(servers.find(PATIENT)).root == service.url


def test_ollama_behind_a_path_is_asked_there(start, monkeypatch):
    service = start("ollama", behind_api_tags=tags("m"))
    monkeypatch.setenv("OLLAMA_HOST", f"{service.url}/behind")
    assert only(servers.find(PATIENT)).root == f"{service.url}/behind"


def test_ollama_is_asked_at_the_address_in_the_configuration(start, monkeypatch):
    service = start("ollama", api_tags=tags("m"))
    monkeypatch.setenv("OLLAMA_HOST", ELSEWHERE)
    config.use(config.Config(urls={"ollama": service.url}))
    assert only(servers.find(PATIENT)).root == service.url


@pytest.mark.parametrize(
    "host", ["https://127.0.0.1:{}", "http://me:secret@127.0.0.1:{}", "http://[::1"]
)
def test_ollama_is_left_alone_where_it_wants_more_than_a_plain_question(start, monkeypatch, host):
    service = start("ollama", api_tags=tags("m"))
    monkeypatch.setenv("OLLAMA_HOST", host.format(service.port))
    assert servers.find() == []
    assert service.requests == []


def test_ollama_on_another_machine_is_not_looked_for_on_this_one():
    assert servers._places() == {}


def test_ollama_without_a_variable_is_looked_for_at_its_own_port(monkeypatch):
    monkeypatch.delenv("OLLAMA_HOST")
    assert servers._places() == {"http://127.0.0.1:11434": "ollama"}


def test_ollamas_models_that_run_elsewhere_or_answer_no_chats_are_left_out(start):
    start(
        "ollama",
        api_tags=tags(
            "gpt-oss:120b-cloud",
            "minimax-m2:cloud",
            {"name": "mine", "remote_host": "https://ollama.com:443"},
            {"name": "paraphrase-multilingual", "details": {"family": "bert"}},
            "nomic-embed-text:latest",
            "qwen3-embedding:4b",
            "bge-m3:latest",
            {"name": "gemma3:4b", "remote_host": "", "details": {"family": "gemma3"}},
        ),
    )
    assert only(servers.find(PATIENT)).models == ("gemma3:4b",)


def test_an_ollama_that_has_no_model_of_its_own_says_why_it_is_not_used(start):
    start("ollama", api_tags=tags("gpt-oss:120b-cloud"))
    server = only(servers.find(PATIENT))
    assert (server.models, server.why_not) == ((), servers.NO_MODEL)


def test_llama_cpp_in_ollamas_place_is_not_taken_for_ollama(start):
    script = says({"models": [{"name": "m"}], "object": "list", "data": []}, Server="llama.cpp")
    service = start("ollama", api_tags=script)
    assert servers.find(PATIENT) == []
    assert service.asked("/api/tags")


def test_ollama_in_anothers_place_is_asked_once_and_as_ollama(start, monkeypatch):
    service = start("ollama", api_tags=tags("m"), v1_models=listed("m", owner="library"))
    monkeypatch.setitem(servers.PORTS, service.port, "llamacpp")
    assert only(servers.find(PATIENT)).product == "Ollama"
    assert [one.path for one in service.requests] == ["/api/tags"]


def test_lm_studios_loaded_model_comes_first_and_its_embeddings_not_at_all(start):
    rows = [
        {"id": "big", "type": "llm", "state": "not-loaded"},
        {"id": "vectors", "type": "embeddings", "state": "loaded"},
        {"id": "small", "type": "vlm", "state": "loaded"},
    ]
    service = start("lmstudio", api_v0_models=listed(*rows))
    assert servers.find(PATIENT) == [
        Server("LM Studio", "lmstudio", f"{service.url}/v1", ("small", "big"), None)
    ]


def test_an_lm_studio_without_a_list_of_its_own_is_asked_for_openais(start):
    nothing = says({"error": "Unexpected endpoint or method. (GET /api/v0/models)"})
    service = start(
        "lmstudio", api_v0_models=nothing, v1_models=listed("m", owner="organization_owner")
    )
    assert servers.find(PATIENT) == [
        Server(servers.UNNAMED, "lmstudio", f"{service.url}/v1", ("m",), None)
    ]


def test_a_page_in_place_of_lm_studios_list_does_not_hide_the_other_list(start):
    page = answer(DJANGO, content_type="text/html")
    start("lmstudio", api_v0_models=page, v1_models=listed("m"))
    assert only(servers.find(PATIENT)).models == ("m",)


@pytest.mark.parametrize(
    ("script", "product", "provider"),
    [
        (listed("m", owner="llamacpp"), "llama.cpp", "llamacpp"),
        (listed("m", Server="llama.cpp"), "llama.cpp", "llamacpp"),
        (listed("m", owner="vllm", Server="uvicorn"), "vLLM", "vllm"),
        (listed("m"), servers.UNNAMED, "llamacpp"),
        (
            listed("m", {"id": "n", "owned_by": "llamacpp"}, owner="vllm"),
            servers.UNNAMED,
            "llamacpp",
        ),
    ],
    ids=["by its models", "by its header", "vLLM", "LocalAI", "others' models"],
)
def test_a_server_is_called_what_its_answer_says_and_not_what_its_port_does(
    start, script, product, provider
):
    service = start("llamacpp", v1_models=script)
    server = only(servers.find(PATIENT))
    assert (server.product, server.provider) == (product, provider)
    assert server.root == f"{service.url}/v1"
    assert server.why_not is None


def test_llama_cpps_loaded_model_comes_first(start):
    rows = [
        {"id": "a", "owned_by": "llamacpp", "status": {"value": "unloaded"}},
        {"id": "b", "owned_by": "llamacpp", "status": {"value": "loaded"}},
    ]
    start("llamacpp", v1_models=listed(*rows))
    assert only(servers.find(PATIENT)).models == ("b", "a")


def test_models_of_localai_that_answer_no_chats_are_left_out(start):
    names = [
        "gpt-4",
        "jina-reranker-v1",
        "stablediffusion",
        "text-embedding-ada-002",
        "tts-1",
        "whisper-1",
    ]
    start("llamacpp", v1_models=listed(*names))
    assert only(servers.find(PATIENT)).models == ("gpt-4",)


def test_models_that_jan_has_from_elsewhere_are_left_out(start):
    far = {"id": "claude-sonnet", "owned_by": "remote"}
    start("llamacpp", v1_models=listed(far, "jan-v3-4b", owner="llama.cpp"))
    assert only(servers.find(PATIENT)).models == ("jan-v3-4b",)


@pytest.mark.parametrize(
    ("script", "product"),
    [
        (answer(b"Invalid or missing authorization token", status=401), "Jan"),
        (answer(b"Missing authorization header", status=401), "Jan"),
        (says({"error": {"message": "An LM Studio API token is required"}}, status=401), "LM Studio"),
        (says({"error": "Unauthorized"}, status=401), servers.UNNAMED),
        (says({"error": {"code": 401, "message": "An authentication key is required"}}, status=401), servers.UNNAMED),
    ],
    ids=["Jan", "an older Jan", "LM Studio", "vLLM", "LocalAI"],
)  # fmt: skip
def test_a_server_that_wants_a_key_is_found_and_says_so(start, monkeypatch, script, product):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-a-key-of-the-tests")
    service = start("vllm", v1_models=script)
    assert servers.find(PATIENT) == [
        Server(product, "vllm", f"{service.url}/v1", (), servers.NEEDS_KEY)
    ]
    assert all("Authorization" not in request.headers for request in service.requests)


def test_a_llama_cpp_that_shows_its_models_but_wants_a_key_says_so(start):
    refusal = says({"error": {"message": "Invalid API Key", "code": 401}}, status=401)
    start("llamacpp", v1_models=listed("m", owner="llamacpp"), props=refusal)
    server = only(servers.find(PATIENT))
    assert (server.models, server.why_not) == (("m",), servers.NEEDS_KEY)


def test_servers_come_in_the_order_of_preference(start):
    start("vllm", v1_models=listed("v", owner="vllm"))
    start("llamacpp", v1_models=listed("l", owner="llamacpp"))
    start("ollama", api_tags=tags("o"))
    assert [one.provider for one in servers.find(PATIENT)] == ["ollama", "vllm", "llamacpp"]


def test_the_usual_ports_are_those_of_the_presets():
    assert sorted(USUAL) == [1234, 1337, 8000, 8080]
    for port in (1234, 8000, 8080):
        assert PRESETS[USUAL[port]].base_url.endswith(f":{port}/v1")


# -- what is no server of models


OTHER_FORMS = {
    "a page": answer(DJANGO, content_type="text/html"),
    "a page that isn't there": answer(b"<h1>Not Found</h1>", status=404),
    "JupyterHub": answer(b"<h1>403 : Forbidden</h1>", status=403, content_type="text/html"),
    "Django's refusal": says({"detail": "Authentication credentials were not given."}, status=401),
    "an empty refusal": answer(b"", status=401),
    "a server that is loading": says({"error": {"message": "Loading model"}}, status=503),
    "a list within an error": listed("m", status=500),
    "Django's list": says({"count": 1, "next": None, "results": [{"id": "m"}]}),
    "a list of cars": says({"data": [{"id": "a car"}]}),
    "numbers for names": says({"object": "list", "data": [{"id": 1}]}),
    "names without rows": says({"object": "list", "data": ["m"]}),
    "one row": says({"object": "list", "data": {"id": "m"}}),
    "rows and nothing": says({"object": "list", "data": [{"id": "m"}, None]}),
    "Ollama's list": says({"models": [{"name": "m"}]}),
    "rows alone": says([{"id": "m"}]),
    "null": says(None),
    "no text": answer(b"\xff\xfe\x00"),
    "too deep": answer(b"[" * 200_000),
    "too large a number": answer(b"9" * 10_000),
    "another protocol": [b"SSH-2.0-OpenSSH_9.6\r\n", FIN],
    "half an answer": [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", FIN],
    "no answer": [FIN],
}


@pytest.mark.parametrize("script", OTHER_FORMS.values(), ids=OTHER_FORMS)
def test_what_answers_in_another_form_is_no_server(start, script):
    service = start("vllm", v1_models=script)
    assert servers.find(PATIENT) == []
    assert service.asked("/v1/models")


@pytest.mark.parametrize(
    "value",
    [{"models": "m"}, {"models": [{"id": "m"}]}, {"models": [{"name": 1}]}, {"models": None}, []],
)
def test_what_answers_in_another_form_is_no_ollama(start, value):
    service = start("ollama", api_tags=says(value))
    assert servers.find(PATIENT) == []
    assert service.asked("/api/tags")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(start, service, status):
    service.on("/v1/models", listed("m"))
    there = f"{service.url}/v1/models"
    start("vllm", v1_models=answer(b"", status=status, Location=there))
    assert servers.find(PATIENT) == []
    assert service.requests == []


def test_a_proxy_in_the_environment_or_the_configuration_sees_nothing(start, proxy, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    config.use(config.Config(proxy=proxy.url))
    start("ollama", api_tags=tags("m"))
    start("vllm", v1_models=listed("m"))
    assert len(servers.find(PATIENT)) == 2
    assert proxy.seen == []


# -- what takes too long or says too much


def seconds(look, *arguments):
    begun = time.monotonic()
    return look(*arguments), time.monotonic() - begun


def test_whatever_hangs_or_drips_is_given_up_in_time_and_the_others_are_found(start, monkeypatch):
    start("lmstudio", api_v0_models=[HANG])
    start("vllm", v1_models=[head(200, "application/json"), HANG])
    slowly = byte_by_byte(json.dumps({"object": "list", "data": [{"id": "m"}]}).encode())
    start("vllm", v1_models=[step for piece in slowly for step in (piece, 0.05)])
    start("vllm", v1_models=[b"H", *itertools.chain(*[(0.05, b"T")] * 2000)])
    start("vllm", v1_models=listed("there"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setitem(servers.PORTS, silent.getsockname()[1], "vllm")
        before = set(threading.enumerate())
        found, took = seconds(servers.find)
        assert took < SOON
        assert only(found).models == ("there",)
        for thread in set(threading.enumerate()) - before:
            assert thread.daemon
            thread.join(10)  # none is left behind
            assert not thread.is_alive()


def test_a_slow_answer_is_found_by_who_has_the_time(start):
    slowly = byte_by_byte(json.dumps({"object": "list", "data": [{"id": "m"}]}).encode())
    start("vllm", v1_models=[step for piece in slowly for step in (piece, 0.01)])
    assert only(servers.find(PATIENT)).models == ("m",)


def test_a_connection_that_stays_open_after_its_answer_keeps_no_one_waiting(start):
    body = b'{"object": "list", "data": [{"id": "m"}]}'
    whole = head(chunked=False, headers={"Content-Length": str(len(body))}) + body
    service = start("vllm", v1_models=[whole, HANG])
    found, took = seconds(servers.find, PATIENT)
    assert only(found).models == ("m",)
    assert took < PATIENT / 2
    assert service.requests[0].headers["Connection"] == "close"


ENDLESS = {
    "a body": [head(chunked=False), *[b" " * 65536] * 4096],
    "a body in chunks": [head(), *[chunk(b" " * 65536)] * 4096],
    "headers": [b"HTTP/1.1 200 OK\r\n", *[b"X-Header: " + b"x" * 60_000 + b"\r\n"] * 4096],
    "a header": [b"HTTP/1.1 200 OK\r\nX-Header: ", *[b"x" * 65536] * 4096],
    "answers to come": [b"HTTP/1.1 100 Continue\r\n\r\n" * 2048] * 4096,
    "a promise": [head(chunked=False, headers={"Content-Length": str(1 << 30)}), b"{}", FIN],
    "a chunk's promise": [head(), b"40000000\r\n{}", FIN],
}


@pytest.mark.heavy
@pytest.mark.parametrize("script", ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_is_left_early_and_takes_little_memory(start, script):
    start("vllm", v1_models=script)
    limit = 1 if script is ENDLESS["answers to come"] else PATIENT  # the client waits for the last
    tracemalloc.start()
    try:
        found, took = seconds(servers.find, limit)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024 * 1024  # the decoy's own included
    finally:
        tracemalloc.stop()
    assert found == []
    assert took < PATIENT / 2


def test_of_five_thousand_models_the_first_ones_are_kept(start):
    names = [f"a-model-with-an-ordinary-name-{number}" for number in range(5000)]
    details = {"created": 1700000000, "object": "model", "root": "/models/" + "x" * 300}
    start("vllm", v1_models=listed(*({"id": name, **details} for name in names)))
    assert only(servers.find(PATIENT)).models == tuple(names[: servers.MAX_MODELS])


def test_names_lose_what_a_terminal_would_act_on_and_are_neither_empty_nor_endless(start):
    hostile = "\x1b[31mred\x07\r\n\tand\u202e more\ud800"
    start("ollama", api_tags=tags(hostile, "", " \x00", "x" * 201, "x" * 200, "twice", "twice"))
    models = only(servers.find(PATIENT)).models
    assert models == ("[31mred and more\ufffd", "x" * 200, "twice")


def test_a_servers_header_gets_nowhere(start):
    start("vllm", v1_models=listed("m", owner="\x1b[2J", Server="a server of \x1b[31mmine"))
    assert "\x1b" not in repr(only(servers.find(PATIENT)))
    assert only(servers.find(PATIENT)).product == servers.UNNAMED


# -- whose it is


@pytest.fixture
def listeners(tmp_path, monkeypatch):
    """Say who listens: rows of a port, a state and a user, as Linux's tables have them."""

    def say(*rows, table="tcp"):
        lines = [
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid"
        ]
        for number, (port, state, user) in enumerate(rows):
            lines.append(
                f"{number:4}: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 "
                f"00:00000000 00000000 {user:5}        0 4242 1 0000000000000000 100 0 0 10 0"
            )
        (tmp_path / table).write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(servers, "SOCKET_TABLES", (tmp_path / "tcp", tmp_path / "tcp6"))
    return say


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says who listens")
OWN = os.getuid() if hasattr(os, "getuid") else 0
OTHER = OWN + 4242


@linux
@pytest.mark.parametrize("user", [OWN, 0, 998, 61184, 65519])
def test_a_server_of_ones_own_or_the_systems_may_be_used(start, listeners, user):
    service = start("vllm", v1_models=listed("m"))
    listeners((service.port, "0A", user), (service.port, "01", OTHER), (1, "0A", OTHER))
    assert only(servers.find(PATIENT)).why_not is None


@linux
def test_a_server_of_ones_own_may_be_used_by_who_is_not_root(start, listeners, monkeypatch):
    service = start("vllm", v1_models=listed("m"))
    listeners((service.port, "0A", OTHER))
    assert only(servers.find(PATIENT)).why_not == servers.NOT_OURS
    monkeypatch.setattr(os, "getuid", lambda: OTHER)
    assert only(servers.find(PATIENT)).why_not is None


@linux
@pytest.mark.parametrize("table", ["tcp", "tcp6"])
def test_where_another_user_listens_too_nothing_is_used_unasked(start, listeners, table):
    service = start("vllm", v1_models=listed("m"))
    listeners((service.port, "0A", 0))
    listeners((service.port, "0A", 0), (service.port, "0A", OTHER), table=table)
    server = only(servers.find(PATIENT))
    assert (server.models, server.why_not) == (("m",), servers.NOT_OURS)


@linux
def test_a_server_whose_owner_is_not_to_be_seen_is_not_used_unasked(start, listeners):
    start("vllm", v1_models=listed("m"))
    assert only(servers.find(PATIENT)).why_not == servers.NOT_OURS


@linux
def test_linux_says_that_the_tests_own_server_is_ones_own(start):
    start("vllm", v1_models=listed("m"))
    assert only(servers.find(PATIENT)).why_not is None


@linux
@pytest.mark.skipif(OWN != 0, reason="only root can give a socket to another user")
def test_linux_says_that_another_users_server_is_not_ones_own(start):
    service = start("vllm", v1_models=listed("m"))
    for site in service._runner.sites:
        for listener in site._server.sockets:
            os.fchown(listener.fileno(), OTHER, -1)
    assert only(servers.find(PATIENT)).why_not == servers.NOT_OURS


@pytest.mark.parametrize("name", ["JUPYTERHUB_API_TOKEN", "JUPYTERHUB_USER"])
def test_under_jupyterhub_nothing_is_used_unasked(start, monkeypatch, name):
    monkeypatch.setenv(name, "x")
    start("ollama", api_tags=tags("m"))
    server = only(servers.find(PATIENT))
    assert (server.models, server.why_not) == (("m",), servers.ON_JUPYTERHUB)


# -- the other loopback


class OverIPv6(HTTPServer):
    address_family = socket.AF_INET6


class Tags(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked = self.path
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"models": [{"name": "m"}]}')

    def log_message(self, *_):
        pass


@pytest.fixture
def over_ipv6():
    try:
        server = OverIPv6(("::1", 0), Tags)
    except OSError:
        pytest.skip("this machine has no IPv6")
    server.asked = None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_who_listens_on_ipv6_only_is_not_asked(over_ipv6, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f"localhost:{over_ipv6.server_port}")
    monkeypatch.setitem(servers.PORTS, over_ipv6.server_port, "vllm")
    assert servers.find() == []
    assert over_ipv6.asked is None


def test_ollama_is_asked_on_ipv6_where_its_variable_says_so(over_ipv6, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", f"[::1]:{over_ipv6.server_port}")
    assert only(servers.find(PATIENT)).root == f"http://[::1]:{over_ipv6.server_port}"


# -- what is remembered


def test_what_was_found_is_known_until_it_is_too_old(start, monkeypatch):
    service = start("ollama", api_tags=tags("m"))
    assert not servers.is_fresh()
    servers.find(PATIENT).clear()  # a list of the caller's own
    assert only(servers.known()).models == ("m",)
    assert servers.is_fresh()
    assert len(service.requests) == 1
    monkeypatch.setattr(servers, "MAX_AGE", -1)
    assert not servers.is_fresh()


def test_the_list_of_models_looks_for_them_once_in_half_a_minute(start, found_without_asking):
    service = start("ollama", api_tags=tags("m"))
    assert only(offers.look_for_servers()).models == ("m",)
    assert only(offers.look_for_servers()).models == ("m",)
    assert len(service.requests) == 1


def test_whoever_looks_anew_renews_what_is_known(start):
    service = start("ollama", api_tags=tags("m"))
    servers.find(PATIENT)
    service.on("/api/tags", tags("new"))
    servers.find(PATIENT)
    assert only(servers.known()).models == ("new",)
    assert len(service.requests) == 2


def test_that_there_is_none_is_known_as_well(start):
    service = start("vllm", v1_models=answer(DJANGO))
    assert servers.find(PATIENT) == servers.known() == []
    assert len(service.requests) == 1


@pytest.mark.heavy
def test_knowing_of_servers_imports_no_http_client():
    code = "import sys; from ipychat.local import servers; servers.known(); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"aiohttp", "requests", "urllib3"}.isdisjoint(run.stdout.split())


# -- who answers where nothing is named


@pytest.fixture
def found_without_asking(monkeypatch):
    """The user has not forbidden it, and has no key."""
    monkeypatch.delenv("IPYCHAT_SERVERS")
    for search in (servers.find, servers.look):  # the limit has tests of its own
        monkeypatch.setattr(search, "__defaults__", (PATIENT,))


def default() -> ModelId:
    """Who answers the first question where nothing is named."""
    with asyncio.Runner() as runner:
        runner.run(resolve.ready())
    return resolve.resolve()


def completions(text):
    return answer(*OPENAI.pieces(text))


async def test_a_server_that_runs_answers_where_no_model_is_named(
    start, found_without_asking, sessions
):
    service = start("llamacpp", v1_models=listed("qwen3", owner="llamacpp"))
    service.on("/v1/chat/completions", completions("from here"))
    reply = await ipychat.ask("Hi")
    assert (reply.text, str(reply.model)) == ("from here", "llamacpp:qwen3")
    assert resolve.default().announced == f"llama.cpp runs at {service.url}/v1"


async def test_a_key_goes_before_a_server(start, found_without_asking, monkeypatch):
    service = start("llamacpp", v1_models=listed("qwen3", owner="llamacpp"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-a-key-of-the-tests")
    await resolve.ready()
    assert resolve.resolve().provider == "anthropic"
    assert not service.requests, "it is not even looked for"


@pytest.mark.parametrize("why", ["forbidden", "jupyterhub", "another address of the user's"])
def test_a_server_is_not_used_unasked(start, found_without_asking, monkeypatch, why):
    service = start("llamacpp", v1_models=listed("qwen3", owner="llamacpp"))
    if why == "forbidden":
        monkeypatch.setenv("IPYCHAT_SERVERS", "off")
    elif why == "jupyterhub":
        monkeypatch.setenv("JUPYTERHUB_USER", "me")
    else:
        config.use(config.Config(urls={"llamacpp": "http://192.0.2.1/v1"}))
        assert default().provider == "llamacpp", "it is named, and asked where the user says"
        return
    assert default().provider == "helper"
    assert bool(service.requests) == (why == "jupyterhub")


def test_the_setup_lists_what_runs_and_why_it_is_not_used(start, found_without_asking, monkeypatch):
    ollama = start("ollama", api_tags=tags("qwen3", "llama4"))
    keyed = start("llamacpp", v1_models=answer(b'{"error": {"message": "key"}}', status=401))
    told = {one.name: one.state for one in offers.found() if one.kind == "server"}
    assert told["Ollama"].startswith(f"qwen3, 1 more, at {ollama.url}")
    assert told[servers.UNNAMED] == (
        f"no model, at {keyed.url}/v1; not used unasked: it needs a key"
    )


async def test_the_list_of_models_says_where_they_are(start, found_without_asking, sessions):
    found = start("vllm", v1_models=listed("qwen3", owner="llamacpp"))  # not where it usually is
    await resolve.ready()
    assert "llamacpp" in {one.provider for one in offers.servers()}
    await offers.refresh()
    [offer] = ranking.models("llamacpp:qwen3")
    assert offer.state == f"ready at {found.url}/v1"
    assert f"ready at {found.url}/v1" in repr(ranking.models("llamacpp:qwen3"))


def test_a_cell_announces_the_server_that_it_found(kernel, monkeypatch):
    service = Service()
    service.on("/api/tags", tags("qwen3"))
    service.on("/api/chat", answer(*OLLAMA.pieces("from here"), content_type=OLLAMA.content_type))
    OLLAMA.prepare(service)
    notebook = kernel(
        OLLAMA_HOST=service.url, IPYCHAT_SERVERS="", IPYCHAT_MODEL="", OPENAI_API_KEY=""
    )
    html = notebook.run("%chat Hi").shown("text/html")
    service.close()
    assert f"ollama:qwen3 · Ollama runs at {service.url}" in html
