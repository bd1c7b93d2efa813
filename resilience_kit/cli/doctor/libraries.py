"""Checks of Python, the wrapped libraries, the extras, and SDKs with retries of their own."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution, version

from packaging.requirements import Requirement

from resilience_kit.cli.doctor.finding import Finding, Severity

DISTRIBUTION = "ai-resilience-kit"
_CLIENTS = ("openai", "anthropic")
_AGGREGATE_EXTRAS = frozenset({"all", "demo"})  # extras that only combine others


def inspect_libraries() -> Iterator[Finding]:
    """Yield what is installed, and whether its version is supported."""
    yield _python()
    yield from _own_distribution()
    yield from (_client(name, found) for name in _CLIENTS if (found := _installed(name)) is not None)


def _python() -> Finding:
    text = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        return Finding("libraries", "Python", Severity.OK, text)
    return Finding("libraries", "Python", Severity.INFO, f"{text}, without its global lock: counting takes a lock of its own")


def _own_distribution() -> Iterator[Finding]:
    """Yield the kit and its requirements, the extras last."""
    try:
        package = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        text = "is not installed: it runs from a folder, and what it needs is not known"
        yield Finding("libraries", DISTRIBUTION, Severity.INFO, text, f"pip install {DISTRIBUTION}")
        return
    yield Finding("libraries", DISTRIBUTION, Severity.OK, package.version)
    wanted = [Requirement(text) for text in package.requires or []]
    yield from (_library(each) for each in wanted if _is_for(each, ""))
    for extra in sorted(set(package.metadata.get_all("Provides-Extra") or []) - _AGGREGATE_EXTRAS):
        yield _extra(extra, [each for each in wanted if _is_for(each, extra) and not _is_for(each, "")])


def _is_for(wanted: Requirement, extra: str) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({"extra": extra})


def _installed(name: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(name)
    return None


def _is_supported(wanted: Requirement, found: str) -> bool:
    return wanted.specifier.contains(found, prereleases=True)


def _range(wanted: Requirement) -> str:
    return ",".join(sorted(map(str, wanted.specifier), reverse=True))


def _library(wanted: Requirement) -> Finding:
    found, remedy = _installed(wanted.name), f"pip install '{wanted.name}{_range(wanted)}'"
    if found is None:
        return Finding("libraries", wanted.name, Severity.PROBLEM, "is not installed", remedy)
    if not _is_supported(wanted, found):
        return Finding("libraries", wanted.name, Severity.PROBLEM, f"{found} is not supported, {_range(wanted)} is", remedy)
    return Finding("libraries", wanted.name, Severity.OK, f"{found} (supported: {_range(wanted)})")


def _extra(name: str, wanted: list[Requirement]) -> Finding:
    found = {each.name: _installed(each.name) for each in wanted}
    remedy = f"pip install '{DISTRIBUTION}[{name}]'"
    missing = [each for each, its_version in found.items() if its_version is None]
    if missing:
        return Finding("extras", name, Severity.INFO, f"not installed: {', '.join(missing)}", f"{remedy}, if it is wanted")
    others = [f"{each.name} {found[each.name]}" for each in wanted if not _is_supported(each, str(found[each.name]))]
    if others:
        return Finding("extras", name, Severity.PROBLEM, f"not supported: {', '.join(others)}", f"{remedy} --upgrade")
    return Finding("extras", name, Severity.OK, ", ".join(f"{each} {its_version}" for each, its_version in found.items()))


def _client(name: str, found: str) -> Finding:
    text = f"{found}; its clients retry by themselves, which the kit notices and does not multiply"
    return Finding("clients", name, Severity.INFO, text, "build them with max_retries=0 and leave retrying to the operation")
