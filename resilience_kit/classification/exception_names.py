"""Classifies exceptions that carry no response, by the name of their class.

Names, not classes: none of these libraries is imported, and SDKs move their exceptions between modules. `UNAMBIGUOUS`
names mean the same in any module; those in `LIBRARIES` only count in the libraries listed there, since `Timeout` or
`Conflict` may mean anything elsewhere. Unlisted names are read by their parts, in those libraries, and anywhere when
they begin as the errors of AI frameworks do: `ModelServerError`, `LLMConnectionError`.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping

from resilience_kit.classification.phrases import Phrases
from resilience_kit.classification.verdicts import (
    AUTH,
    CONNECTION,
    CONTENT_FILTER,
    CONTEXT_LENGTH,
    ENDLESS_REDIRECT,
    INVALID_REQUEST,
    LOCAL_CONNECTION,
    LOCAL_MEMORY,
    LOCAL_TIMEOUT,
    LOCALLY_REJECTED,
    MISCONFIGURED_CONNECTION,
    NOT_FOUND,
    PERMISSION,
    TIMEOUT,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.outcome import Verdict

UNAMBIGUOUS = {
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
    "JSONDecodeError": TRANSIENT,  # a truncated body, or a page instead of JSON: the service's fault
    "APIResponseValidationError": TRANSIENT,
    "ContentFilterFinishReasonError": CONTENT_FILTER,
    "LengthFinishReasonError": CONTEXT_LENGTH,
    "CircuitBreakerError": LOCALLY_REJECTED,
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
_SDK: dict[str, Verdict | None] = {
    "Timeout": TIMEOUT,
    "MissingAPIKeyError": AUTH,
    "NoResponseError": CONNECTION,
    "ResponseValidationError": TRANSIENT,
    "IncompleteOutputException": CONTEXT_LENGTH,
    "OutputParserException": UNKNOWN,
}
_HUGGING_FACE = {"RepositoryNotFoundError": NOT_FOUND, "GatedRepoError": PERMISSION}
_PYDANTIC_AI: dict[str, Verdict | None] = {
    **_SDK,
    "ModelHTTPError": None,  # has a status
    "ModelAPIError": CONNECTION,  # the request failed without a response
    "UsageLimitExceeded": UNKNOWN,  # a limit of the program itself, as the next one
    "ConcurrencyLimitExceeded": LOCALLY_REJECTED,
    "UserError": INVALID_REQUEST,
    "IncompleteToolCall": CONTEXT_LENGTH,
}
_AGENTS = {**_SDK, "UserError": INVALID_REQUEST, "MaxTurnsExceeded": UNKNOWN}
_ZHIPU: dict[str, Verdict | None] = {**_SDK, "APIResponseError": TRANSIENT}

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
    "pydantic_ai": _PYDANTIC_AI,
    "agents": _AGENTS,
    "zhipuai": _ZHIPU,
    "zai": _ZHIPU,
    "socket": {"timeout": TIMEOUT},
    **dict.fromkeys(
        (
            "ai21",
            "aleph_alpha_client",
            "anthropic",
            "cerebras",
            "cohere",
            "crewai",
            "dashscope",
            "deepgram",
            "deepseek",
            "elevenlabs",
            "fireworks",
            "groq",
            "grpc",
            "haystack",
            "instructor",
            "langchain",
            "langchain_anthropic",
            "langchain_community",
            "langchain_core",
            "langchain_google_genai",
            "langchain_openai",
            "litellm",
            "llama_index",
            "mistralai",
            "ollama",
            "openai",
            "openrouter",
            "perplexity",
            "portkey_ai",
            "qianfan",
            "replicate",
            "semantic_kernel",
            "smolagents",
            "text_generation",
            "together",
            "volcenginesdkarkruntime",
            "voyageai",
            "writerai",
            "xai_sdk",
        ),
        _SDK,
    ),
}

# Class names of SDK errors that are read as codes wherever they stand; in the libraries above every class name is.
SDK_NAMES = frozenset(
    {
        "InvalidRequestError",
        "NotFoundError",
        "PermissionDeniedError",
        *(
            f"{name}{end}"
            for name in (
                "Authentication",
                "BadGateway",
                "BadRequest",
                "ContentPolicyViolation",
                "ContextLengthExceeded",
                "ContextWindowExceeded",
                "DeadlineExceeded",
                "Forbidden",
                "GatewayTimeout",
                "InternalServer",
                "Overloaded",
                "QuotaExceeded",
                "RateLimit",
                "RateLimitExceeded",
                "RateLimited",
                "ResourceExhausted",
                "ServiceUnavailable",
                "Throttled",
                "Throttling",
                "TooManyRequests",
                "Unauthenticated",
                "Unauthorized",
                "UnprocessableEntity",
            )
            for end in ("", "Error", "Exception")
        ),
    }
)

# The meanings of parts of a class name. A connection failure carries no response, so its verdict is final; the others are codes,
# which have a lower precedence than the response that the exception carries.
_AI_NAME = re.compile(r"(?:Model|LLM|Llm|AI|API|Api|Provider|Upstream|Inference|Completion|Embedding|Chat)[A-Z]")
_CONNECTION_NAME = re.compile(
    r"(?:Connect(?:ion|or)?|Network|Disconnect(?:ed|ion)?|Unreachable|Transport)(?:Closed|Reset|Failed|Failure)?(?:Error|Exception)?$"
)
_TIMEOUT_NAME = re.compile(r"Time[Oo]ut(?:Error|Exception)?$|TimedOut")
_CODE_NAMES = (
    (re.compile(r"RateLimit|TooManyRequests|Throttl|ReachLimit"), "rate_limit_error"),
    (re.compile(r"Overload|FlowExceed|Busy"), "overloaded_error"),
    (re.compile(r"Context(?:Overflow|Length|Window)|PromptTooLong"), "context_length_exceeded"),
    (re.compile(r"Content(?:Filter|Policy)|Moderation|SafetyError"), "content_filter"),
    (
        re.compile(r"Auth(?:entication|orization)?(?:Error|Exception|Failed)$|Unauthorized|InvalidAuth|APIKey"),
        "authentication_error",
    ),
    (re.compile(r"Permission|Forbidden"), "permission_error"),
    (re.compile(r"Quota|Billing|PaymentRequired|Insufficient(?:Balance|Credit|Fund)"), "quota_exceeded"),
    (re.compile(r"NotFound"), "not_found_error"),
    (re.compile(r"Unavailable"), "service_unavailable"),
    (re.compile(r"(?:Invalid|Bad)(?:Request|Argument|Input|Param)|Unprocessable"), "invalid_request_error"),
    (re.compile(r"(?:Server(?:Side)?|Internal|Gateway)(?:Error|Exception|Failure)$"), "server_error"),
)


def connection_verdict(name: str, root: str) -> Verdict | None:
    """Return the verdict of a class whose name indicates a broken connection or a timeout."""
    if root not in LIBRARIES and _AI_NAME.match(name) is None:
        return None
    return CONNECTION if _CONNECTION_NAME.search(name) else TIMEOUT if _TIMEOUT_NAME.search(name) else None


def code_of(name: str, root: str) -> str | None:
    """Return the code of a class name, None when the name means nothing in this library."""
    known = root in LIBRARIES or name in SDK_NAMES
    if known or _AI_NAME.match(name):
        found = next((code for part, code in _CODE_NAMES if part.search(name)), None)
        return found or (name if known else None)
    return None


PROVIDERS = {"mistralai": "mistral", "zhipuai": "zhipu", "zai": "zhipu"}

# Phrases of connection failures by the side at fault; the first match decides.
CONNECTION_PHRASES = (
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
