"""What comes in from outside, checked here and nowhere else: PostgreSQL refuses NUL and lone surrogates, JSON knows no NaN."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold NUL")
    return text


class FetchJoke(BaseModel):
    """Which joke is wanted: one by its number, one of a topic, or any. `asked_by` is kept with it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    joke_id: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    topic: Annotated[str, Field(pattern="^[a-z][a-z-]{0,31}$")] | None = None
    asked_by: Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_printable)] | None = None

    @model_validator(mode="after")
    def _one_wish(self) -> Self:
        if self.joke_id is not None and self.topic is not None:
            raise ValueError("joke_id and topic exclude each other")
        return self


class SetFakeApi(BaseModel):
    """How the fake joke API behaves: `broken`, it answers 503; `delay`: seconds that pass before it answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    broken: bool
    delay: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 0.0


class Joke(BaseModel):
    """What the joke API answers."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: Annotated[int, Field(ge=1, le=2**53)]
    type: Annotated[str, Field(max_length=50), AfterValidator(_storable)]
    setup: Annotated[str, Field(max_length=2000), AfterValidator(_storable)]
    punchline: Annotated[str, Field(max_length=2000), AfterValidator(_storable)]
