"""Checks whether the stores named in the environment can be reached."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from resilience_kit._database_url import clean_database_url
from resilience_kit.cli.doctor.finding import Finding, Severity

#: libpq's key=value connection string, whose values may be quoted.
_PAIRS = re.compile(r"(?:[a-z_]+=(?:'(?:[^'\\]|\\.)*'|[^\s'=]*)(?:\s+|$))+$")
_QUOTED = re.compile(r"='(?:[^'\\]|\\.)*'")
#: Timeout in seconds of a connection to one address of a host.
CONNECT_TIMEOUT = 1.0
#: Variable -> the default port of its URL.
STORES = {"DATABASE_URL": 5432, "REDIS_URL": 6379}


def inspect_stores() -> Iterator[Finding]:
    """Yield a finding for each store. Only host and port of a URL are shown: the rest may hold a password."""
    for name, port in STORES.items():
        text = os.environ.get(name)
        yield _inspect_store(name, text, port) if text else _ok_finding(name, "not set")


def _inspect_store(name: str, text: str, port: int) -> Finding:
    try:
        where = _host(text, port)
    except ValueError:
        remedy = f"write scheme://user:password@host:{port}/name, with %2F for / in a password, %23 for #, %3F for ?, %40 for @"
        return Finding("stores", name, Severity.PROBLEM, "cannot be read as a URL", remedy)
    return _check_connection(name, *where) if where else _ok_finding(name, "names no host, so there is nothing to reach")


def _host(text: str, port: int) -> tuple[str, int] | None:
    """Return host and port; None for the URL of a file or socket. Raises ValueError if they could be part of a password."""
    text = clean_database_url(text)  # line ends and quotation marks are removed from other URLs, too
    if "://" not in text and (found := _PAIRS.match(text)) is not None:
        return _host_of_pairs(found[0], port)
    url = urlsplit(text)
    if "://" not in text or "@" in url.path + url.query + url.fragment:
        raise ValueError(url.scheme)
    return (url.hostname, url.port or port) if url.hostname else None


def _host_of_pairs(text: str, port: int) -> tuple[str, int] | None:
    """Return host and port of libpq's `host=db port=5432`."""
    pairs = dict(each.split("=", 1) for each in _QUOTED.sub("=", text).split())
    host = pairs.get("host", "")
    return (host, int(pairs.get("port") or port)) if host and not host.startswith(("/", "@")) else None


def _check_connection(name: str, host: str, port: int) -> Finding:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        socket.create_connection((host, port), CONNECT_TIMEOUT).close()
    except (OSError, UnicodeError) as error:  # the latter for an invalid host name
        return Finding(
            "stores", name, Severity.PROBLEM, f"{address} cannot be reached: {_reason(error)}", "start it, or fix the URL"
        )
    return _ok_finding(name, f"{address} can be reached")


def _reason(error: OSError | UnicodeError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or type(error).__name__


def _ok_finding(name: str, text: str) -> Finding:
    return Finding("stores", name, Severity.OK, text)
