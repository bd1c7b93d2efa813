"""What the service answers. No route waits for the database for longer than 1.5 seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from .database import RETRY_AFTER
from .models import FetchJoke, SetFakeApi
from .page import PAGE, POLICY
from .service import JokeService

_LONGEST_ID: Final = 18  # digits that fit into PostgreSQL's bigint

NO_STORE: Final = {"Cache-Control": "no-store"}
BUSY: Final = {"Retry-After": str(RETRY_AFTER)}


def _service(request: Request) -> JokeService:
    service: JokeService = request.app.state.service
    return service


def _from_here(sec_fetch_site: Annotated[str | None, Header()] = None) -> None:
    """Browsers say when a page of somebody else's is behind a request."""
    if sec_fetch_site == "cross-site":
        raise HTTPException(403, "not from another site")


Service = Annotated[JokeService, Depends(_service)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
routes = APIRouter()


@routes.post("/tasks/fetch-joke", status_code=202, dependencies=[Depends(_from_here)])
async def fetch_joke(service: Service, wanted: FetchJoke | None = None, key: Key = None) -> dict[str, int]:
    """Take a job in. It is committed when this answers."""
    return {"job_id": await service.submit(wanted or FetchJoke(), key)}


@routes.get("/jobs/{job_id}")
async def job(service: Service, job_id: str) -> dict[str, Any]:
    """One job with its runs, and when the next one is due."""
    if job_id.isascii() and job_id.isdecimal() and len(job_id) <= _LONGEST_ID:
        found = await service.storage.job(int(job_id))
        if found is not None:
            return found
    raise HTTPException(404, "there is no such job")


@routes.get("/jokes")
async def jokes(service: Service, limit: Annotated[int, Query(ge=1, le=200)] = 50) -> dict[str, Any]:
    """Return the jokes that were fetched last."""
    return {"jokes": await service.storage.jokes(limit)}


@routes.get("/stats")
async def stats(service: Service) -> dict[str, Any]:
    """Return the statistics of the service."""
    return await service.stats()


@routes.get("/health")
async def health(service: Service) -> dict[str, Any]:
    """200 while jobs can be taken in, 503 while they cannot. The joke API may be down meanwhile: jobs wait for it."""
    await service.storage.ping()
    return {"status": "ok", "database": "ok", "joke_api": service.joke_api()["circuit"]}


@routes.put("/fake-api", dependencies=[Depends(_from_here)])
async def set_fake_api(service: Service, wanted: SetFakeApi) -> dict[str, Any]:
    """Break the fake joke API, or heal it. There is nothing here where API_BASE_URL names a real one."""
    if service.fake_api is None:
        raise HTTPException(404, "the joke API is a real one")
    service.fake_api.broken, service.fake_api.delay = wanted.broken, wanted.delay
    return wanted.model_dump()


@routes.get("/events", response_model=None)
async def events(service: Service) -> StreamingResponse | JSONResponse:
    """Server-sent events for the page."""
    if service.live.is_full:
        return JSONResponse({"detail": "too many pages are open"}, 503, BUSY)
    following: AsyncIterator[str] = service.live.follow()
    return StreamingResponse(following, media_type="text/event-stream", headers=NO_STORE)


@routes.get("/", include_in_schema=False)
async def page() -> HTMLResponse:
    """Return the page."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, **NO_STORE})
