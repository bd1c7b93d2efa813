"""The vocabulary of the code: one name, one meaning, and no name that only its author can guess (docs/glossary.md)."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "resilience_kit"

#: Words that say nothing to an expert of the field, with what to say instead. No identifier has one as a part.
BANNED = {
    "hear": "on_event, observe", "hears": "", "heard": "", "tell": "emit, log, report", "tells": "",
    "told": "", "telling": "", "say": "", "says": "", "said": "", "saying": "", "word": "",
    "words": "", "ask": "request, acquire", "asks": "", "asked": "requested", "given": "",
    "door": "", "doors": "", "gate": "admission", "gates": "", "place": "waiter", "places": "",
    "line": "queue", "lines": "", "turn": "ticket", "turns": "", "come": "granted", "comes": "",
    "gone": "cancelled", "news": "", "rouse": "wake", "stay": "", "stays": "", "lend": "acquire",
    "lends": "", "lent": "", "mend": "fix", "mended": "", "left": "remaining", "whole": "complete",
    "over": "finished", "flows": "streaming", "keeper": "", "manner": "", "thing": "", "things": "",
    "ours": "", "together": "combine", "folded": "", "judge": "classify", "judged": "", "spent": "",
    "hinted": "", "lowered": "", "plain": "", "peek": "", "kit": "", "echo": "",
    "stranger": "untrusted", "strangers": "",
}  # fmt: skip

TEXT = "a line of text"
#: Docstrings of tests that are no sentence yet. This number may only fall.
MOST_FRAGMENTS = 193
WAITS = "`turn` of a permit, which becomes `ticket` together with the rest of the protocol of guards"

#: Where a file may use such a word, and in which sense. This list may only shrink.
ALLOWED = {
    "execution/admission.py": {"turn": WAITS},
    "execution/call.py": {"turn": WAITS},
    "execution/waiting.py": {"turn": WAITS},
    "bench/compare/history.py": {"line": TEXT, "lines": TEXT},
    "bench/report/text.py": {"lines": TEXT},
    "classification/body.py": {"line": TEXT, "lines": TEXT},
    "cli/config/validate.py": {"lines": TEXT},
    "cli/demo/command.py": {"line": TEXT},
    "cli/demo/svg.py": {"left": "the left side of a picture"},
    "cli/demo/terminal_view.py": {"line": TEXT},
    "cli/demo/text_view.py": {"line": TEXT, "lines": TEXT},
    "cli/output.py": {"line": TEXT},
    "config/parsing.py": {"line": TEXT, "lines": TEXT},
    "config/serialization.py": {"line": TEXT},
    "errors.py": {"spent": "an attribute of the budget error, and the term for money"},
    "http/host_pacer.py": {"turn": WAITS},
    "http/sse.py": {"line": TEXT, "lines": TEXT},
    "limits/rate_limited.py": {"turn": WAITS},
    "guards.py": {"turn": WAITS},
    "policies/bulkhead/bulkhead.py": {"turn": WAITS},
    "policies/rate_limit/limiter.py": {"turn": WAITS},
    "testing/provider/_common.py": {"word": "the fake provider counts a word as a token", "words": "the same"},
}


def parts(name: str) -> list[str]:
    """Split an identifier at underscores and capitals, in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every name that a module gives to something, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, by its path from the package's folder."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path


def test_no_identifier_of_the_package_has_a_banned_word() -> None:
    """A name that an expert cannot guess is refused where it is given, with the file and the line."""
    found = [
        f"{file}:{line}: {name}: use another word than {word!r}" + (f" ({BANNED[word]})" if BANNED[word] else "")
        for file, path in modules()
        for line, name in [(1, path.stem), *identifiers(ast.parse(path.read_text()))]
        for word in parts(name)
        if word in BANNED and word not in ALLOWED.get(file, {})
    ]
    assert [] == found


def test_the_list_of_allowed_words_names_nothing_that_is_gone() -> None:
    """An entry that no identifier needs any more has to be deleted, so that the list only shrinks."""
    used = {
        (file, word) for file, path in modules() for _, name in identifiers(ast.parse(path.read_text())) for word in parts(name)
    }
    assert [] == [(file, word) for file, words in ALLOWED.items() for word in words if (file, word) not in used]


def test_no_two_classes_of_the_package_share_a_name() -> None:
    """One name has one meaning, whether it is private or not."""
    homes = defaultdict(list)
    for file, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes[node.name.lstrip("_")].append(file)
    assert {} == {name: files for name, files in homes.items() if len(files) > 1}


def fragments(path: Path) -> int:
    """How many tests of a file have a docstring of fewer than five words, or one that is no sentence."""
    return sum(
        1
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
        if not is_sentence((ast.get_docstring(node) or "").partition("\n\n")[0])
    )


def is_sentence(text: str) -> bool:
    """Whether a text begins like a sentence, ends like one, and has five words or more."""
    return len(text.split()) >= 5 and not text[0].islower() and text.endswith((".", "?", "!", ").", ":"))


def test_fragments_among_the_docstrings_of_tests_grow_fewer() -> None:
    """A docstring stands alone in a report of failures; the limit falls with each file that is put right."""
    total = sum(fragments(path) for folder in ("tests", "integration_tests") for path in (ROOT / folder).rglob("test_*.py"))
    assert total <= MOST_FRAGMENTS
