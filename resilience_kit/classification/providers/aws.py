"""Amazon Bedrock and errors of any AWS service. `FooException` and `Foo` are the same code."""

from __future__ import annotations

from resilience_kit.classification.verdicts import (
    AUTH,
    CONFLICT,
    INVALID_REQUEST,
    NOT_FOUND,
    OVERLOADED,
    PENDING,
    PERMISSION,
    QUOTA,
    RATE_LIMIT,
    SERVER_ERROR,
    TIMEOUT,
    TRANSIENT,
)

FIRM = {
    "ServiceQuotaExceededException": QUOTA,
    "ModelNotReadyException": TRANSIENT,
    "ModelTimeoutException": TIMEOUT,
    "MPAgreementBeingCreated": PENDING,
    "FTUFormNotFilled": PERMISSION,
    "INVALID_PAYMENT_INSTRUMENT": QUOTA,
    "UnrecognizedClientException": AUTH,
    "InvalidClientTokenId": AUTH,
    "InvalidSignatureException": AUTH,
    "SignatureDoesNotMatch": AUTH,
    "MissingAuthenticationToken": AUTH,
    "IncompleteSignature": AUTH,
    "ExpiredToken": AUTH,
    "ExpiredTokenException": AUTH,
    "RequestExpired": AUTH,
    "NotAuthorized": PERMISSION,
    "OptInRequired": PERMISSION,
    "InsufficientCapacity": OVERLOADED,
    "ConflictException": CONFLICT,
    "InvalidAction": INVALID_REQUEST,
    "MalformedQueryString": INVALID_REQUEST,
}

SOFT = {
    "ThrottlingException": RATE_LIMIT,
    "Throttling": RATE_LIMIT,
    "ThrottledException": RATE_LIMIT,
    "RequestLimitExceeded": RATE_LIMIT,
    "TooManyRequestsException": RATE_LIMIT,
    "ProvisionedThroughputExceededException": RATE_LIMIT,
    "AccessDeniedException": PERMISSION,
    "ResourceNotFoundException": NOT_FOUND,
    "ModelNotSupportedException": INVALID_REQUEST,
}

GENERIC = {
    "ValidationException": INVALID_REQUEST,
    "ValidationError": INVALID_REQUEST,
    "ModelErrorException": SERVER_ERROR,
    "ModelStreamErrorException": SERVER_ERROR,
    "InternalServerException": SERVER_ERROR,
    "InternalFailure": SERVER_ERROR,
    "ServiceUnavailableException": TRANSIENT,
}
