"""The protocols of guards and permits."""

from __future__ import annotations

from resilience_kit.guards import Guard, Permit


def test_guards_and_permits_are_known_by_what_they_do():
    """No base class is needed."""

    class Given:
        wait = 0.0

        def settle(self, outcome):
            """Nothing."""

    class Doorman:
        name = "door"

        def admit(self, cost=1.0):
            return Given()

        def fits(self, cost=1.0):
            return True

    assert isinstance(Doorman(), Guard)
    assert isinstance(Doorman().admit(), Permit)
    assert not isinstance(Given(), Guard)
