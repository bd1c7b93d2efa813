"""Requests of the JSON clients: address, headers, idempotency key and whether they may be repeated."""

from __future__ import annotations

import dataclasses
import functools
import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from resilience_kit._redaction import is_secret_name
from resilience_kit.classification.safe_access import attribute
from resilience_kit.context import remaining_time, request_key
from resilience_kit.errors import REDACTED, ConfigurationError
from resilience_kit.http.client_options import SCHEMES, ClientOptions
from resilience_kit.http.credentials import host_of, model_named
from resilience_kit.http.errors import RequestInfo
from resilience_kit.http.event_reader import EVENT_STREAM
from resilience_kit.http.excerpts import secrets_of
from resilience_kit.http.headers import header_names, with_headers
from resilience_kit.http.methods import SAFE_METHODS
from resilience_kit.http.timeouts import limit_timeout

_BODIES: Final = ("content", "data", "files")
_REPLAYABLE_TYPES: Final = (str, bytes, bytearray, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """One request, the same for all of its attempts.

    `retry_safe`: it may be sent again although the service may have carried it out. `replayable`: its body can be sent again.
    """

    method: str
    url: str
    kwargs: Mapping[str, Any]
    info: RequestInfo
    retry_safe: bool
    replayable: bool

    @property
    def model(self) -> str:
        """The model that the request names in its path or its JSON; empty without one."""
        return model_named(str(self.url), self.kwargs.get("json"))


class RequestBuilder:
    """Builds the requests of one client from its options. Thread-safe.

    `host`: the host of `base_url`, for requests whose URL names none.
    """

    def __init__(self, options: ClientOptions, owner: str) -> None:
        self._options, self._owner = options, owner
        self.host = host_of(str(options.base_url or attribute(options.client, "base_url") or ""))

    def prepare(self, client: Any, method: str, url: Any, kwargs: Mapping[str, Any]) -> PreparedRequest:
        """Return the request, with an idempotency key if it may be retried."""
        self._check_origin(client, url, kwargs)
        kwargs = self._with_client_headers(client, kwargs) if self._options.client is not None else kwargs
        replayable = _is_replayable(kwargs)
        safe = method.upper() in SAFE_METHODS
        if not safe and replayable and self._retries_enabled:
            kwargs = self._with_key(method, url, kwargs)
        base, headers = str(self._options.base_url or ""), self._options.headers
        secrets = functools.partial(secrets_of, base, headers, url, kwargs, self._options.client)
        info = RequestInfo(method.upper(), host_of(str(url)) or self.host, secrets)
        retry_safe = safe or self._has_key(kwargs)
        return PreparedRequest(method, self._full_url(client, url), kwargs, info, retry_safe, replayable)

    def _check_origin(self, client: Any, url: Any, kwargs: Mapping[str, Any]) -> None:
        if not str(url).lower().startswith(SCHEMES):
            return  # most are paths, which need no check
        base, client_headers = self._options.base_url or attribute(client, "base_url"), attribute(client, "headers")
        names = (*(self._options.headers or ()), *(client_headers if isinstance(client_headers, Mapping) else ()))
        check_origin(self._owner, str(base or ""), str(url), kwargs, names)

    @property
    def _retries_enabled(self) -> bool:
        retry = self._options.retry_config
        return retry is not None and retry.max_attempts > 1

    def _with_client_headers(self, client: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add the headers of the options that a given client lacks."""
        client_headers, own_headers = attribute(client, "headers"), self._options.headers
        if not own_headers or not isinstance(client_headers, Mapping):
            return kwargs
        missing = {name: value for name, value in own_headers.items() if client_headers.get(name) != value}
        return with_headers(kwargs, missing) if missing else kwargs

    def _full_url(self, client: Any, url: Any) -> Any:
        """Return the URL below `base_url`, if a given client has no base URL or another one."""
        base = self._options.base_url
        if self._options.client is None or not base or str(url).lower().startswith(SCHEMES):
            return url
        client_base_url = str(attribute(client, "base_url")).rstrip("/")
        has_other = client_base_url.lower().startswith(SCHEMES) and client_base_url != str(base).rstrip("/")
        return join_url(str(base), str(url)) if not client_base_url or has_other else url

    def _with_key(self, method: str, url: Any, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Add an idempotency key; inside a call or a job it is derived from the outer key and the request."""
        name = self._options.idempotency_header
        if name is None or self._has_key(kwargs):
            return kwargs
        parts = (kwargs[part] for part in (*_BODIES, "json", "params") if part in kwargs)
        key = request_key(method.upper().encode(), f"{self._options.base_url} {url}".encode(), *map(_encode_part, parts))
        return with_headers(kwargs, {name: str(uuid.uuid4()) if key is None else key})

    def _has_key(self, kwargs: Mapping[str, Any]) -> bool:
        name = self._options.idempotency_header
        return name is not None and name.lower() in header_names(kwargs.get("headers"))

    def for_event_stream(self, prepared: PreparedRequest) -> PreparedRequest:
        """Return the same request for a stream of events."""
        if "accept" in header_names(prepared.kwargs.get("headers")):
            return prepared
        return dataclasses.replace(prepared, kwargs=with_headers(prepared.kwargs, {"Accept": EVENT_STREAM}))

    def with_timeout(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return `kwargs` with a timeout that ends no later than the deadline of the call, if it has one."""
        remaining = remaining_time()
        timeout = kwargs.get("timeout", self._options.timeout)
        if remaining is None or not (timeout is None or isinstance(timeout, int | float)):
            return kwargs
        return {**kwargs, "timeout": limit_timeout(timeout, remaining)}


def check_origin(  # noqa: PLR0913 - one request
    owner: str, base: str, url: str, kwargs: Mapping[str, Any], names: Iterable[str], credentials: Iterable[str] = ()
) -> None:
    """Raise `ConfigurationError` if headers with a credential would be sent to another origin than that of `base`.

    `names`: of headers that are added to those of `kwargs`; `credentials`: those of them that hold one whatever their name.
    """
    if not base or not url.lower().startswith(SCHEMES) or _origin(url) == _origin(base):
        return
    replaced, sure = header_names(kwargs.get("headers")), {name.lower() for name in credentials}
    if any((is_secret_name(name) or name.lower() in sure) and name.lower() not in replaced for name in names):
        rule = "must have the scheme, host and port of base_url, whose credential is in the headers; use another client for it"
        raise ConfigurationError([(f"{owner}.url", rule, REDACTED)])


def _origin(url: str) -> tuple[str, str]:
    return url[:5].lower().rstrip(":"), host_of(url)


def join_url(base: str, url: str) -> str:
    """Join a path to a base URL as httpx does: it is below the path of the base, with or without a leading slash."""
    return f"{base.rstrip('/')}/{url.lstrip('/')}" if url else base


def _encode_part(value: object) -> bytes:
    """Encode a part of a request; equal for equal data in each process."""
    try:
        return json.dumps(value, default=repr).encode()
    except (TypeError, ValueError, RecursionError):
        return repr(value).encode(errors="replace")


def _is_replayable(kwargs: Mapping[str, Any]) -> bool:
    """Return whether every part of the body can be sent again."""
    return all(_is_replayable_value(kwargs.get(name)) for name in _BODIES)


def _is_replayable_value(value: object) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_replayable_value, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_replayable_value, value))
    return isinstance(value, _REPLAYABLE_TYPES)
