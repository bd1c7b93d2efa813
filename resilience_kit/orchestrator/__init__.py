"""Operations by name. `service` is the public object, `registry` holds its operations, `default` is the shared instance."""

from resilience_kit.orchestrator.default import get_orchestrator, set_orchestrator, with_resilience
from resilience_kit.orchestrator.service import AIServiceResilience

__all__ = ["AIServiceResilience", "get_orchestrator", "set_orchestrator", "with_resilience"]
