"""Known secrets are masked everywhere; errors are short."""

import logging

import pytest

from ipychat import errors, secrets

SECRET = "a-very-secret/value+1"


@pytest.fixture(autouse=True)
def _known():
    secrets.register(SECRET)


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
    secret = secrets.register("canary-of-a-text-that-grows")
    for size in range(1, len(secret)):
        assert secrets.settled(f"It is {secret[:size]}", spare=0) == len("It is ")
    assert secrets.settled(f"It is {secret}.", spare=0) == len(f"It is {secret}.")


def test_a_whole_secret_is_not_cut_where_its_end_could_begin_another():
    secret = secrets.register("canary-with-the-end-sk")
    secrets.register("sk-which-begins-as-that-ends")
    assert secrets.settled(f"It is {secret}", spare=0) == len("It is ")
