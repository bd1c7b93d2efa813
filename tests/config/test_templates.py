"""Templates: their table, and which of them a configuration is nearest to."""

import json

import pytest

from resilience_kit.config import TEMPLATES, ResilienceConfigValidator, ResilienceSettings, Template, get_template
from resilience_kit.config.templates import nearest_template

TABLE = [
    ("fast_development", 1, 2, 15, "aggressive", {"operation_overrides": {"sentiment": "aggressive"}}),
    ("robust_production", 6, 12, 180, "conservative", {"operation_overrides": {"qa": "critical", "summarize": "conservative"}}),
    ("low_latency", 1, 2, 10, "aggressive", {"deadline": 5, "base_delay": 0.5, "max_delay": 5}),
    ("high_throughput", 3, 8, 45, "balanced", {"operation_overrides": {"sentiment": "aggressive", "key_points": "balanced"}}),
    (
        "maximum_reliability",
        8,
        15,
        300,
        "critical",
        {
            "operation_overrides": {
                "qa": "critical",
                "summarize": "critical",
                "sentiment": "conservative",
                "key_points": "conservative",
                "questions": "conservative",
            },
            "base_delay": 3,
            "max_delay": 60,
        },
    ),
]


def test_every_template_is_valid_as_it_stands():
    """With nothing to warn of, in every preset's place; checked where this file is read, so that none slips by."""
    results = {name: ResilienceConfigValidator().validate_custom_config(template) for name, template in TEMPLATES.items()}
    assert dict.fromkeys(TEMPLATES, (True, [])) == {name: (each.is_valid, each.warnings) for name, each in results.items()}


test_every_template_is_valid_as_it_stands()


@pytest.mark.parametrize(("name", "attempts", "threshold", "recovery", "default", "more"), TABLE)
def test_a_template_is_its_row_of_the_table(name, attempts, threshold, recovery, default, more):
    """Numbers, default strategy and the rest."""
    numbers = {"retry_attempts": attempts, "circuit_breaker_threshold": threshold, "recovery_timeout": recovery}
    assert {**numbers, "default_strategy": default, **more} == dict(TEMPLATES[name]) == TEMPLATES[name].settings()


def test_the_table_is_complete():
    """In its order."""
    assert [row[0] for row in TABLE] == list(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_read_as_a_configuration(name):
    """By code as a mapping, by the environment as JSON."""
    of_code = ResilienceSettings(custom_config=TEMPLATES[name].settings()).default
    assert of_code == ResilienceSettings(custom_config=json.dumps(TEMPLATES[name].to_dict()["settings"])).default


def test_templates_are_found_in_any_case_and_cannot_be_changed():
    """Nobody changes a template for everybody else."""
    template = get_template("Robust_Production")
    assert TEMPLATES["robust_production"] is template
    assert [None, None] == [get_template("nothing"), get_template(3)]
    with pytest.raises(TypeError):
        TEMPLATES["mine"] = template
    with pytest.raises(TypeError):
        template["operation_overrides"]["qa"] = "balanced"
    template.settings()["operation_overrides"]["qa"] = "balanced"
    assert "critical" == template["operation_overrides"]["qa"]


def test_a_template_says_what_it_is():
    """Its name and settings."""
    template = Template("mine", "for nobody", deadline=5)
    assert ("<Template mine: {'deadline': 5}>", 1) == (repr(template), len(template))


@pytest.mark.parametrize(
    ("settings", "name", "distance", "reason"),
    [
        *[(dict(template), name, 0.0, f"the same {', '.join(template)}") for name, template in TEMPLATES.items()],
        ({"retry_attempts": 3}, "high_throughput", 0.0, "the same retry_attempts"),
        (
            {"retry_attempts": 1, "recovery_timeout": 12.5},
            "fast_development",
            1 / 12,
            "the same retry_attempts; another recovery_timeout (12.5, there 15)",
        ),
        ({"deadline": 10.0}, None, 0, ""),
        ({"deadline": 6.25}, "low_latency", 0.2, "another deadline (6.25, there 5)"),
        (
            {"jitter": "none", "retry_attempts": 8},
            "maximum_reliability",
            0.25,
            "the same retry_attempts; another jitter (none, there open)",
        ),
        (
            {"operation_overrides": {"qa": "critical", "summarize": "balanced", "b": "critical"}, "default_strategy": "balanced"},
            "robust_production",
            0.5,
            "",
        ),
        (
            {"operation_overrides": {"qa": "critical"}, "default_strategy": "Conservative"},
            "robust_production",
            0.25,
            "the same default_strategy; another operation_overrides (its own, there its own)",
        ),
        ({"operation_overrides": {}, "retry_attempts": 1}, "low_latency", 0.0, "the same operation_overrides, retry_attempts"),
        ({"attempt_timeout": 5.0}, None, 0, ""),
        ({}, None, 0, ""),
    ],
)
def test_the_nearest_template_is_found_by_distance(settings, name, distance, reason):
    """The mean over the settings given; what is far from all of them is near none."""
    found = nearest_template(settings)
    near = name is not None and distance <= 0.4
    assert near == (found is not None)
    if near:
        assert (name, pytest.approx(distance), reason) == found
