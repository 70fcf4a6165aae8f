"""Known secrets are masked everywhere; errors are short."""

import base64
import html
import json
import logging
import re
import threading
import timeit
from urllib.parse import quote, quote_plus

import pytest

from ipychat import errors, secrets

SECRET = "a-very-secret/value+1"


@pytest.fixture(autouse=True)
def _known():
    secrets.register(SECRET)


@pytest.fixture
def fresh(monkeypatch):
    """Nothing is known, for once."""
    for name in ("_known", "_in_bytes", "_in_urls", "_looked_at"):
        monkeypatch.setattr(secrets, name, {})


@pytest.mark.parametrize(
    "text",
    [SECRET, f"x{SECRET}y", "a-very-secret%2Fvalue%2B1", f"{SECRET}{SECRET}"],
)
def test_a_secret_is_masked_as_it_is_and_as_urls_write_it(text):
    assert SECRET not in secrets.mask(text)
    assert "very" not in secrets.mask(text)


def test_a_secret_inside_another_is_masked_whole():
    secrets.register("abcdefghijkl")
    secrets.register("abcdefghijkl-and-more")
    assert secrets.mask("abcdefghijkl-and-more") == secrets.MASK


def test_a_secret_with_quotes_is_masked_inside_json():
    secrets.register('pass"word\\with')
    assert secrets.mask(r'{"p": "pass\"word\\with"}') == '{"p": "•••"}'


def test_short_texts_are_not_registered():
    secrets.register("short")
    assert secrets.mask("short") == "short"


def test_the_password_of_an_address_is_registered():
    secrets.register_url("http://user:proxy%20password@host:1")
    masked = secrets.mask("proxy%20password, proxy password")
    assert masked == f"{secrets.MASK}, {secrets.MASK}"


def test_errors_mask_in_their_text_and_repr_and_rendering():
    error = errors.ServerError(f"see {SECRET}")
    for shown in (str(error), repr(error), "".join(error._render_traceback_())):
        assert SECRET not in shown
        assert secrets.MASK in shown


def test_log_lines_are_masked_with_their_arguments(caplog):
    with caplog.at_level(logging.INFO, "ipychat"):
        secrets.log.info("token %s of %s", SECRET, "x")
    assert caplog.messages == [f"token {secrets.MASK} of x"]


def test_an_error_shows_as_at_most_five_lines_of_bounded_length():
    lines = errors.UsageError("\n".join(["x" * 9999] * 99))._render_traceback_()
    assert len(lines) == 5
    assert max(map(len, lines)) < 600
    assert lines[0].startswith("UsageError: x")
    assert errors.UsageError("")._render_traceback_() == ["UsageError: "]


def test_of_a_text_that_is_written_once_not_one_character_of_a_secret_is_settled():
    secrets.register(secret := "canary-of-a-text-that-grows")
    for size in range(1, len(secret)):
        assert secrets.settled(f"It is {secret[:size]}", spare=0) == len("It is ")
    assert secrets.settled(f"It is {secret}.", spare=0) == len(f"It is {secret}.")


def test_a_whole_secret_is_not_cut_where_its_end_could_begin_another():
    secrets.register(secret := "canary-with-the-end-sk")
    secrets.register("sk-which-begins-as-that-ends")
    assert secrets.settled(f"It is {secret}", spare=0) == len("It is ")


ODD = "tok/en+with=é \"all\" 'that' <is> & \\ escaped%"
PLAIN = "canary-0123456789-ABCDEF"
WAYS = {
    "a URL": quote,
    "a URL's part": lambda it: quote(it, safe=""),
    "a URL in small letters": lambda it: re.sub("%..", lambda at: at[0].lower(), quote(it)),
    "a form": quote_plus,
    "JavaScript": lambda it: quote(it, safe="!'()*"),
    "JSON": lambda it: json.dumps({"a": it}),
    "JSON as it is read": lambda it: json.dumps({"a": it}, ensure_ascii=False),
    "JSON with escaped slashes": lambda it: json.dumps({"a": it}).replace("/", r"\/"),
    "JSON in JSON": lambda it: json.dumps(json.dumps([it])),
    "a page's JSON": lambda it: re.sub("[<>&']", lambda at: f"\\u{ord(at[0]):04x}", json.dumps(it)),
    "repr": lambda it: repr([it]),
    "repr with quotes": lambda it: repr(f"\"'{it}"),
    "repr of JSON": lambda it: repr(json.dumps(it)),
    "repr of bytes": lambda it: repr(it.encode()),
    "HTML": html.escape,
    "HTML's text": lambda it: html.escape(it, quote=False),
    "JSON in HTML": lambda it: html.escape(json.dumps(it)),
    "base64": lambda it: base64.b64encode(it.encode()).decode(),
    "a login in base64": lambda it: base64.b64encode(f"me:{it}".encode()).decode(),
    "the third place of base64": lambda it: base64.b64encode(f"ab{it}c".encode()).decode(),
    "base64 for URLs": lambda it: base64.urlsafe_b64encode(it.encode()).decode(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", [ODD, PLAIN, SECRET])
def test_a_secret_is_masked_however_it_is_written(secret, way, fresh):
    secrets.register(secret, "odd")
    written = WAYS[way](secret)
    masked = secrets.mask(f"before {written} behind")
    assert masked.startswith("before ")
    assert masked.endswith(" behind")
    assert secrets.MASK in masked
    assert len(masked) < len("before ") + len(" behind") + 20
    assert "odd" in secrets.names_in(written)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_bytes_stay_as_long_as_they_were(encoding, fresh):
    secrets.register(PLAIN, "plain")
    data = b"\x89PNG\1" + PLAIN.encode(encoding) + b"\1\xff"
    masked = secrets.mask_bytes(data)
    assert masked == data[:5] + b"*" * len(PLAIN.encode(encoding)) + data[-2:]
    assert secrets.names_in(data) == {"plain"}
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    for given in (url, url.replace("base64", "BASE64"), url[:40] + "\r\n" + url[40:] + "\n"):
        assert secrets.names_in(given) == {"plain"}
        [was] = secrets.masked([given])
        assert len(was) == len(url)
        left = base64.b64decode(was.partition(",")[2], validate=True)
        assert PLAIN.encode(encoding)[2:-2] not in left
        assert (left[:5], left[-2:]) == (data[:5], data[-2:])


def test_a_text_that_begins_as_a_data_url_keeps_its_lines():
    secrets.register(PLAIN)
    text = f"data:image/png;base64,AAAA is it?\nmy key is {PLAIN}"
    assert secrets.masked(text) == text.replace(PLAIN, secrets.MASK)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("X_API_KEY", PLAIN, PLAIN),
        ("X_API_KEY", f" {PLAIN}\n", PLAIN),
        ("DB_PASS", PLAIN, PLAIN),
        ("SSH_PASSPHRASE", PLAIN, PLAIN),
        ("MYSQL_PWD", PLAIN, PLAIN),
        ("GITHUB_PAT", PLAIN, PLAIN),
        ("REDIS_AUTH", PLAIN, PLAIN),
        ("AUTHORIZATION", f"Bearer {PLAIN}", PLAIN),
        ("SECRET_KEY", "/wJalrXUtnFEMI2K7MDENG+bPxRfiCYzEXzMPLEz=", "/wJalrXUtnFEMI2K7MDENG+bPxRfiCYzEXzMPLEz="),
        ("ANY", f"postgres://me:{PLAIN}@host/db", PLAIN),
        ("ANY", f"https://{PLAIN}@host/x.git", PLAIN),
        ("ANY", f"https://host/x?a=b&api_key={PLAIN}&c=d", PLAIN),
        ("ANY", f"Host=x;AccountKey={PLAIN}==;b=c", f"{PLAIN}=="),
        ("SERVICE_CREDENTIALS", json.dumps({"type": "x", "private_key": PLAIN}), PLAIN),
    ],
)  # fmt: skip
def test_what_the_environment_holds_is_known_by_its_name(name, value, secret, fresh):
    secrets.register_environment({name: value})
    assert secrets.mask(f"it is {secret}, so") == f"it is {secrets.MASK}, so"
    assert secrets.names_in(secret) <= {name, "private_key"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KEY_FILE", "/etc/ssl/private/a.key"),
        ("SSH_AUTH_SOCK", "/tmp/ssh-1234567/agent.1"),
        ("KEYRING_DIR", "/Users/Someone1/Library/KeychainsOfMine"),
        ("TOKEN_PATH", "~/.config/service/token"),
        ("SECRET_HOME", r"C:\Users\me\secrets\here"),
        ("TOKENIZERS_PARALLELISM", "not of any length"),
        ("KEYBOARD", "a layout of its own"),
        ("GIT_AUTHOR_NAME", "Somebody Else Here"),
        ("PWD", "/Users/Someone1/Documents/Notebooks42"),
        ("MONKEYS", "a value of no secret"[:11]),
        ("COMPASS", "north by north-west"),
        ("PATTERN", "a pattern that repeats"),
        ("SOME_URL", "https://example.org/a/long/path"),
        ("PS1", "key=${not_a_secret_at_all}"),
    ],
)
def test_what_is_no_secret_is_left_alone(name, value, fresh):
    secrets.register_environment({name: value})
    assert secrets.mask(value) == value


def test_a_variable_that_is_named_needs_no_such_name(fresh):
    secrets.register_environment({"OF_MINE": "a phrase of mine"}, ["OF_MINE", "NOT_THERE"])
    assert secrets.mask("it is a phrase of mine") == "it is •••"


def test_a_variable_that_changes_is_looked_at_again(fresh):
    for secret in (PLAIN, "another-secret-of-now"):
        secrets.register_environment({"A_TOKEN": secret})
        assert secrets.mask(secret) == secrets.MASK


def test_the_lines_of_a_key_are_secrets_of_their_own(fresh):
    lines = [f"{n}{'aB3' * 20}" for n in range(5)]
    secrets.register("\n".join(["-----BEGIN KEY-----", *lines]), "the key")
    assert secrets.mask("\r\n".join(f"> {line}" for line in lines)) == "\r\n".join(["> •••"] * 5)
    assert secrets.mask("-----BEGIN KEY-----") == "-----BEGIN KEY-----"


def test_there_is_a_place_before_each_secret_that_a_cut_would_halve(fresh):
    secrets.register(PLAIN)
    secrets.register(f"ends-with-{PLAIN[:9]}")
    text = f"It is {PLAIN}."
    for cut in range(len(text) + 1):
        inside = 6 < cut < len(text) - 1
        assert secrets.whole_until(text, cut) == (6 if inside else cut)
    overlapping = f"It is ends-with-{PLAIN}."
    assert secrets.whole_until(overlapping, 30) == 6
    assert secrets.whole_until(PLAIN * 3, 99) == len(PLAIN) * 3
    assert secrets.whole_until("a" * 100_000 + PLAIN, 10) == 10


def test_secrets_may_be_registered_while_others_are_masked(fresh):
    ended = threading.Event()

    def register():
        for number in range(300):
            secrets.register(f"secret-number-{number:06}")
        ended.set()

    thread = threading.Thread(target=register)
    thread.start()
    while not ended.is_set():
        secrets.names_in(PLAIN)
        secrets.mask_bytes(PLAIN.encode())
        secrets.settled(PLAIN)
    thread.join()
    assert secrets.mask("secret-number-000299") == secrets.MASK


def test_a_streamed_piece_and_a_question_cost_next_to_nothing(fresh):
    environment = {f"VARIABLE_{n}": f"value of {n}" * 4 for n in range(100)}
    environment |= {f"SERVICE_{n}_KEY": f"{n:03}-{PLAIN}" for n in range(10)}
    secrets.register_environment(environment)
    for work, most in (
        (lambda: secrets.mask("a piece of text "), 50e-6),
        (lambda: secrets.settled("a piece of text " * 9), 200e-6),
        (lambda: secrets.register_environment(environment), 500e-6),
    ):
        assert min(timeit.repeat(work, number=20, repeat=5)) / 20 < most
