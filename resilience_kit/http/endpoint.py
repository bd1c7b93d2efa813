"""Endpoints as data: address, method, headers and the variable that holds the key. Called by an `AsyncAPIClient`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from types import TracebackType
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from resilience_kit._checks import Checks, did_you_mean
from resilience_kit._redaction import is_secret_name
from resilience_kit.classification.safe_access import attribute
from resilience_kit.config.redaction import redact_value
from resilience_kit.errors import REDACTED, ConfigurationError, Violation
from resilience_kit.http.async_client import AsyncAPIClient
from resilience_kit.http.client_options import SCHEMES, check_base_url
from resilience_kit.http.headers import check_headers, is_header_name, with_headers
from resilience_kit.http.prepared_request import check_origin
from resilience_kit.http.sse import ServerSentEvent
from resilience_kit.policies.retry import RetryConfig

_REFERENCE: Final = "env:"
_BEARER: Final = "authorization"
_METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
#: What a request may hold: its method and address, and what httpx's clients take with them.
_REQUEST_FIELDS: Final = (
    "method",
    "url",
    "params",
    "headers",
    "json",
    "data",
    "content",
    "files",
    "cookies",
    "auth",
    "timeout",
    "follow_redirects",
    "extensions",
)
_RULES: Final[Mapping[str, str]] = {
    "provider": "must be a name, such as 'openai'",
    "endpoint": "must be a path below base_url, or a whole URL that begins with http:// or https://; "
    "a credential belongs into api_key",
    "transport_type": "must be 'http'",
    "base_url": "must begin with http:// or https:// and name a host, as in https://api.example.com/v1; "
    "a credential belongs into api_key",
    "method": f"must be one of {', '.join(_METHODS)}",
    "timeout": "must be a finite number of seconds above 0, or None for no limit",
    "headers": "must map names to texts without line breaks; for a header with a credential the text is 'env:NAME OF A VARIABLE'",
    "params": "must map names to texts, numbers, True or False; a credential belongs into api_key",
    "api_key": "must name the variable that holds the key, as in 'env:OPENAI_API_KEY'; the key itself does not belong here",
    "api_key_header": "must be the name of a header",
}
#: Names of query parameters that carry a credential. Others, such as `max_tokens` and `page_token`, only sound like it.
_CREDENTIALS: Final = frozenset({"key", "api_key", "apikey", "token", "access_token", "auth", "password", "secret", "sig"})
#: Fields whose wrong values are repeated.
_UNREDACTED_FIELDS: Final = frozenset({"transport_type", "method", "timeout"})


def _validate_base_url(text: str) -> str:
    checks = Checks("EndpointConfig")
    check_base_url(checks, text, optional=False)
    checks.raise_if_any()
    return _without_credential(text)


def _validate_path(text: str) -> str:
    if "://" in text and not text.lower().startswith(SCHEMES):
        raise ValueError
    return _without_credential(text)


def _without_credential(url: str) -> str:
    """Raise ValueError for a URL with a credential, since events and logs name the endpoint by it."""
    parts = urlsplit(url)
    if parts.username is not None or any(_is_credential(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError
    return url


def _is_credential(name: str) -> bool:
    return name.lower().replace("-", "_") in _CREDENTIALS


def _validate_reference(text: str) -> str:
    if not _is_reference(text):
        raise ValueError
    return text


def _is_reference(text: str) -> bool:
    return text.startswith(_REFERENCE) and len(text) > len(_REFERENCE) and text.isprintable()


def _validate_headers(headers: dict[str, str]) -> dict[str, str]:
    checks = Checks("EndpointConfig")
    check_headers(checks, headers)
    checks.raise_if_any()
    if any(is_secret_name(name) and not _is_reference(value) for name, value in headers.items()):
        raise ValueError
    return headers


def _validate_params(params: dict[str, Any]) -> dict[str, Any]:
    if any(map(_is_credential, params)):
        raise ValueError
    return params


def _validate_header_name(name: str) -> str:
    if not is_header_name(name):
        raise ValueError
    return name


Name = Annotated[str, Field(min_length=1, max_length=200)]


class EndpointConfig(BaseModel):
    """One endpoint of a service. Immutable; holds no secret, so it may be stored and shown.

    `provider`: who serves it, for events and errors. `endpoint`: its path below `base_url`, or a whole URL. `transport_type`: how
    it is reached. `base_url`: scheme and host, and the path that `endpoint` is below; to be left out only where the endpoint is
    given a client that has one. `method`: used unless a call names another. `timeout`: seconds for each step of a request; None:
    for ever. `headers`, `params`: sent with every request, below those of the call; a header's value `env:NAME` is read from the
    environment. `api_key`: `env:NAME`, the variable that holds the key. `api_key_header`: the header it goes into, in
    `Authorization` as a bearer token.

    Raises `ConfigurationError` that lists every wrong field; unknown ones are wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    provider: Name
    endpoint: Annotated[str, Field(max_length=2000), AfterValidator(_validate_path)]
    transport_type: Literal["http"] = "http"
    base_url: Annotated[str, AfterValidator(_validate_base_url)] | None = None
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] = "POST"
    timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 10.0
    headers: Annotated[dict[str, str], AfterValidator(_validate_headers)] = {}
    params: Annotated[dict[str, str | int | float | bool], AfterValidator(_validate_params)] = {}
    api_key: Annotated[str, AfterValidator(_validate_reference)] | None = None
    api_key_header: Annotated[str, AfterValidator(_validate_header_name)] = "Authorization"

    def __init__(self, /, **fields: Any) -> None:
        with _as_configuration_error():
            super().__init__(**fields)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """See pydantic; raises `ConfigurationError`."""
        with _as_configuration_error():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """See pydantic; raises `ConfigurationError`."""
        with _as_configuration_error():
            return super().model_validate_json(json_data, **options)

    def secrets(self) -> dict[str, str]:
        """Return the headers with the present values of the environment. Raises `ConfigurationError` for an unset variable."""
        found = {name: _read_variable(name, value) if _is_reference(value) else value for name, value in self.headers.items()}
        if self.api_key is not None:
            key = _read_variable("api_key", self.api_key)
            found[self.api_key_header] = f"Bearer {key}" if self.api_key_header.lower() == _BEARER else key
        return found


@contextlib.contextmanager
def _as_configuration_error() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        found = _violations(error)
        raise ConfigurationError(found) from None


def _violations(error: ValidationError) -> list[Violation]:
    """Return one violation for each field, without the words of pydantic."""
    found: dict[str, Violation] = {}
    for each in error.errors(include_url=False):
        cause = each.get("ctx", {}).get("error")
        if isinstance(cause, ConfigurationError) and not each["loc"]:  # of the constructor, within `model_validate`
            return list(cause.errors)
        field = str(each["loc"][0]) if each["loc"] else ""
        found.setdefault(field, _violation(field, each["type"], each["input"]))
    return list(found.values())


def _violation(field: str, kind: str, value: object) -> Violation:
    path = f"EndpointConfig.{field}"
    if field not in _RULES:
        location = path if redact_value(field) is field else "EndpointConfig"
        return Violation(location, "is not a field" + did_you_mean(field, _RULES), REDACTED)
    if kind == "missing":
        return Violation(path, f"is required: it {_RULES[field]}", REDACTED)
    return Violation(path, _RULES[field], redact_value(value) if field in _UNREDACTED_FIELDS else REDACTED)


def _read_variable(field: str, reference: str) -> str:
    name = reference.removeprefix(_REFERENCE)
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigurationError([(f"EndpointConfig.{field}", f"needs the variable {name!r}, which is not set", REDACTED)])
    return value


class Endpoint:
    """Calls one endpoint. An async context manager; for one event loop at a time, shared by any number of its tasks.

    `client`: an `AsyncAPIClient`, or whatever one takes as its client; it stays open. `circuit_breaker` and `retry_config` are
    those of `AsyncAPIClient`.
    """

    def __init__(
        self,
        config: EndpointConfig,
        client: Any = None,
        circuit_breaker: Any = None,
        retry_config: RetryConfig | None = None,
    ) -> None:
        checks = Checks("Endpoint")
        checks.instance("config", config, EndpointConfig)
        checks.raise_if_any()
        base_url = config.endpoint if config.endpoint.lower().startswith(SCHEMES) else config.base_url
        if client is None and base_url is None:
            rule = "must be given where endpoint is no whole URL and there is no client that has one"
            raise ConfigurationError([("EndpointConfig.base_url", rule, None)])
        self.config = config
        self._origin = str(base_url or attribute(client, "base_url") or "")
        self._client = AsyncAPIClient(
            base_url,
            timeout=config.timeout,
            client=client,
            circuit_breaker=circuit_breaker,
            retry_config=retry_config,
            name=f"{config.provider} {config.endpoint}",
        )

    async def call(self, request: Mapping[str, Any] | None = None) -> Any:
        """Return the parsed JSON of the response.

        `request` may hold `method`, `url` (instead of the endpoint) and what httpx takes: `params`, `json`, `headers`, ... Other
        names are a `ConfigurationError`. See `AsyncAPIClient` for the other errors.
        """
        method, url, kwargs = self._prepare(request or {})
        return await self._client.request(method, url, **kwargs)

    def stream(self, request: Mapping[str, Any] | None = None) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of a stream; see `AsyncAPIClient.stream`."""
        method, url, kwargs = self._prepare(request or {})
        return self._client.stream(method, url, **kwargs)

    def _prepare(self, request: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
        _check_request_fields(request)
        kwargs = {name: value for name, value in request.items() if name not in ("method", "url")}
        if secrets := self.config.secrets():
            own_key = () if self.config.api_key is None else (self.config.api_key_header,)
            check_origin("Endpoint.call", self._origin, request.get("url", ""), kwargs, secrets, own_key)
            kwargs = with_headers(kwargs, secrets)
        if self.config.params:
            kwargs["params"] = _with_params(kwargs.get("params"), self.config.params)
        return request.get("method", self.config.method).upper(), request.get("url", self.config.endpoint), kwargs

    async def close(self) -> None:
        """Close the connections, unless the client was given."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Endpoint {self.config.provider!r}>"


def _with_params(call_params: Any, default_params: Mapping[str, Any]) -> Any:
    if call_params is None or isinstance(call_params, Mapping):
        return {**default_params, **(call_params or {})}
    pairs = parse_qsl(call_params, keep_blank_values=True) if isinstance(call_params, str) else list(call_params)
    names = {name for name, _ in pairs}
    return [*((name, value) for name, value in default_params.items() if name not in names), *pairs]


def _check_request_fields(request: Mapping[str, Any]) -> None:
    checks = Checks("Endpoint.call")
    for name in request:
        if name not in _REQUEST_FIELDS:
            checks.add(
                str(name),
                f"is no part of a request{did_you_mean(name, _REQUEST_FIELDS)}; a payload belongs under 'json'",
                REDACTED,
            )
    if not isinstance(request.get("method", ""), str) or not isinstance(request.get("url", ""), str):
        checks.add("method", "must be text, and so must url", REDACTED)
    checks.raise_if_any()
