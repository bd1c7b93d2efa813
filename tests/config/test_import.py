"""What importing the room costs and offers."""

import subprocess
import sys

import pytest

from resilience_kit import config


def test_pydantic_is_imported_only_for_settings():
    """The room is light until somebody asks for settings."""
    code = (
        "import sys, resilience_kit.config as config; assert 'pydantic' not in sys.modules; "
        "config.ResilienceSettings; assert 'pydantic_settings' in sys.modules"
    )
    assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_every_public_name_is_there():
    """Also those that are imported at first use."""
    assert all(getattr(config, name) is not None for name in config.__all__)


def test_unknown_names_are_attribute_errors():
    """As for any module."""
    with pytest.raises(AttributeError, match=r"module 'resilience_kit.config' has no attribute 'nothing'"):
        config.nothing  # noqa: B018 - the access is the test
