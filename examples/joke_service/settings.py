"""What the environment says of the joke service, beside what it says of its queue."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from resilience_kit.jobs import JobSettings
from resilience_kit.jobs.settings import Seconds


class Settings(JobSettings):
    """The queue's settings, and those of the joke API; each from the variable of its name in capitals.

    `api_base_url`: where the joke API is; None for the fake one, which runs in this process and can be broken and healed.
    `api_timeout`: seconds for one request to it. `api_failures`: failures in a row after which it is left alone for
    `api_recovery_timeout` seconds.
    """

    api_timeout: Seconds = 5.0
    api_failures: Annotated[int, Field(ge=1, le=1000)] = 5
    api_recovery_timeout: Seconds = 10.0
    log_level: Literal["debug", "info", "warning"] = "info"
