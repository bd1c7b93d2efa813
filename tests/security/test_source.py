"""What must not stand in the source at all (invariant 80)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilience_kit

PACKAGE = Path(resilience_kit.__file__).parent
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "telnetlib", "ftplib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "tempfile.mktemp"}
SQL_METHODS = {"execute", "executemany", "executescript"}


def found_in(source: str) -> Iterator[str]:
    """What a source text does that it must not."""
    tree = ast.parse(source)
    constants = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and _is_constant(node.value)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in FORBIDDEN_MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in FORBIDDEN_MODULES:
                yield module
            case ast.Call(func=func, args=args, keywords=keywords):
                yield from _of_call(ast.unparse(func), args, keywords, constants)
            case _:
                pass


def _is_constant(value: ast.expr | None) -> bool:
    """A literal, or one that holds other constants, which have names in capitals."""
    if isinstance(value, ast.JoinedStr):
        held = [part.value for part in value.values if isinstance(part, ast.FormattedValue)]
        return all(isinstance(each, ast.Name) and each.id.isupper() for each in held)
    return isinstance(value, ast.Constant)


def _of_call(name: str, args: list[ast.expr], keywords: list[ast.keyword], constants: set[str]) -> Iterator[str]:
    if name in FORBIDDEN_CALLS:
        yield name
    for keyword in keywords:
        if keyword.arg == "shell" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False):
            yield f"{name}(shell=...)"
        if keyword.arg in {"exc_info", "stack_info"}:
            yield f"{name}({keyword.arg}=...)"  # a traceback repeats what the user's exception says
    owner, _, method = name.rpartition(".")
    if method in SQL_METHODS and owner and args and not _is_fixed(args[0], constants):
        yield f"{name}({ast.unparse(args[0])})"
    if method == "exception" and owner.endswith("logger"):
        yield name


def _is_fixed(query: ast.expr, constants: set[str]) -> bool:
    return isinstance(query, ast.Constant) or (isinstance(query, ast.Name) and query.id in constants)


@pytest.mark.table("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_does_what_must_not_be_done(path: Path) -> None:
    """No pickle, marshal, shelve, yaml, eval, exec or shell; SQL without text put together; no logged tracebacks."""
    assert [] == list(found_in(path.read_text()))


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("from yaml import load", "yaml"),
        ("eval('1')", "eval"),
        ("os.system('x')", "os.system"),
        ("subprocess.run('x', shell=True)", "subprocess.run(shell=...)"),
        ("db.execute(f'SELECT {x}')", "db.execute(f'SELECT {x}')"),
        ("db.execute('SELECT ' + x)", "db.execute('SELECT ' + x)"),
        ("QUERY = f'SELECT {x}'\ndb.execute(QUERY)", "db.execute(QUERY)"),
        ("logger.exception('x')", "logger.exception"),
        ("logger.error('x', exc_info=True)", "logger.error(exc_info=...)"),
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str, what: str) -> None:
    """Each rule, broken once."""
    assert [what] == list(found_in(source))


def test_the_scan_lets_pass_what_is_right() -> None:
    """Parameters instead of text put together, and a list instead of a shell."""
    good = "QUERY = 'SELECT ?'\ndb.execute(QUERY, (x,))\ndb.execute('SELECT ?', (x,))\nsubprocess.run(['x'], shell=False)"
    assert [] == list(found_in(good))
