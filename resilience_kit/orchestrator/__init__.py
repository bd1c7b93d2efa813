"""Names become operations here: `service` holds them, `request` says what a call site asks for, `default` is everybody's."""

from resilience_kit.orchestrator.default import get_orchestrator, set_orchestrator, with_resilience
from resilience_kit.orchestrator.service import AIServiceResilience

__all__ = ["AIServiceResilience", "get_orchestrator", "set_orchestrator", "with_resilience"]
