"""Exceptions of AI frameworks that carry neither status nor cause: their class names speak."""

import pytest

from resilience_kit.classification import classify


def short(verdict):
    """A verdict in one line: kind, R for retryable, C for counted."""
    return f"{verdict.kind} {'R' if verdict.retryable else ''}{'C' if verdict.counts_against_breaker else ''}".strip()


def error_of(path, message="it failed", bases=(Exception,), **attributes):
    """An instance of a class that has the name and module of a library's."""
    module, _, name = path.rpartition(".")
    exc = type(name, bases, {"__module__": module})(message)
    for key, value in attributes.items():
        setattr(exc, key, value)
    return exc


@pytest.mark.table(
    ("path", "expected"),
    [
        ("pydantic_ai.exceptions.ModelServerError", "server_error RC"),
        ("pydantic_ai.exceptions.ModelConnectionError", "connection RC"),
        ("pydantic_ai.exceptions.ModelTimeoutError", "timeout RC"),
        ("pydantic_ai.exceptions.ModelRateLimitError", "rate_limit R"),
        ("pydantic_ai.exceptions.ModelAPIError", "connection RC"),
        ("pydantic_ai.exceptions.ModelHTTPError", "unknown"),
        ("pydantic_ai.exceptions.UsageLimitExceeded", "unknown"),
        ("pydantic_ai.exceptions.ConcurrencyLimitExceeded", "overloaded"),
        ("pydantic_ai.exceptions.UserError", "invalid_request"),
        ("pydantic_ai.exceptions.ContentFilterError", "content_filter"),
        ("pydantic_ai.exceptions.UnexpectedModelBehavior", "unknown"),
        ("langchain_core.exceptions.ModelConnectionError", "connection RC"),
        ("langchain_core.exceptions.ModelTimeoutError", "timeout RC"),
        ("langchain_core.exceptions.ModelRateLimitError", "rate_limit R"),
        ("langchain_core.exceptions.ModelAuthenticationError", "auth"),
        ("langchain_core.exceptions.ModelPermissionDeniedError", "permission"),
        ("langchain_core.exceptions.ModelNotFoundError", "not_found"),
        ("langchain_core.exceptions.ModelInvalidRequestError", "invalid_request"),
        ("langchain_core.exceptions.ContextOverflowError", "context_length"),
        ("langchain_core.exceptions.OutputParserException", "unknown"),
        ("litellm.exceptions.ServiceUnavailableError", "transient RC"),
        ("litellm.exceptions.InternalServerError", "server_error RC"),
        ("litellm.exceptions.BadGatewayError", "server_error RC"),
        ("litellm.exceptions.APIConnectionError", "connection RC"),
        ("instructor.core.exceptions.IncompleteOutputException", "context_length"),
        ("cohere.errors.ServiceUnavailableError", "transient RC"),
        ("cohere.errors.GatewayTimeoutError", "timeout RC"),
        ("cohere.errors.UnauthorizedError", "auth"),
        ("cohere.errors.ForbiddenError", "permission"),
        ("mistralai.models.NoResponseError", "connection RC"),
        ("mistralai.models.ResponseValidationError", "transient RC"),
        ("google.genai.errors.ServerError", "server_error RC"),
        ("google.api_core.exceptions.TooManyRequests", "rate_limit R"),
        ("google.api_core.exceptions.GatewayTimeout", "timeout RC"),
        ("google.api_core.exceptions.Unauthenticated", "auth"),
        ("groq.APITimeoutError", "timeout RC"),
        ("together.error.RateLimitError", "rate_limit R"),
        ("together.error.Timeout", "timeout RC"),
        ("replicate.exceptions.APIConnectionError", "connection RC"),
        ("huggingface_hub.errors.InferenceTimeoutError", "timeout RC"),
        ("huggingface_hub.errors.OverloadedError", "overloaded RC"),
        ("text_generation.errors.OverloadedError", "overloaded RC"),
        ("voyageai.error.ServerError", "server_error RC"),
        ("voyageai.error.ServiceUnavailableError", "transient RC"),
        ("zhipuai.core._errors.APIReachLimitError", "rate_limit R"),
        ("zhipuai.core._errors.APIServerFlowExceedError", "overloaded RC"),
        ("zhipuai.core._errors.APIInternalError", "server_error RC"),
        ("dashscope.common.error.AuthenticationError", "auth"),
        ("qianfan.errors.RequestTimeoutError", "timeout RC"),
        ("semantic_kernel.exceptions.ServiceInvalidAuthError", "auth"),
        ("semantic_kernel.exceptions.ServiceContentFilterException", "content_filter"),
        ("agents.exceptions.MaxTurnsExceeded", "unknown"),
        ("aiohttp.client_exceptions.ClientConnectionResetError", "connection RC"),
        ("urllib3.exceptions.ConnectTimeoutError", "timeout RC"),
        ("botocore.exceptions.ConnectionClosedError", "connection RC"),
        ("websockets.exceptions.ConnectionClosedError", "connection RC"),
        ("some_framework.errors.ModelServerError", "server_error RC"),
        ("some_framework.errors.LLMConnectionError", "connection RC"),
        ("some_framework.errors.ProviderTimeout", "timeout RC"),
        ("some_framework.errors.ModelOverloadedError", "overloaded RC"),
        ("some_framework.errors.APIQuotaExceededError", "quota"),
        ("some_framework.errors.ModelError", "unknown"),
        ("some_framework.errors.ServerError", "unknown"),
        ("some_framework.errors.Modelling", "unknown"),
    ],
)
def test_a_framework_s_error_is_known_by_its_name(path, expected):
    """No status, no body, no cause: the class name is all there is."""
    assert expected == short(classify(error_of(path)))


def test_a_name_gives_way_to_the_answer_inside():
    """A code is more than the class that an SDK chose for it."""
    exc = error_of("pydantic_ai.exceptions.ModelServerError", status_code=429, body={"error": {"code": "insufficient_quota"}})
    assert "quota" == short(classify(exc))


def test_the_nearest_name_decides():
    """A server error stays one, though its base class says that no answer came."""
    base = type("ModelAPIError", (RuntimeError,), {"__module__": "pydantic_ai.exceptions"})
    assert "server_error RC" == short(classify(error_of("pydantic_ai.exceptions.ModelServerError", bases=(base,))))
    http = error_of("pydantic_ai.exceptions.ModelHTTPError", bases=(base,), status_code=400)
    assert "invalid_request" == short(classify(http))


@pytest.mark.table(("status", "expected"), [(200, "server_error RC"), (429, "rate_limit R")])
def test_a_page_in_place_of_json_is_the_services_fault(status, expected):
    """Aiohttp names the content type; a status of failure still says more."""
    exc = error_of("aiohttp.client_exceptions.ContentTypeError", "unexpected mimetype: text/html", status=status)
    assert expected == short(classify(exc))


@pytest.mark.table("end", ["", "Error", "Exception"])
@pytest.mark.table(
    ("name", "expected"),
    [
        ("ServiceUnavailable", "transient RC"),
        ("GatewayTimeout", "timeout RC"),
        ("BadGateway", "server_error RC"),
        ("InternalServer", "server_error RC"),
        ("Unauthorized", "auth"),
        ("Forbidden", "permission"),
        ("BadRequest", "invalid_request"),
        ("RateLimit", "rate_limit R"),
        ("RateLimitExceeded", "rate_limit R"),
        ("TooManyRequests", "rate_limit R"),
        ("Overloaded", "overloaded RC"),
        ("QuotaExceeded", "quota"),
        ("ContextLengthExceeded", "context_length"),
    ],
)
def test_the_words_of_http_mean_the_same_in_any_library(name, end, expected):
    """A class that is named as a status is, or as an SDK's, is known wherever it stands."""
    assert expected == short(classify(error_of(f"some_library.errors.{name}{end}")))
