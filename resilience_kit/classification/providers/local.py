"""Self-hosted servers: vLLM, TGI, llama.cpp, Ollama, LM Studio, LightRAG."""

from __future__ import annotations

from resilience_kit.classification.verdicts import AUTH, CONTEXT_LENGTH, INVALID_REQUEST, OVERLOADED, SERVER_ERROR, TRANSIENT
from resilience_kit.outcome import Verdict

FIRM = {
    "overloaded": OVERLOADED,
    "exceed_context_size_error": CONTEXT_LENGTH,
    "unauthorized_error": AUTH,
    "not_supported_error": INVALID_REQUEST,
}

SOFT: dict[str, Verdict] = {}

GENERIC = {
    "validation": INVALID_REQUEST,
    "BadRequestError": INVALID_REQUEST,
    "exception": SERVER_ERROR,
    "unavailable_error": TRANSIENT,
    "generation": SERVER_ERROR,
    "incomplete_generation": SERVER_ERROR,
}
