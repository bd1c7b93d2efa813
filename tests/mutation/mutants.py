"""Makes mutants: a module's source with one small change each.

The operators are mutmut's, and a few that it has not. Where to apply them is decided here, since mutmut itself leaves out what
is decorated, a property for one. What only a type checker reads is left alone.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import libcst as cst
import libcst.matchers as m
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

_TYPES_ONLY = m.OneOf(
    m.Annotation(),
    m.Import(),
    m.ImportFrom(),
    m.If(test=m.Name("TYPE_CHECKING")),
    m.FunctionDef(decorators=[m.ZeroOrMore(), m.Decorator(m.Name("overload")), m.ZeroOrMore()]),
    m.FunctionDef(body=m.IndentedBlock([m.ZeroOrMore(), m.SimpleStatementLine([m.Expr(m.Ellipsis())])])),  # of a protocol
    m.Assign(targets=[m.AssignTarget(m.Name("__all__") | m.Name("__slots__"))]),
    m.Assign(value=m.Call(func=m.Name("TypeVar") | m.Name("ParamSpec"))),
    m.Assign(targets=[m.AssignTarget(m.Name(m.MatchRegex(r"[A-Z][a-z]\w*")))], value=m.Subscript() | m.BinaryOperation()),
    m.Call(func=m.Name("cast")),
    m.AnnAssign(value=m.Call(m.Name("field"), [m.Arg(m.Name("False"), keyword=m.Name("init"))])),  # its value comes later
)
_FUNCTIONS = (cst.FunctionDef, cst.ClassDef)
_STATEMENTS = (cst.BaseCompoundStatement, cst.SimpleStatementLine, cst.ExceptHandler)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change. `key` stays the same as long as the function around it does; `line` is where its statement begins."""

    key: str
    path: str
    function: str
    line: int
    before: str
    after: str
    start: int
    end: int
    text: str

    def applied(self, original: bytes) -> bytes:
        """The module with the change made."""
        return original[: self.start] + self.text.encode() + original[self.end :]


# --- operators: what a node may be replaced with, as pairs of the part that goes and what comes ----------------------------

Changes = Iterator[tuple[cst.CSTNode, cst.CSTNode]]


def _as_mutmut(node: cst.CSTNode) -> Changes:
    """Of its changes to a string the first: the others write the same text in small letters and in capitals."""
    for kind, operator in mutators.mutation_operators:
        if isinstance(node, kind):
            yield from ((node, new) for new in islice(operator(node), 1 if kind is cst.BaseString else None))


def _text(node: cst.FormattedStringText) -> Changes:
    yield node, node.with_changes(value=f"XX{node.value}XX")


def _negated(node: cst.If | cst.While) -> Changes:
    """`if a:` -> `if not a:`, but for what mutmut turns round by itself."""
    if not m.matches(node.test, m.Comparison() | m.UnaryOperation(operator=m.Not())):
        bracketed = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.test, cst.UnaryOperation(cst.Not(), bracketed)


def _uncaught(node: cst.ExceptHandler) -> Changes:
    """`except A:` -> `except ():`."""
    if node.type is not None:
        yield node.type, cst.Tuple([])


def _unlooped(node: cst.For) -> Changes:
    """`for a in b:` -> `for a in ():`."""
    yield node.iter, cst.Tuple([])


def _emptied(node: cst.Return) -> Changes:
    """`return a` -> `return None`."""
    if node.value is not None:
        yield node.value, cst.Name("None")


def _left_out(node: cst.Expr | cst.Raise | cst.Del) -> Changes:
    """A statement that is there for its effect -> `pass`."""
    if not m.matches(node, m.Expr(m.SimpleString())):
        yield node, cst.Pass()


def _undecorated(node: cst.Decorator) -> Changes:
    """A decorator -> one that changes nothing; `(a=True)` -> `(a=False)`."""
    yield node.decorator, cst.parse_expression("lambda same: same")
    for argument in m.findall(node, m.Arg(value=m.Name("True"))):
        yield argument.value, cst.Name("False")


_OPERATORS = (
    (cst.CSTNode, _as_mutmut),
    (cst.FormattedStringText, _text),
    (cst.If | cst.While, _negated),
    (cst.ExceptHandler, _uncaught),
    (cst.For, _unlooped),
    (cst.Return, _emptied),
    (cst.Expr | cst.Raise | cst.Del, _left_out),
    (cst.Decorator, _undecorated),
)

# --- where they are applied ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A span of bytes that is to be replaced, in the statement that begins at `line`, in the functions and classes `around`."""

    around: tuple[cst.FunctionDef | cst.ClassDef, ...]
    line: int
    start: int
    end: int

    @property
    def function(self) -> str:
        return ".".join(node.name.value for node in self.around)

    @property
    def body(self) -> cst.FunctionDef | None:
        """The function around, if it is the nearest."""
        nearest = self.around[-1] if self.around else None
        return nearest if isinstance(nearest, cst.FunctionDef) else None


class _Search(cst.CSTVisitor):
    METADATA_DEPENDENCIES = (ByteSpanPositionProvider, PositionProvider)

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[_Place, cst.CSTNode]] = []
        self._around: list[cst.FunctionDef | cst.ClassDef] = []
        self._lines: list[int] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if m.matches(node, _TYPES_ONLY):
            return False
        if isinstance(node, _FUNCTIONS):
            self._around.append(node)
        if isinstance(node, _STATEMENTS):
            self._lines.append(self.get_metadata(PositionProvider, node).start.line)
        for kind, operator in _OPERATORS:
            if isinstance(node, kind):
                self.found.extend((self._place(old), new) for old, new in operator(node))
        return not isinstance(node, cst.Decorator)

    def on_leave(self, node: cst.CSTNode) -> None:
        if m.matches(node, _TYPES_ONLY):
            return
        if isinstance(node, _FUNCTIONS):
            self._around.pop()
        if isinstance(node, _STATEMENTS):
            self._lines.pop()

    def _place(self, node: cst.CSTNode) -> _Place:
        span = self.get_metadata(ByteSpanPositionProvider, node)
        return _Place(tuple(self._around), self._lines[-1], span.start, span.start + span.length)


def mutants(root: Path, path: Path) -> Iterator[Mutant]:
    """All mutants of a module under `root` that are programs, each of them once."""
    original = path.read_bytes()
    tree = MetadataWrapper(cst.parse_module(original))
    search = _Search()
    tree.visit(search)
    name, seen, known = path.relative_to(root).as_posix(), {_meaning(original)}, Counter[str]()
    for place, new in search.found:
        mutant, meaning = _first_program(name, original, place, tree.module.code_for_node(new))
        if meaning is None or meaning in seen or _is_bool_made_none(mutant):
            continue
        seen.add(meaning)
        body = "" if place.body is None else tree.module.code_for_node(place.body)
        text = f"{name}\0{mutant.function}\0{body}\0{mutant.before}\0{mutant.after}"
        known[text] += 1
        yield replace(mutant, key=_digest(f"{text}\0{known[text]}")[:16])


def _first_program(name: str, original: bytes, place: _Place, new: str) -> tuple[Mutant, str | None]:
    mutant, meaning = None, None
    for text in _layouts(original[place.start : place.end], new):
        before, after = _lines(original, place, text)
        mutant = Mutant(
            key="",
            path=name,
            function=place.function,
            line=place.line,
            before=before,
            after=after,
            start=place.start,
            end=place.end,
            text=text,
        )
        meaning = _meaning(mutant.applied(original))
        if meaning is not None:
            break
    return mutant, meaning


def _is_bool_made_none(mutant: Mutant) -> bool:
    """None in place of False says the same; in place of True it says False, which is a mutant of its own."""
    before, after = mutant.before, mutant.after
    places = re.finditer(r"\b(?:True|False)\b", before)
    return any(f"{before[: place.start()]}None{before[place.end() :]}" == after for place in places)


def _layouts(old: bytes, new: str) -> Iterator[str]:
    """What comes, in as many lines as what goes, so that all below keeps its line number; or else in its own."""
    text = " " * old[:1].isspace() + new.strip() + " " * old[-1:].isspace()
    missing = old.count(b"\n") - text.count("\n")
    if missing > 0:
        yield text + "\n" * missing
    yield text


def _lines(original: bytes, place: _Place, text: str) -> tuple[str, str]:
    first, last = original.rfind(b"\n", 0, place.start) + 1, original.find(b"\n", place.end)
    after = original[first : place.start] + text.encode() + original[place.end : last]
    return _one_line(original[first:last]), _one_line(after)


def _meaning(source: bytes) -> str | None:
    """The same for programs that differ in layout only; None for what is no program."""
    try:
        tree = ast.parse(source)
        compile(tree, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return None
    return _digest(ast.dump(tree))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _one_line(text: bytes) -> str:
    return " ".join(text.decode().split())
