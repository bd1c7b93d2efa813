"""Verdicts of HTTP status codes, for responses without a known code or message."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    CONFLICT,
    CONTENT_FILTER,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PENDING,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    SERVER_ERROR,
    SERVER_FAULT_PERMANENT,
    TIMEOUT,
    TRANSIENT,
    UNKNOWN,
)
from resilience_kit.outcome import Verdict

CLIENT_ERROR, FIRST_SERVER_ERROR, BEYOND = 400, 500, 600
REDIRECT = 300
NO_CONTENT = frozenset({204, 205})
PAYMENT_REQUIRED, PAYLOAD_TOO_LARGE = 402, 413

STATUS: dict[int, Verdict] = {
    246: CONTENT_FILTER,  # Portkey: answered, but a guardrail check failed
    401: AUTH,
    402: QUOTA,
    403: PERMISSION,
    404: NOT_FOUND,
    407: AUTH,
    408: TIMEOUT,
    409: CONFLICT,
    410: NOT_FOUND,
    419: AUTH,
    420: RATE_LIMIT,
    421: PENDING,  # RFC 9110: may be retried on another connection
    423: CONFLICT,
    424: SERVER_ERROR,  # TGI and Bedrock: the model failed while generating
    425: PENDING,
    429: RATE_LIMIT,
    440: AUTH,
    446: CONTENT_FILTER,  # Portkey: a guardrail denied the request
    451: PERMISSION,
    460: UNKNOWN,  # AWS load balancer: the client closed the connection
    498: OVERLOADED,  # Groq: flex tier at capacity
    499: UNKNOWN,  # nginx, gRPC gateways: the client cancelled
    501: SERVER_FAULT_PERMANENT,
    503: TRANSIENT,
    504: TIMEOUT,
    505: SERVER_FAULT_PERMANENT,
    508: SERVER_FAULT_PERMANENT,
    511: AUTH,  # the local network wants a login first
    522: TIMEOUT,  # Cloudflare: the origin did not accept in time
    524: TIMEOUT,  # Cloudflare: the origin did not answer in time
    526: SERVER_FAULT_PERMANENT,  # Cloudflare: the origin's certificate is invalid
    529: OVERLOADED,  # Anthropic, and since then others
    561: AUTH,  # AWS load balancer: the identity provider refused
    598: TIMEOUT,
    599: TIMEOUT,
}


def by_status(status: int) -> Verdict:
    """Return the verdict of a bare status; `unknown` for success and for what is no status."""
    found = STATUS.get(status)
    if found is not None:
        return found
    if FIRST_SERVER_ERROR <= status < BEYOND:
        return SERVER_ERROR
    return INVALID_REQUEST if REDIRECT <= status < FIRST_SERVER_ERROR else UNKNOWN
