"""How a mutant is put in place of what runs already."""

import gc
import importlib.util

import pytest

from tests.mutation.child import changed_functions, live_functions, put_in

SOURCE = b"""LIMIT = 3
SQUARES = [number**2 for number in range(3)]


class Counter:
    def add(self, one, two=2):
        return one + two


def adding(number):
    def add(other):
        return number + other

    return add
"""


@pytest.fixture
def module(tmp_path):
    """A module that has been imported, its file and a closure that it has made."""
    path = tmp_path / "counters.py"
    path.write_bytes(SOURCE)
    spec = importlib.util.spec_from_file_location("counters", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made, path, made.adding(1)


@pytest.mark.slow
def test_functions_and_closures_change_where_they_are(module):
    """Bound methods, closures made before and closures made after do what the mutant does."""
    made, path, closure = module
    method = made.Counter().add
    for old, new in ((b"one + two", b"one - two"), (b"number + other", b"number - other")):
        gc.collect()
        put_in(live_functions(path.parent), changed_functions(path, SOURCE.replace(old, new)))
    assert (-1, -4, -4) == (method(1), closure(5), made.adding(1)(5))


@pytest.mark.slow
@pytest.mark.parametrize(("old", "new", "expected"), [
    (b"return number + other", b"return other", 5),
    (b"    return add\n", b"    return lambda other: other * 2\n", 10),
])  # fmt: skip
def test_closures_made_after_are_those_of_the_mutant(module, old, new, expected):
    """A closure cannot take hold of other variables: the one made before stays as it is."""
    made, path, closure = module
    gc.collect()
    put_in(live_functions(path.parent), changed_functions(path, SOURCE.replace(old, new)))
    assert (6, expected) == (closure(5), made.adding(1)(5))


@pytest.mark.parametrize(("old", "new"), [
    (b"LIMIT = 3", b"LIMIT = 4"),
    (b"two=2", b"two=3"),
    (b"class Counter:", b"class Counter(int):"),
    (b"number**2", b"number**3"),
])  # fmt: skip
def test_what_cannot_be_changed_in_place_is_told(module, old, new):
    """Constants, defaults and bases are evaluated at import, and so are the comprehensions of a module."""
    assert changed_functions(module[1], SOURCE.replace(old, new)) is None
