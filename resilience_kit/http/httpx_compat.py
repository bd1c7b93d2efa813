"""Access to the objects of httpx and httpx2, which are alike; neither library is imported here.

Both clients check with `isinstance` that a response's stream is one of their own, so the streams of this
package get the base class of the library that the response comes from, found in the MRO of its stream. The module of a class is
no help: SDKs rename it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import AsyncIterator, Iterator, MutableMapping
from types import FunctionType
from typing import Any, Protocol

from resilience_kit.errors import REDACTED, ConfigurationError

_SYNC, _ASYNC = "SyncByteStream", "AsyncByteStream"
#: By the name of a library's class, a method that it defines itself.
_DEFINING_METHODS = {"Request": "__init__", "BaseTransport": "handle_request", "AsyncBaseTransport": "handle_async_request"}
#: Connection limits of both official SDKs.
_MAX_CONNECTIONS, _MAX_KEEPALIVE = 1000, 100


Headers = dict[bytes, bytes]


class HTTPRequest(Protocol):
    """A request of either library."""

    method: str
    url: Any
    headers: MutableMapping[str, str]
    extensions: dict[str, Any]
    stream: Any


class HTTPResponse(Protocol):
    """A response of either library."""

    status_code: int
    headers: MutableMapping[str, str]
    stream: Any


def headers_of(message: HTTPRequest | HTTPResponse) -> Headers:
    """Return headers by lower-case name, as bytes. One look-up in the headers of the library costs as much as all of this."""
    raw: Any = message.headers
    return {name.lower(): value for name, value in raw.raw}


def decode_headers(headers: Headers) -> dict[str, str]:
    """Return the same headers as text."""
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}


class _Replay:
    """A body that has been read. What it was read from is closed."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


def replay(source: Any, body: bytes) -> Any:
    """Return a stream of the library of `source` that yields `body`."""
    return class_for(_Replay, source.__class__)(body)


@functools.lru_cache(maxsize=64)
def class_for(behaviour: Any, stream: Any) -> Any:
    """Return `behaviour` as a subclass of the stream classes of the library that `stream`, a class, belongs to."""
    bases = tuple(base for name in (_SYNC, _ASYNC) if (base := base_of(stream, name)) is not None)
    return type(behaviour.__name__.lstrip("_"), (behaviour, *bases), {})


@functools.lru_cache(maxsize=256)
def base_of(stream: Any, name: str) -> type | None:
    """Return the base class of a stream class in its library."""
    return next((cls for cls in stream.__mro__ if cls.__name__ == name), None)


def check_libraries(request: HTTPRequest, transport: Any) -> None:
    """Raise `ConfigurationError` if the client is of one library and the transport of the other.

    A transport derived from neither may serve both; its responses are checked by `check_same_library`.
    """
    expected, actual = _libraries_of(type(request)), _libraries_of(type(transport))
    if expected and actual and not expected & actual:
        raise _mixed_libraries()


def _libraries_of(cls: type) -> set[str]:
    """Return the libraries whose classes `cls` is derived from, by the module of their methods."""
    makers = (vars(base).get(_DEFINING_METHODS.get(base.__name__, "")) for base in cls.__mro__)
    return {str(maker.__globals__["__package__"]).partition(".")[0] for maker in makers if isinstance(maker, FunctionType)}


def check_same_library(request: HTTPRequest, stream: Any, *, asynchronous: bool) -> None:
    """Raise `ConfigurationError` if a client of one library got a response of the other."""
    name = _ASYNC if asynchronous else _SYNC
    expected, actual = base_of(request.stream.__class__, name), base_of(stream.__class__, name)
    if expected is not actual:
        raise _mixed_libraries()


def _mixed_libraries() -> ConfigurationError:
    rule = "must be of the client's own library: httpx2.HTTPTransport for an httpx2 client, httpx.HTTPTransport for httpx"
    return ConfigurationError([("ResilientTransport.transport", rule, REDACTED)])


def body_in_memory(request: HTTPRequest) -> bool:
    """Return whether the body of the request is in memory, so that it can be sent again."""
    try:
        _ = request.content  # type: ignore[attr-defined]  # a property of both libraries that raises where it is not
    except Exception:  # noqa: BLE001 - RequestNotRead of either library
        return False
    return True


def idempotency_parts(request: HTTPRequest, headers: Headers) -> tuple[bytes, ...]:
    """Return the parts of a request that identify it: method, URL and body, if that is in memory.

    The boundary between the parts of a form is random, so that it is left out.
    """
    body: bytes = request.content if body_in_memory(request) else b""  # type: ignore[attr-defined]  # see `body_in_memory`
    _, _, boundary = headers.get(b"content-type", b"").partition(b"boundary=")
    boundary = boundary.partition(b";")[0].strip(b'" ')
    return request.method.encode(), str(request.url).encode(), body.replace(boundary, b"") if boundary else body


def fits_buffer(request: HTTPRequest, limit: int) -> bool:
    """Return whether a body may be read into memory: it is there already, as after a redirect, or is short enough."""
    if base_of(request.stream.__class__, "ByteStream") is not None:
        return True
    length = request.headers.get("content-length", "")
    return length.isdecimal() and int(length) <= limit


def default_transport(request: HTTPRequest, *, asynchronous: bool) -> Any:
    """Create a transport of the library of the request, with its defaults and the connection limits of the official SDKs."""
    cls: Any = next((cls for cls in type(request).__mro__ if cls.__name__ == "Request"), None)
    if cls is None:
        rule = "must be given where a client is neither of httpx nor of httpx2"
        raise ConfigurationError([("ResilientTransport.transport", rule, REDACTED)])
    library = importlib.import_module(cls.__init__.__globals__["__package__"])
    limits = library.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_KEEPALIVE)
    return (library.AsyncHTTPTransport if asynchronous else library.HTTPTransport)(limits=limits)
