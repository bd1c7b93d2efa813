"""The web application. `uvicorn --factory examples.joke_service.app:make_app` serves it, and so does the package itself."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .database import DatabaseAwayError
from .models import FetchJoke, SetFakeApi
from .routes import BUSY, routes
from .service import JokeService
from .settings import Settings
from .submissions import KeyReusedError

_LARGEST_BODY: Final = 16_384
_logger = logging.getLogger("joke_service")


def make_app(settings: Settings | None = None) -> FastAPI:
    """Return the application with these settings, or with the environment's. Raises ConfigurationError."""
    service = JokeService(Settings() if settings is None else settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = _App(title="Joke service", lifespan=lifespan, docs_url=None, redoc_url=None, max_body_size=_LARGEST_BODY)
    app.state.service = service
    app.include_router(routes)
    app.exception_handler(RequestValidationError)(_bad_arguments)
    app.exception_handler(KeyReusedError)(_key_reused)
    app.exception_handler(DatabaseAwayError)(_database_away)
    app.exception_handler(Exception)(_fault)
    return app


async def _database_away(request: Request, error: DatabaseAwayError) -> JSONResponse:  # noqa: ARG001 - a handler's signature
    return JSONResponse({"detail": str(error)}, 503, BUSY)


async def _key_reused(request: Request, error: KeyReusedError) -> JSONResponse:  # noqa: ARG001 - the same
    return JSONResponse({"detail": str(error)}, 422)


async def _bad_arguments(request: Request, error: RequestValidationError) -> JSONResponse:  # noqa: ARG001 - the same
    """Which field breaks which rule. What was sent is not sent back: it may be a secret, and no text that can be encoded."""
    return JSONResponse({"detail": [{"field": _field(each["loc"]), "rule": each["msg"]} for each in error.errors()]}, 422)


_FIELDS: Final = {"body", "query", "header", "Idempotency-Key", "limit", *FetchJoke.model_fields, *SetFakeApi.model_fields}


def _field(place: tuple[int | str, ...]) -> str:
    return ".".join(str(each) if each in _FIELDS else "unknown" for each in place)


async def _fault(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - the same
    return JSONResponse({"detail": "this is a fault of the service"}, 500)


class _App(FastAPI):
    """Errors that nobody foresaw end here, with their type in the log: a server would write down what they say."""

    def build_middleware_stack(self) -> ASGIApp:
        inner = super().build_middleware_stack()

        async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await inner(scope, receive, send)
            except Exception as error:
                if scope["type"] != "http":
                    raise
                _logger.error("a request failed: %s", type(error).__name__)

        return outermost
