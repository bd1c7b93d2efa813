"""docs/howto/expose-the-validator.md: its application stands what strangers put into a request."""

import io
import json
from pathlib import Path

import pytest

from resilience_kit.config import ValidationResult

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "expose-the-validator.md"
SHAPE = set(ValidationResult(is_valid=False).to_dict())


class Body(io.BytesIO):
    """A request's body that notes how much of it is asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.asked = []

    def read(self, size=-1):
        self.asked.append(size)
        return super().read(size)


@pytest.fixture
def ask():
    """Send a request to the page's application; gives the status, the answer, the headers and what was read."""
    program = {}
    exec(PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0], program)

    def send(content=b"{}", method="POST", client="203.0.113.7", **request):
        told, body = [], Body(content)
        given = {"REQUEST_METHOD": method, "REMOTE_ADDR": client, "CONTENT_LENGTH": str(len(content)), "wsgi.input": body}
        (answer,) = program["application"](given | request, lambda *status: told.append(status))
        ((status, headers),) = told
        return status, json.loads(answer), dict(headers), body.asked

    return send


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("000000000100000000", "413 Content Too Large"),
        ("9" * 5000, "413 Content Too Large"),
        ("4097", "413 Content Too Large"),
        (" 5", "400 Bad Request"),
        ("-1", "400 Bad Request"),
        ("5.0", "400 Bad Request"),
        ("\u0665", "400 Bad Request"),
        ("\u00b2", "400 Bad Request"),
        ("", "400 Bad Request"),
        (None, "400 Bad Request"),
    ],
)
def test_a_strange_length_is_refused_unread(ask, length, status):
    """In the shape of every other answer."""
    found, answer, _headers, read = ask(b"x" * 10_000, CONTENT_LENGTH=length)
    assert (status, SHAPE, False, []) == (found, set(answer), answer["is_valid"], read)


@pytest.mark.parametrize(("length", "read"), [("0", 0), ("00022", 22), ("4096", 4096), ("0" * 5000 + "22", 22)])
def test_no_more_is_read_than_was_announced(ask, length, read):
    """Zeros before a number are allowed."""
    status, answer, _headers, asked = ask(b'{"retry_attempts": 4}\n' + b" " * 5000, CONTENT_LENGTH=length)
    assert ([read], bool(read), SHAPE) == (asked, status == "200 OK", set(answer))


def test_a_client_that_asks_too_often_is_not_read(ask):
    """It is told when to come again."""
    ask()
    status, answer, headers, read = ask()
    assert ("429 Too Many Requests", SHAPE, True, []) == (status, set(answer), int(headers["Retry-After"]) >= 1, read)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "HEAD", "post"])
def test_only_post_validates(ask, method):
    """GET gives the schema."""
    status, answer, headers, read = ask(method=method)
    assert ("405 Method Not Allowed", SHAPE, "GET, POST", []) == (status, set(answer), headers["Allow"], read)
    assert "properties" in ask(method="GET")[1]
