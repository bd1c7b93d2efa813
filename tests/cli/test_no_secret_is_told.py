"""Whatever a variable, a file or an argument holds: no command prints what may be a secret (invariants 76, 78)."""

from __future__ import annotations

import json

import pytest

CANARY = "sk-canary-7f3a9b2c4d5e6f708192"

VARIABLES = [
    {"OPENAI_API_KEY": CANARY, "ANTHROPIC_API_KEY": CANARY, "AWS_SECRET_ACCESS_KEY": CANARY},
    {"DATABASE_URL": CANARY, "REDIS_URL": f"redis://{CANARY}#{CANARY}@host"},
    {"DATABASE_URL": f"postgresql://me:{CANARY}@127.0.0.1:1/app", "REDIS_URL": f"redis://:{CANARY}@[::1]:1?password={CANARY}"},
    {"RESILIENCE_PRESET": CANARY},
    {"RESILIENCE_ENABLED": CANARY},
    {"RESILIENCE_CONFIG_FILE": f"/{CANARY}.toml"},
    {"RESILIENCE_OPERATION_QA": CANARY},
    {"RESILIENCE_CUSTOM_CONFIG": CANARY},
    {"RESILIENCE_CUSTOM_CONFIG": json.dumps({"api_key": CANARY})},
    {"RESILIENCE_CUSTOM_CONFIG": json.dumps({"jitter": CANARY})},
    {"RESILIENCE_CUSTOM_CONFIG": json.dumps({CANARY: 1})},
    {"RESILIENCE_API_KEY": CANARY},
    {"APP_ENV": CANARY, "KUBERNETES_NAMESPACE": CANARY},
]
COMMANDS = [["doctor"], ["presets"], ["config", "show"], ["config", "explain", "qa"], ["config", "diff", "simple", "production"]]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [*COMMANDS, *([*each, "--json"] for each in COMMANDS)], ids=" ".join)
@pytest.mark.parametrize("variables", VARIABLES, ids=" ".join)
def test_no_variable_comes_out(variables, arguments, told, monkeypatch) -> None:
    """Neither in an answer nor in a sentence."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    answer = told(*arguments)
    if "RESILIENCE_CONFIG_FILE" not in variables:  # a path is no secret, and without it nobody could find the file
        assert CANARY not in answer.out + answer.err


@pytest.mark.parametrize("strict", [[], ["--strict"]])
@pytest.mark.parametrize(
    "text", [f'api_key = "{CANARY}"', f'deadline = "{CANARY}"', f'"{CANARY}" = 1', f"x = {CANARY}", f'preset = "{CANARY}"']
)
def test_no_file_comes_out(text, strict, told, tmp_path) -> None:
    """Names of fields may, values may not."""
    file = tmp_path / "a.toml"
    file.write_text(text.format(CANARY))
    for arguments in ([*strict], [*strict, "--json"]):
        answer = told("config", "validate", str(file), *arguments)
        assert (1, False) == (answer.code, CANARY in answer.out + answer.err)


@pytest.mark.parametrize("settings", [CANARY, f'{{"api_key": "{CANARY}"}}', f'["{CANARY}"]'])
def test_no_argument_comes_out(settings, sentence) -> None:
    """A custom configuration may hold a secret by mistake."""
    assert CANARY not in sentence("config", "explain", "qa", "--custom-config", settings)
