"""What `import resilience_kit` gives, and what it does not load."""

from __future__ import annotations

import subprocess
import sys

import resilience_kit

OPTIONAL = ("httpx", "httpx2", "typer", "rich", "uvicorn", "h11", "pytest", "openai", "anthropic", "pydantic_settings")


def test_the_face_is_small_sorted_and_there():
    """At most 30 names."""
    names = resilience_kit.__all__
    assert sorted(names) == names
    assert len(names) <= 30
    assert all(getattr(resilience_kit, name) is not None for name in names)


def test_importing_it_loads_no_optional_library():
    """Nor makes an orchestrator, nor touches the logger's handlers."""
    code = (
        "import sys, logging, resilience_kit, resilience_kit.orchestrator.default as o\n"
        f"loaded = [name for name in {OPTIONAL} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
        "assert o._default is None\n"
        "assert not logging.getLogger('resilience_kit').handlers\n"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode
