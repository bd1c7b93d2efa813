"""Identifies requests by host, credential and model. The credential itself is not kept, only a salted hash."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
_PARAMETERS = ("key", "api_key", "api-key")
#: Where a path names a model (Gemini) or its deployment (Azure), and where a body of JSON does. In a text within that body the
#: quotes are escaped.
_IN_PATH = re.compile(r"/(?:deployments|models)/([^/:?]{1,80})")
_IN_BODY = re.compile(rb'"model"\s*:\s*"([^"\\]{1,80})"')
#: Schemes in which a 401 requests the next step and does not refuse the credential.
HANDSHAKES = frozenset({b"digest", b"kerberos", b"negotiate", b"ntlm", b"scram-sha-1", b"scram-sha-256"})
_DEFAULT_PORTS = {"https": 443, "http": 80}

#: The constant part of a header that differs for each request: of AWS signatures and of digest access.
_LASTING = re.compile(r'(?:aws4-[^ ]+ .*credential=|digest .*username=")([^/",]+)', re.IGNORECASE | re.ASCII)

#: Random for each process, so that a leaked fingerprint cannot be used to confirm a guessed credential.
_SALT = os.urandom(16)


def fingerprint(credential: str | None) -> bytes:
    """Return a salted hash of the credential, 16 bytes; empty for none."""
    if not credential:
        return b""
    lasting = _LASTING.match(credential)
    text = lasting[1] if lasting else credential
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, key=_SALT).digest()


def is_handshake_step(credential: str | None) -> bool:
    """Return whether a credential is one step of a handshake, so that a 401 may continue it."""
    return bool(credential) and str(credential).partition(" ")[0].lower().encode() in HANDSHAKES


def host_of(url: Any) -> str:
    """Return `host`, or `host:port` if the port is not the default of the scheme.

    `url`: an object of httpx or httpx2, or text; for text that names no host the result is empty.
    """
    if isinstance(url, str):
        try:
            parts = urlsplit(url)
            scheme, host, port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:
            return ""
        if not host:
            return ""
    else:
        scheme, host, port = url.scheme, url.host, url.port
    return host if port is None or port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


def credential_of(headers: Mapping[str, str], url: Any = None) -> str | None:
    """Return the credential of a request: a header that providers use, else a key in the query; None without one.

    `headers` has lower-case names, or ignores case.
    """
    for name in _HEADERS:
        value = headers.get(name)
        if value:
            return value
    return _in_query(url) if url is not None and url.query else None


def _in_query(url: Any) -> str | None:
    return next((value for name in _PARAMETERS if (value := url.params.get(name))), None)


def model_of(request: Any) -> str:
    """Return the model that a request of httpx or httpx2 names; empty without one."""
    try:
        content = request.content
    except Exception:  # noqa: BLE001 - a body that is not in memory; of either library
        content = b""
    return model_named(request.url.path, content)


def model_named(path: str, content: object) -> str:
    """Return the model or deployment in a path, else in a body of JSON, as bytes or parsed; empty without one."""
    in_path = _IN_PATH.search(path)
    if in_path is not None:
        return in_path[1]
    if isinstance(content, bytes):
        in_body = _IN_BODY.search(content)
        return "" if in_body is None else in_body[1].decode("utf-8", "replace")
    model = content.get("model") if isinstance(content, Mapping) else None
    return model if isinstance(model, str) else ""
