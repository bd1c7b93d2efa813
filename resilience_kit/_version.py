"""Which version of the kit this is, and how it got here."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any, Final

DISTRIBUTION: Final = "ai-resilience-kit"


def version() -> str:
    """Return the version of the installed distribution; "0+unknown" where the kit runs from a folder that was never installed."""
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - it costs as much as half of the face

    try:
        return distribution(DISTRIBUTION).version
    except PackageNotFoundError:
        return "0+unknown"


def install_command(extra: str) -> str:
    """Return the command that adds an extra to this installation, from where it came: a folder, a file or the index."""
    return f"{_python()} -m pip install {_requirement(extra)}"


def _python() -> str:
    return shlex.quote(sys.executable) if sys.executable else "python"


def _requirement(extra: str) -> str:
    source = _source()
    url = str(source.get("url", ""))
    if "dir_info" in source and url.startswith("file://"):
        path = shlex.quote(f"{_path_of(url)}[{extra}]")
        return f"-e {path}" if source["dir_info"].get("editable") else path
    return shlex.quote(f"{DISTRIBUTION}[{extra}]" + (f" @ {url}" if url.startswith(("file://", "https://")) else ""))


def _source() -> dict[str, Any]:
    """Read where pip installed from (PEP 610), or the folder with our pyproject.toml where nothing was installed."""
    from importlib.metadata import PackageNotFoundError, distribution  # noqa: PLC0415 - as above

    try:
        noted = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        folder = Path(__file__).parent.parent
        return {"url": folder.as_uri(), "dir_info": {}} if (folder / "pyproject.toml").is_file() else {}
    try:
        found = json.loads(noted or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _path_of(url: str) -> str:
    from urllib.parse import urlsplit  # noqa: PLC0415 - for a message only
    from urllib.request import url2pathname  # noqa: PLC0415 - the same

    return url2pathname(urlsplit(url).path)
