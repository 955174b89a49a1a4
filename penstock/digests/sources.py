"""TASK_SOURCE and TASK_CODE: the digest of a function, and of all project code that it uses.

`task_source` covers one function: normalised syntax, defaults, closure values. `task_code` also follows the global
names that a function uses into project modules: functions, classes and constants, at any depth. Installed packages and
the standard library only count by name, so that an upgrade causes no misses. (To force them, add
`CacheKey("pandas-3")`.)
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Callable, Iterable, Iterator
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, ModuleType, WrapperDescriptorType
from typing import Any

from penstock.digests.code.free_names import mentions
from penstock.digests.code.loaded import note_sources
from penstock.digests.code.local_classes import held_by_class
from penstock.digests.code.made_classes import is_made, is_placeless, members, parts
from penstock.digests.code.named_classes import is_local
from penstock.digests.definitions.annotated import Annotated
from penstock.digests.definitions.attached import asked_in, attached, is_asked
from penstock.digests.definitions.behind import behind, home_of, is_ours, own_package
from penstock.digests.definitions.content import MADE_BY_FUNCTION, content_of, source_or_byte_code
from penstock.digests.definitions.held import code_held_by, code_of_wrapper
from penstock.digests.definitions.mentioned import BUILTIN, Named, find
from penstock.digests.definitions.own_class import Read, own_class, reads
from penstock.digests.definitions.patched import replaced_in_installed, steps_in_installed
from penstock.digests.definitions.written import written
from penstock.digests.functions import closure_items, dispatched
from penstock.digests.mocks import kept
from penstock.digests.names import (
    MAIN_NAMES,
    importable_name,
    is_project_module,
    main_module_name,
    own_module,
    stable_module,
    stable_name,
)
from penstock.digests.python import combine, digest, find_branch
from penstock.digests.walk import Walk
from penstock.errors import DigestError
from penstock.objects.markers import is_marker
from penstock.objects.questions import ask, is_mock
from penstock.runtime import Current

__all__ = [
    "Reach",
    "importable_name",
    "task_code",
    "task_source",
    "task_source_of_unnamed",
    "told_by_name",
]

_NAME_HINT = (
    'name the task with @task(key_name="..."), pass what it holds as an argument, or give its type a digest with '
    "register_digest()"
)


def task_source(fn: Callable[..., Any]) -> str:
    """Return the digest (40 hex digits) of one function, the same on every supported Python.

    Comments, formatting, docstrings, annotations, decorator lines and the function's own name do not matter; values of
    defaults and closure variables do. Functions that it calls do not count; see `task_code`. For a function wrapped by
    an installed decorator (`functools.lru_cache`, `tenacity.retry`), the wrapped function counts; a wrapper written in
    the project counts together with its closure.

    Raises `DigestError` if the source, or the digest of a closure or default value, is not available.
    """
    root = behind(fn, is_project_module)
    with own_module(home_of(root)):
        return content_of(root)


def told_by_name(fn: Callable[..., Any]) -> bool:
    """Return whether module and qualified name identify a callable, so that keys need not contain its code.

    True for functions and classes at the top level of a module that is installed or in a package. The name `load` of a
    script or notebook may occur in any project; lambdas, nested functions, partials, bound methods and callable objects
    share their names with others that hold different values.
    """
    root = behind(fn, is_project_module)
    if isinstance(root, FunctionType):
        home, qualname = root.__globals__.get("__name__"), root.__code__.co_qualname
    elif isinstance(root, type):
        home, qualname = root.__module__, root.__qualname__
    else:
        bound = ask(root, "__self__")
        return type(root) in _LIBRARY_CALLABLES and (bound is None or isinstance(bound, ModuleType))
    if not isinstance(home, str) or "<" in qualname:
        return False
    module = main_module_name() if home in MAIN_NAMES else home
    return "." in module or not is_project_module(home)


_LIBRARY_CALLABLES = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)


def task_source_of_unnamed(fn: Callable[..., Any]) -> str:
    """Return the `task_source` of a callable whose name does not identify it.

    Without a source (a prompt, `exec`), the byte code is used, which is valid for one version of Python only. Raises
    `DigestError` if an object that the callable is bound to has no digest.
    """
    root = behind(fn, is_project_module)
    try:
        with own_module(home_of(root)):
            return content_of(root, code=source_or_byte_code)
    except DigestError as error:
        raise DigestError(
            f"{importable_name(fn)[1]!r} is not identified by its name, and holds a value without a stable digest",
            where=error.where, because=error.what, hint=_NAME_HINT,
        ) from error  # fmt: skip


def task_code(fn: Callable[..., Any], is_project: Callable[[str], bool] | None = None) -> str:
    """Return the digest of a function and of every project function, class and constant that it uses.

    Follows global names, attributes of project modules and imports inside functions, recursively, through nested
    functions, decorators, defaults, closures and whole classes. Of the class of a method, what it reads through `self`
    or `cls` counts; of other arguments, what the code reads of the classes that annotations name. Other code that is
    only reachable through an argument is not included.

    Args:
        fn: The function.
        is_project: Returns whether to follow the code of a module, by name. By default modules of the task's own
            top-level package, and all that are neither standard library nor installed.

    Raises:
        DigestError: Raised as by `task_source`, and for a constant without a digest.
    """
    root = behind(fn, is_project or is_project_module)
    with own_module(home_of(root)):
        return Reach(fn, is_project).digest()


class Reach:
    """The code that a function uses, as a flat set of pieces with their names, so that cycles do not matter.

    Must be used inside `own_module(home_of(behind(fn, …)))`.
    """

    def __init__(self, fn: Any, is_project: Callable[[str], bool] | None = None) -> None:
        root = behind(fn, is_project or is_project_module)
        package = own_package(root)
        note_sources()

        def followed(module: str) -> bool:
            return module.partition(".")[0] == package or is_project_module(module)

        self.root = root
        self.is_project = is_project or followed
        self.seen: dict[tuple[int, int], Any] = {}
        """The pieces, by their id and that of the class whose methods they are."""
        self.open: list[tuple[Any, type | None]] = []
        self.annotated = Annotated(self.is_project)
        self.of_arguments: list[Read] = []
        """What the code reads of the classes of its arguments."""
        self.lenient = False  # whether to leave out what has no digest: only annotations lead to it
        self.labels: dict[int, str] = {}
        self.trees: list[ast.AST] = []
        self.held_modules: dict[int, ModuleType] = {}
        self.dispatchers: dict[int, Any] = {}
        """The `singledispatch` objects by the id of their function."""
        self.note_dispatcher(fn)
        self.follow(root)

    def digest(self) -> str:
        return self.digest_of(self.pieces())

    def digest_of(self, pieces: Iterable[tuple[Any, list[tuple[str, Any, str]]]]) -> str:
        found = set()
        for value, names in pieces:
            edges = sorted({f"{name}={meaning}" for name, _, meaning in names})
            found.add(combine("piece", (self.label(value), *edges)))
        return combine("task_code", sorted(found))

    def pieces(self) -> Iterator[tuple[Any, list[tuple[str, Any, str]]]]:
        """Yield each piece with the names it uses, the objects behind them, and what represents these in the digest.

        Everything that was attached to a piece after its definition is a further piece.
        """
        told: set[tuple[int, str]] = set()
        while True:
            while self.open:
                value, owner = self.open.pop()
                names = self.meanings(self.names_of(value), value, owner)
                of_class = self.meanings(self.names_of_own(value, owner), value, owner, values=False)
                yield value, [*names, *of_class]
            yield from self.attached_pieces(told)
            if self.open:
                continue
            reads = self.annotated.reads(self.is_followed)
            if not reads:
                return
            self.lenient = True
            for read in reads:
                self.of_arguments.append(read)
                named = [(read.name, part) for part in parts(read.value())]
                if with_meaning := [*self.meanings(named, self.root, read.bases[0], values=False)]:
                    yield self.root, with_meaning

    def attached_pieces(self, told: set[tuple[int, str]]) -> Iterator[tuple[Any, list[tuple[str, Any, str]]]]:
        pieces = [*self.seen.values(), *self.held_modules.values()]
        found = [(value, name, item) for value in pieces for name, item in self.added_to(value)]
        asked = asked_in(self.trees) if found else frozenset()
        for value, name, item in found:
            if (id(value), name) not in told and is_asked(name, value, asked):
                told.add((id(value), name))
                if with_meaning := [*self.meanings([(name, item)], value, None, values=False)]:
                    yield value, with_meaning

    def meanings(
        self, names: Iterable[tuple[str, Any]], user: Any, owner: type | None, *, values: bool = True
    ) -> Iterator[tuple[str, Any, str]]:
        """Yield names with their objects and what represents these.

        Args:
            names: The names and objects.
            user: The piece that uses them.
            owner: The class whose method it is.
            values: Whether values must have a digest; otherwise those without one, such as locks, are left out.
        """
        for name, found in names:
            try:
                meaning = self.meaning(found, name, user, owner)
            except DigestError:
                if values and is_marker(found):
                    yield name, found, f"marker {self.meaning(type(found), name, user)}"
                elif self.lenient or not (values or isinstance(behind(found, self.is_project), _CODE)):
                    continue
                else:
                    raise
            else:
                yield name, found, meaning

    def added_to(self, value: Any) -> list[tuple[str, Any]]:
        """Return what was attached to a function, class or module after its definition."""
        dispatcher = self.dispatchers.get(id(value))
        try:
            return [*attached(value, self.is_project), *(dispatched(dispatcher) if dispatcher is not None else ())]
        except DigestError:
            if self.lenient:
                return []
            raise

    def is_followed(self, cls: type) -> bool:
        """Return whether all of a class is a piece."""
        return (id(cls), id(None)) in self.seen

    def note_dispatcher(self, value: Any) -> None:
        while is_ours(value):
            value = value.fn
        found = list(dispatched(value))
        if found and self.is_project(home_of(inner := behind(value, self.is_project))):
            self.dispatchers[id(inner)] = value
        for name, implementation in (*found, *code_of_wrapper(value, self.is_project)):  # also of installed ones
            if isinstance(implementation, _CODE):
                self.meaning(implementation, name, value)

    def label(self, value: Any) -> str:
        # The task's own name is part of its identity, not of its code, so that a renamed task can keep its keys.
        name = "the task" if value is self.root else stable_name(value)
        if id(value) not in self.labels:
            self.labels[id(value)] = f"{name} {content_of(value)}"
        return self.labels[id(value)]

    # -- names

    def names_of(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the free names of a piece of code and the objects behind them."""
        if isinstance(value, FunctionType):
            yield from closure_items(value)
            yield from enumerate_names("default", (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()))
            if hasattr(value, "__wrapped__"):
                yield "__wrapped__", value.__wrapped__
        elif is_made(value):
            yield from members(value)
            return
        found_in = written(value)
        if found_in is None:
            yield from self.held_by(value)
            return
        tree, scope, inner = found_in
        self.trees.append(tree)
        self.annotated.add(tree, scope)
        for mention in mentions(tree, known=inner):
            found, rest = find(mention, scope, self.is_project)
            steps = steps_in_installed(mention, found, rest, scope, self.is_project)
            if isinstance(found, ModuleType | Named):
                self.note_dispatcher(steps[-1])
            if found is not BUILTIN:
                yield ".".join(mention.path), found
            yield from replaced_in_installed(mention.path, steps, self.is_project)

    def names_of_own(self, value: Any, owner: type | None) -> Iterator[tuple[str, Any]]:
        """Yield what a method reads of its class, and what a class has of the call that has made it."""
        yield from held_by_class(value) if is_local(value) else ()
        for read in reads(value, owner, self.is_project) if owner is not None else ():
            yield from ((read.name, part) for part in parts(read.value()))

    # -- objects

    def meaning(self, value: Any, name: str, user: Any, owner: type | None = None) -> str:
        """Return what represents an object in the piece that uses it. Project code is followed later, as a piece."""
        if isinstance(value, Named):
            return value.text
        if type(value) is Current:
            return f"library penstock.runtime.{value.__reduce__()}"
        self.note_dispatcher(value)
        value = behind(value, self.is_project)
        if is_mock(type(value)):  # `isinstance` says what it stands for
            return f"mock {self.constant(value, name, user)} {self.called_by(value)}"
        if isinstance(value, ModuleType):
            if self.is_project(value.__name__):
                self.follow(value)  # used as a whole: passed on, or read with getattr
            return f"module {stable_module(value.__name__)}"
        if isinstance(value, (FunctionType, type)):
            if not (self.is_project(home_of(value)) or is_placeless(value)):
                return f"library {stable_name(value)}"
            self.follow(value, owner)
            return f"code {self.label(value)}"
        held = [self.meaning(item, name, user, owner) for _, item in self.held_by(value)]
        mocks = "".join(f" {meaning}" for meaning in held if meaning.startswith("mock "))
        return f"value {self.constant(value, name, user)}{mocks}"

    def follow(self, value: Any, owner: type | None = None) -> None:
        owner = own_class(value, owner, self.is_project)
        if (id(value), id(owner)) not in self.seen:
            if self.lenient:
                self.label(value)  # it raises here if there is none
            self.seen[id(value), id(owner)] = value
            self.open.append((value, owner))

    def held_by(self, value: Any) -> Iterator[tuple[str, Any]]:
        """Yield the functions, classes and mocks inside a constant, a partial, a bound method or a project object."""
        return code_held_by(value, self.is_project, self.held_modules)

    def called_by(self, double: Any) -> str:
        """Return the digest of the project code that a mock calls, which may use what has no digest."""
        found = set()
        for _, item in self.held_by(double):
            with contextlib.suppress(DigestError):  # without a source, it only counts by what it is
                found.add(_Called(item, self.is_project).digest())
        return combine("called", sorted(found))

    def constant(self, value: Any, name: str, user: Any) -> str:
        if type(value) is object:
            return "marker"
        try:
            return digest(value, where=name)
        except DigestError as error:
            user_name = ask(user, "__qualname__", type(user).__qualname__)
            raise DigestError(
                f"{name!r}, which {user_name!r} uses, has no stable digest",
                where=f"{ask(user, '__module__', '')}.{user_name}: {error.where}",
                because=error.what,
                hint=MADE_BY_FUNCTION + "or use TASK_SOURCE",
                constant=name,
            ) from error.__cause__


class _Called(Reach):
    """The code that a mock calls. Like the mock, it counts in this process only, so everything in it has a digest."""

    def __init__(self, fn: Any, is_project: Callable[[str], bool]) -> None:
        super().__init__(fn, is_project)
        self.doubles: dict[int, Any] = {}

    def called_by(self, double: Any) -> str:
        if id(double) not in self.doubles:  # the code may use the mock that calls it
            self.doubles[id(double)] = double
            for _, item in self.held_by(double):
                self.meaning(item, "", double)
        return ""

    def constant(self, value: Any, name: str, user: Any) -> str:
        walk = Walk(None, find_branch)
        found: bytes = walk.run(lambda item: kept(item, walk), value, name, "")
        return found.hex()

    def label(self, value: Any) -> str:
        is_function = isinstance(value, FunctionType)
        return f"{stable_name(value)} {self.constant(value, '', value)}" if is_function else super().label(value)


def enumerate_names(prefix: str, values: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """Yield numbered names for values that have none."""
    for number, value in enumerate(values):
        yield f"{prefix} {number}", value


_CODE = (FunctionType, type)
