"""Small changes of a module, each of which some test should notice: what is mutated, and how.

Code on which no test should depend is left alone: documentation, annotations, texts of errors and logs, `__repr__`.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
TOLD = {"where", "because", "hint", "message", "help", "doc", "repr"}
"""Arguments that are text for people."""
LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log", "warn"}
LOGGERS = {"log", "logger", "logging", "_log", "_logger", "warnings"}
FOR_TYPES = {"TypeVar", "ParamSpec", "NewType", "cast", "Literal", "Annotated", "isinstance", "issubclass"}


@dataclass(frozen=True)
class Change:
    """A mutant: other text between two offsets of a file."""

    file: str
    function: str
    """Qualified, empty outside of functions."""
    text: str
    """The line where it begins, as people find it again whatever its number is."""
    before: str
    after: str
    line: int
    reached: range
    """Lines of which a test that can notice runs one."""
    start: int
    end: int

    @property
    def name(self) -> tuple[str, str, str, str, str]:
        """A name that stays the same while the rest of the file changes."""
        return self.file, self.function, self.text, self.before, self.after

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.after.encode() + source[self.end :]

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" + (f" in {self.function}" if self.function else "")
        return f"{where}\n      {self.text}\n      {self.before} → {self.after}"


def changes(file: str, source: bytes) -> list[Change]:
    """Return every possible change of a module's text, in order."""
    return list(_Reader(file, source).read())


def compiles(change: Change, source: bytes) -> bool:
    try:
        compile(change.applied(source), change.file, "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


class _Reader:
    """Walk a module, with the function and the statement of each node."""

    def __init__(self, file: str, source: bytes) -> None:
        self._file = file
        self._lines = source.splitlines(keepends=True)
        self._begins = [0]
        for line in self._lines:
            self._begins.append(self._begins[-1] + len(line))
        self._source = source
        self._tree = ast.parse(source)
        self._names: list[str] = []
        self._functions = 0
        self._reached = range(0)
        self._errors = {name for name in dir(builtins) if name.endswith(("Error", "Exception"))}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("errors"):
                self._errors |= {alias.asname or alias.name for alias in node.names if alias.name[0].isupper()}

    def read(self) -> Iterator[Change]:
        for statement in self._tree.body:
            yield from self._statement(statement)

    def _change(self, node: ast.expr | ast.stmt, after: str) -> Change:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._begins[node.lineno - 1] + node.col_offset
        end = self._begins[node.end_lineno - 1] + node.end_col_offset
        return Change(
            file=self._file,
            function=".".join(self._names) if self._functions else "",
            text=self._lines[node.lineno - 1].decode().strip(),
            before=" ".join(self._source[start:end].decode().split()),
            after=after,
            line=node.lineno,
            reached=self._reached,
            start=start,
            end=end,
        )

    def _statement(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if node.name in ("__repr__", "__str__"):
                    return
                self._names.append(node.name)
                self._functions += 1
                # Callers notice a changed default.
                self._reached = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
                for default in [*node.args.defaults, *node.args.kw_defaults]:
                    yield from self._expression(default)
                yield from self._statements(node.body)
                self._functions -= 1
                self._names.pop()
            case ast.ClassDef():
                self._names.append(node.name)
                yield from self._statements(node.body)
                self._names.pop()
            case ast.If(test=ast.Name("TYPE_CHECKING")):
                yield from self._statements(node.orelse)
            case ast.Assert():
                return
            case ast.Expr(ast.Constant()):
                return
            case ast.Raise():
                self._reached = _lines(node)
                if self._functions:
                    yield self._change(node, "pass")
            case ast.Break():
                self._reached = _lines(node)
                yield self._change(node, "continue")
            case ast.Continue():
                self._reached = _lines(node)
                yield self._change(node, "break")
            case _:
                yield from self._other_statement(node)

    def _statements(self, nodes: list[ast.stmt]) -> Iterator[Change]:
        for node in nodes:
            yield from self._statement(node)

    def _other_statement(self, node: ast.AST) -> Iterator[Change]:
        """Mutate the conditions and the removal of this statement, then the statements inside it."""
        if isinstance(node, ast.stmt):
            self._reached = _header(node)
            if self._functions:
                yield from self._removed(node)
        if isinstance(node, ast.If | ast.While):
            yield from self._negated(node.test)
        if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC and not _is_text(node.value):
            changed = ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)
            yield self._change(node, ast.unparse(changed))
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "decorator_list", "type_params", "returns"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.expr):
                    yield from self._expression(child)
                elif isinstance(child, ast.AST):
                    yield from self._statement(child)

    def _removed(self, node: ast.stmt) -> Iterator[Change]:
        match node:
            case ast.Expr(ast.Call() as call) if not self._is_told(call):
                yield self._change(node, "pass")
            case ast.Expr(ast.Await()) | ast.Delete():
                yield self._change(node, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]) | ast.AugAssign(ast.Attribute()):
                if self._names[-1] != "__init__":
                    yield self._change(node, "pass")
            case ast.Return(ast.expr() as value) if not isinstance(value, ast.Constant):
                yield self._change(node, "return None")

    def _expression(self, node: ast.AST | None) -> Iterator[Change]:
        match node:
            case None | ast.JoinedStr():
                return
            case ast.Call() if self._is_told(node):
                return
            case ast.Compare(ops=[op]) if type(op) in COMPARISONS:
                for other in COMPARISONS[type(op)]:
                    yield self._change(node, f"({ast.unparse(ast.Compare(node.left, [other()], node.comparators))})")
            case ast.BoolOp():
                other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                yield self._change(node, f"({ast.unparse(ast.BoolOp(other_op, node.values))})")
            case ast.UnaryOp(ast.Not()):
                yield self._change(node, f"({ast.unparse(node.operand)})")
            case ast.BinOp() if type(node.op) in ARITHMETIC and not (_is_text(node.left) or _is_text(node.right)):
                if self._functions or not isinstance(node.op, ast.BitOr):  # outside functions, `int | None` is a type
                    changed = ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
                    yield self._change(node, f"({ast.unparse(changed)})")
            case ast.IfExp():
                yield from self._negated(node.test)
            case ast.Constant():
                yield from self._constant(node)
                return
        for child in self._inside(node):
            if isinstance(child, ast.comprehension):
                for condition in child.ifs:
                    yield from self._negated(condition)
            yield from self._expression(child)

    def _inside(self, node: ast.AST) -> Iterator[ast.AST]:
        match node:
            case ast.Call(func=ast.Name(name)) if name in FOR_TYPES:
                yield from node.args[:1] if name in ("isinstance", "issubclass") else node.args[1:]
            case ast.Call():
                yield node.func
                yield from node.args
                yield from (keyword.value for keyword in node.keywords if keyword.arg not in TOLD)
            case ast.Subscript(value=ast.Name(name)) if name in FOR_TYPES or name[:1].isupper():
                return
            case ast.Compare():
                # Texts that are compared affect behaviour; other texts are mostly for people.
                for side in [node.left, *node.comparators]:
                    if isinstance(side, ast.Constant) and isinstance(side.value, str | bytes):
                        continue
                    yield side
            case _:
                yield from ast.iter_child_nodes(node)

    def _negated(self, test: ast.expr) -> Iterator[Change]:
        """Negate a condition that is not a comparison; comparisons have their own changes."""
        if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
            yield self._change(test, f"(not ({ast.unparse(test)}))")

    def _constant(self, node: ast.Constant) -> Iterator[Change]:
        match node.value:
            case bool():
                yield self._change(node, str(not node.value))
            case int() | float():
                yield self._change(node, repr(node.value + 1))

    def _is_told(self, call: ast.Call) -> bool:
        """Tell whether a call only makes a text for people: an error or a log line."""
        match call.func:
            case ast.Name(name) | ast.Attribute(attr=name) if name in self._errors:
                return True
            case ast.Attribute(value=ast.Name(base), attr=name):
                return name in LOGS and base.lower() in LOGGERS
        return False


def _is_text(node: ast.expr) -> bool:
    match node:
        case ast.JoinedStr():
            return True
        case ast.Constant(value):
            return isinstance(value, str | bytes)
        case ast.BinOp():
            return _is_text(node.left) or _is_text(node.right)
    return False


def _lines(node: ast.stmt) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _header(node: ast.stmt) -> range:
    """Return the lines of a statement without those of the statements inside it."""
    body = getattr(node, "body", None)
    if body and isinstance(body[0], ast.AST):
        return range(node.lineno, max(node.lineno + 1, body[0].lineno))
    return _lines(node)
