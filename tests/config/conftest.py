"""No variable of the machine reaches a test of the configuration."""

import os

import pytest

_OURS = ("APP_ENV", "ENVIRONMENT", "ENV", "CI", "HOSTNAME", "KUBERNETES_NAMESPACE", "POD_NAMESPACE", "KUBERNETES_SERVICE_HOST")


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """Take away every variable that the configuration reads."""
    for name in list(os.environ):
        if name in _OURS or name.upper().startswith("RESILIENCE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr("socket.gethostname", lambda: "a1b2c3")


@pytest.fixture
def variables(monkeypatch):
    """Set variables: `variables(RESILIENCE_PRESET="simple")`."""

    def set_all(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def sentences():
    """The sentences of the ConfigurationError that a call raises."""
    from resilience_kit.errors import ConfigurationError

    def of(function, *args, **kwargs):
        with pytest.raises(ConfigurationError) as caught:
            function(*args, **kwargs)
        return [str(each) for each in caught.value.errors]

    return of
