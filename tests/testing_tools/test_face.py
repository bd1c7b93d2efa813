"""What `resilience_kit.testing` offers."""

import subprocess
import sys

import pytest

from resilience_kit import testing


def test_every_public_name_is_there():
    """Those of the provider are imported at first use."""
    assert all(getattr(testing, name) is not None for name in testing.__all__)


def test_the_provider_is_not_imported_with_the_rest():
    """A fake clock does not need a web server."""
    code = "import sys, resilience_kit.testing; assert 'resilience_kit.testing.provider' not in sys.modules"
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_unknown_names_are_attribute_errors():
    """As for any module."""
    with pytest.raises(AttributeError, match=r"module 'resilience_kit.testing' has no attribute 'nothing'"):
        testing.nothing  # noqa: B018 - the access is the test
