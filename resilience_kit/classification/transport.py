"""Exceptions that carry no answer of the service, by the name of their class.

Names, not classes: none of these libraries is imported, and SDKs rename the module of what they raise. `DISTINCT` names mean
the same in whatever module they stand; those in `LIBRARIES` only count in the libraries listed there, since `Timeout` or
`Conflict` may be anything elsewhere.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from resilience_kit.classification.verdicts import (
    AUTH,
    CONNECTION,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    ENDLESS_REDIRECT,
    GUARD_FULL,
    INVALID_REQUEST,
    LOCAL_CONNECTION,
    LOCAL_MEMORY,
    LOCAL_TIMEOUT,
    MISCONFIGURED_CONNECTION,
    NOT_FOUND,
    PERMISSION,
    TIMEOUT,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.classification.wording import Phrases
from resilience_kit.outcome import Verdict

DISTINCT = {
    "CancelledError": UNKNOWN,
    "KeyboardInterrupt": UNKNOWN,
    "SystemExit": UNKNOWN,
    "GeneratorExit": UNKNOWN,
    "MemoryError": LOCAL_MEMORY,
    "TimeoutError": TIMEOUT,
    "ConnectTimeout": TIMEOUT,
    "ReadTimeout": TIMEOUT,
    "WriteTimeout": TIMEOUT,
    "PoolTimeout": LOCAL_TIMEOUT,
    "TimeoutException": TIMEOUT,
    "ConnectTimeoutError": TIMEOUT,
    "ReadTimeoutError": TIMEOUT,
    "ServerTimeoutError": TIMEOUT,
    "APITimeoutError": TIMEOUT,
    "ConnectionTimeoutError": TIMEOUT,
    "SocketTimeoutError": TIMEOUT,
    "InferenceTimeoutError": TIMEOUT,
    "ConnectError": CONNECTION,
    "ReadError": CONNECTION,
    "WriteError": CONNECTION,
    "CloseError": CONNECTION,
    "RemoteProtocolError": CONNECTION,
    "ConnectionError": CONNECTION,
    "APIConnectionError": CONNECTION,
    "SSLCertVerificationError": MISCONFIGURED_CONNECTION,
    "CertificateError": MISCONFIGURED_CONNECTION,
    "SSLError": CONNECTION,
    "SSLEOFError": CONNECTION,
    "gaierror": CONNECTION,
    "herror": CONNECTION,
    "IncompleteReadError": CONNECTION,
    "IncompleteRead": CONNECTION,
    "RemoteDisconnected": CONNECTION,
    "ServerDisconnectedError": CONNECTION,
    "ClientPayloadError": CONNECTION,
    "ChunkedEncodingError": CONNECTION,
    "UnsupportedProtocol": INVALID_REQUEST,
    "LocalProtocolError": INVALID_REQUEST,
    "MissingSchema": INVALID_REQUEST,
    "InvalidSchema": INVALID_REQUEST,
    "TooManyRedirects": ENDLESS_REDIRECT,
    "JSONDecodeError": TRANSIENT,  # a body cut short, or a page where JSON should be: the service's fault
    "APIResponseValidationError": TRANSIENT,
    "ContentFilterFinishReasonError": CONTENT_FILTER,
    "LengthFinishReasonError": CONTEXT_LENGTH,
    "CircuitBreakerError": GUARD_FULL,
}

_HTTPX = {
    "ProtocolError": CONNECTION,
    "NetworkError": CONNECTION,
    "ProxyError": LOCAL_CONNECTION,  # a proxy is on the caller's side
    "TransportError": CONNECTION,
    "DecodingError": TRANSIENT,
    "InvalidURL": INVALID_REQUEST,
    "CookieConflict": UNKNOWN,
    "StreamError": UNKNOWN,
}
_REQUESTS = {
    "Timeout": TIMEOUT,
    "ProxyError": LOCAL_CONNECTION,
    "InvalidURL": INVALID_REQUEST,
    "InvalidProxyURL": INVALID_REQUEST,
    "InvalidHeader": INVALID_REQUEST,
    "ContentDecodingError": TRANSIENT,
}
_URLLIB = {
    "HTTPError": None,  # urllib's has a status, urllib3's is the base of all the others
    "MaxRetryError": CONNECTION,
    "NewConnectionError": CONNECTION,
    "NameResolutionError": CONNECTION,
    "ProxyError": LOCAL_CONNECTION,
    "ProtocolError": CONNECTION,
    "URLError": CONNECTION,
    "BadStatusLine": CONNECTION,
    "HTTPException": CONNECTION,
    "DecodeError": TRANSIENT,
    "LocationParseError": INVALID_REQUEST,
    "LocationValueError": INVALID_REQUEST,
    "InvalidURL": INVALID_REQUEST,
}
_AIOHTTP = {
    "ClientConnectorCertificateError": MISCONFIGURED_CONNECTION,
    "ClientSSLError": CONNECTION,
    "ClientConnectionError": CONNECTION,
    "ClientConnectorError": CONNECTION,
    "ClientConnectorDNSError": CONNECTION,
    "ClientConnectorSSLError": CONNECTION,
    "ClientOSError": CONNECTION,
    "ClientProxyConnectionError": LOCAL_CONNECTION,
    "ServerConnectionError": CONNECTION,
    "NonHttpUrlClientError": INVALID_REQUEST,
    "InvalidURL": INVALID_REQUEST,
}
_BOTOCORE = {
    "NoCredentialsError": AUTH,
    "PartialCredentialsError": AUTH,
    "CredentialRetrievalError": AUTH,
    "TokenRetrievalError": AUTH,
    "SSOError": AUTH,
    "NoAuthTokenError": AUTH,
    "EndpointConnectionError": CONNECTION,
    "ConnectionClosedError": CONNECTION,
    "ProxyConnectionError": LOCAL_CONNECTION,
    "ResponseStreamingError": CONNECTION,
    "IncompleteReadError": CONNECTION,
    "HTTPClientError": CONNECTION,
    "ParamValidationError": INVALID_REQUEST,
    "NoRegionError": INVALID_REQUEST,
    "InvalidRegionError": INVALID_REQUEST,
    "UnknownServiceError": INVALID_REQUEST,
}
_GOOGLE = {
    "DefaultCredentialsError": AUTH,
    "RefreshError": AUTH,
    "TransportError": CONNECTION,
    "BlockedPromptException": CONTENT_FILTER,
    "StopCandidateException": CONTENT_FILTER,
    "ResponseBlockedError": CONTENT_FILTER,
    "ResponseValidationError": CONTENT_FILTER,
}
_AZURE = {
    "ServiceRequestTimeoutError": TIMEOUT,
    "ServiceResponseTimeoutError": TIMEOUT,
    "ServiceRequestError": CONNECTION,
    "ServiceResponseError": CONNECTION,
    "CredentialUnavailableError": AUTH,
    "ClientAuthenticationError": AUTH,
}
_SOCKETS = {
    "InvalidStatus": None,  # has a response
    "InvalidStatusCode": None,
    "ConnectionClosed": CONNECTION,
    "ConnectionClosedError": CONNECTION,
    "ConnectionClosedOK": CONNECTION,
    "InvalidHandshake": CONNECTION,
    "InvalidURI": INVALID_REQUEST,
}
_STREAMS = {
    "BrokenResourceError": CONNECTION,
    "ClosedResourceError": CONNECTION,
    "EndOfStream": CONNECTION,
    "TooSlowError": TIMEOUT,
    "Cancelled": UNKNOWN,
}
_SDK = {"Timeout": TIMEOUT, "MissingAPIKeyError": AUTH}
_HUGGING_FACE = {"RepositoryNotFoundError": NOT_FOUND, "GatedRepoError": PERMISSION}

LIBRARIES: dict[str, Mapping[str, Verdict | None]] = {
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "requests": _REQUESTS,
    "urllib3": _URLLIB,
    "urllib": _URLLIB,
    "http": _URLLIB,
    "aiohttp": _AIOHTTP,
    "botocore": _BOTOCORE,
    "boto3": _BOTOCORE,
    "google": _GOOGLE,
    "vertexai": _GOOGLE,
    "azure": _AZURE,
    "websockets": _SOCKETS,
    "anyio": _STREAMS,
    "trio": _STREAMS,
    "huggingface_hub": _HUGGING_FACE,
    "socket": {"timeout": TIMEOUT},
    **dict.fromkeys(
        (
            "anthropic",
            "cerebras",
            "cohere",
            "deepseek",
            "fireworks",
            "groq",
            "grpc",
            "langchain",
            "langchain_core",
            "litellm",
            "mistralai",
            "ollama",
            "openai",
            "openrouter",
            "pydantic_ai",
            "replicate",
            "together",
            "xai_sdk",
        ),
        _SDK,
    ),
}

# Class names of SDK errors that are read as codes wherever they stand; in the libraries above every class name is.
SDK_NAMES = frozenset(
    {
        "AuthenticationError",
        "BadRequestError",
        "ContentPolicyViolationError",
        "ContextWindowExceededError",
        "DeadlineExceeded",
        "InternalServerError",
        "InvalidRequestError",
        "NotFoundError",
        "OverloadedError",
        "PermissionDeniedError",
        "RateLimitError",
        "ResourceExhausted",
        "ServiceUnavailableError",
        "ThrottlingException",
        "TooManyRequestsError",
        "UnprocessableEntityError",
    }
)

PROVIDERS = {"mistralai": "mistral", "zhipuai": "zhipu", "zai": "zhipu"}

# What the words of a failed connection tell about whose fault it is; the first hit decides.
CONNECTION_WORDS = (
    (
        Phrases(
            "certificate",
            "wrong_version_number",
            "wrong version number",
            "hostname mismatch",
            "name or service not known",  # unlike EAI_AGAIN, this host name is wrong
            "nodename nor servname",
            "no address associated with hostname",
            "[errno 11001]",
        ),
        MISCONFIGURED_CONNECTION,
    ),
    (
        Phrases("too many open files", "network is unreachable", "network is down", "cannot assign requested address"),
        LOCAL_CONNECTION,
    ),
)

# The errors of the operating system that have no class of their own in Python.
ERRNOS = {
    errno.EMFILE: LOCAL_CONNECTION,
    errno.ENFILE: LOCAL_CONNECTION,
    errno.ENOBUFS: LOCAL_CONNECTION,
    errno.ENETDOWN: LOCAL_CONNECTION,
    errno.ENETUNREACH: LOCAL_CONNECTION,
    errno.EADDRNOTAVAIL: LOCAL_CONNECTION,
    errno.ENOMEM: LOCAL_MEMORY,
    errno.EHOSTUNREACH: CONNECTION,
    errno.ENOTCONN: CONNECTION,
    errno.ECONNRESET: CONNECTION,
    errno.ECONNREFUSED: CONNECTION,
    errno.ECONNABORTED: CONNECTION,
    errno.EPIPE: CONNECTION,
    errno.ETIMEDOUT: TIMEOUT,
}
