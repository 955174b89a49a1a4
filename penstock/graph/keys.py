"""Cache keys and recipe keys: a policy is compiled once per task and then gives a key for each call.

A key is the hash of named components: the task's identity, whatever the policy adds, and the digests of the inputs.
The **cache key** is computed from values; the **recipe key** from the graph, where an input from another node
contributes that node's recipe key. A record stores exactly the components from which the key was computed.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from typing import Any

from blake3 import blake3

from penstock.digests.components import Components, encoded, framed, hashed, inputs_head, keyed
from penstock.digests.names import main_module, main_module_name
from penstock.digests.python import combine, digest, digest_bytes
from penstock.digests.refs import Digested, OwnDefault, Ref, holds_ref
from penstock.digests.walk import LEAVES, SIZE, Resolve
from penstock.errors import DigestError, PolicyError
from penstock.graph.arguments import fill_all
from penstock.graph.constants.code_witness import CodeWitness, Running
from penstock.graph.constants.turns import Turns, code_of
from penstock.graph.key_files import FileAccess, FileWitness, files_of_patterns, read_files, reading_files_of
from penstock.graph.key_functions import Caller
from penstock.graph.policies import CachePolicy, ComputedKey, Part
from penstock.objects.secrets import is_secret_name, shows_secret

_CACHE = b"cache key 2\0"
_RECIPE = b"recipe key 2\0"
# The 2 is the version of the specification, so that keys of different versions never collide.


@dataclass(frozen=True, slots=True)
class KeyContext:
    """The context of keys: the run, and access to files (the graph itself opens none)."""

    run_id: str
    flow_parameters: Mapping[str, object]
    flow_name: str | None
    file_digest: Callable[[str], str]
    """Returns the digest of a file's content, 40 hexadecimal digits. Raises if it cannot be read."""
    expand: Callable[[str], list[str]]
    """Returns the files that match a pattern, in any order, like `glob.glob(pattern, recursive=True)`: with the
    pattern's prefix."""
    stamp: Callable[[str], object] | None = None
    """Returns what a `FileWitness` compares. None reads the files of policies once."""
    unmatched: Callable[[str], None] | None = None
    """Called with a pattern that no file matches."""
    salt: Callable[[], bytes] | None = None
    """Returns 32 bytes that key the digests of secrets, so that secrets cannot be guessed from them. Called only if
    there is a secret. None leaves the digests unkeyed."""


def compile_template(
    policy: CachePolicy,
    *,
    identity: str,
    fn: Callable[..., Any],
    parameters: Sequence[str],
    context: KeyContext,
    name: str | None = None,
    turns: Turns | None = None,
) -> KeyTemplate | None:
    """Compute the components of a task's keys that all of its calls share.

    Args:
        policy: The cache policy.
        identity: The task's identity, part of every key.
        fn: The task's function.
        parameters: The names of its parameters.
        context: The run and the access to files.
        name: The task's name, as key functions see it.
        turns: Those of the flow that makes calls of the task.

    Returns:
        The template of the task's keys, or None for NO_CACHE.

    Raises:
        PolicyError: The policy names a parameter that the task does not have.
        DigestError: The function, a constant that it uses or a flow parameter has no digest.
        Exception: Whatever `context.file_digest` raises.
    """
    policy.check_parameters(parameters, task=name or identity)
    if not policy.caches:
        return None
    static: dict[str, str] = {"task": identity}
    code, witness = code_of(fn, policy, identity, turns)
    static |= code
    if Part.FLOW_PARAMETERS in policy.parts:
        for parameter, value in context.flow_parameters.items():
            where = f"flow parameter {parameter!r}"
            content = bytes.fromhex(digest(value, where=where, name=parameter))
            if context.salt is not None and (is_secret_name(parameter) or shows_secret(value)):
                content = keyed(content, context.salt())
            static[f"flow_parameters.{parameter}"] = content.hex()
    if Part.RUN_ID in policy.parts:
        static["run_id"] = context.run_id
    if policy.constants:
        static["cache_key"] = json.dumps(policy.constants)
    files = FileWitness(context, context.stamp) if policy.file_patterns and context.stamp is not None else None
    with reading_files_of(name or identity):
        contents, read = files_of_patterns(policy.file_patterns, files or context, context.unmatched)
    static |= contents
    key_function = policy.key_function
    needs_values = key_function is not None or bool(policy.file_parameters)
    inputs = tuple(sorted(set(parameters) - policy.excluded)) if Part.INPUTS in policy.parts else None
    secret = frozenset(filter(is_secret_name, inputs or ()))
    template = KeyTemplate(
        identity=identity,
        static=tuple(sorted(static.items())),
        inputs=inputs,
        private=Part.RUN_ID in policy.parts,
        needs_values=needs_values,
        files=tuple(sorted(set(read))),
        main=main_module_name(),
        file_parameters=policy.file_parameters,
        context=replace(context, salt=None, flow_parameters={}) if policy.file_parameters else None,
        caller=Caller(
            key_function,
            fn,
            name or str(getattr(fn, "__name__", identity)),
            identity,
            context.run_id,
            context.flow_parameters if isinstance(key_function, ComputedKey) else {},
        )
        if key_function is not None
        else None,
        secret=secret if context.salt is not None else frozenset(),
        salt=context.salt() if secret and context.salt is not None else b"",
        patterns=policy.file_patterns,
    )
    object.__setattr__(template, "_ask_salt", context.salt)
    object.__setattr__(template, "_file_witness", files)
    object.__setattr__(template, "code_witness", witness)
    return template


@dataclass(frozen=True, slots=True, eq=False)
class KeyTemplate:
    """Computes the keys of one task's calls. Small when pickled. Needs cloudpickle if there is a key function."""

    identity: str
    static: tuple[tuple[str, str], ...]
    """The components that are the same for all calls, sorted by name."""
    inputs: tuple[str, ...] | None
    """The parameters whose digests are components, sorted; None without INPUTS."""
    private: bool
    """Whether the run's id is part of the key, so that runs share no results."""
    needs_values: bool
    """Whether the cache key needs values, not only digests (for a key function, or files named by a parameter)."""
    files: tuple[tuple[str, str], ...]
    """The paths and digests of the files in the policy, to be compared again after the task ran."""
    main: str
    """The importable name of the driver's `__main__`."""
    file_parameters: tuple[str, ...] = ()
    context: KeyContext | None = None
    """Set if parameters name files."""
    caller: Caller | None = None
    """Set if there is a user's key function."""
    secret: frozenset[str] = frozenset()
    """The parameters with secret names."""
    salt: bytes = field(default=b"", repr=False)
    """The key of their digests; empty as long as there is no secret."""
    patterns: tuple[str, ...] = ()
    """The paths and patterns of files in the policy."""
    code_witness: CodeWitness | None = field(init=False, repr=False, default=None)
    """Set in the driver's process if the key contains digests of code."""
    _file_witness: FileWitness | None = field(init=False, repr=False, default=None)
    """Set in the driver's process if the policy names files."""
    _ask_salt: Callable[[], bytes] | None = field(init=False, repr=False, default=None)
    _prefix: bytes = field(init=False, repr=False)
    _labels: tuple[tuple[str, bytes, bool], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        put = object.__setattr__
        inputs = self.inputs or ()
        put(self, "_prefix", encoded(dict(self.static)) + (b"" if self.inputs is None else inputs_head(len(inputs))))
        put(self, "_labels", tuple((name, framed(name), name not in self.secret) for name in inputs))

    def __reduce__(self) -> tuple[Any, ...]:
        # Without the encoded prefix, which would double the size of the pickle and can be recomputed.
        names = [name for name, each in self.__dataclass_fields__.items() if each.init]
        return KeyTemplate, tuple(getattr(self, name) for name in names)

    @property
    def reads_files(self) -> bool:
        """Whether the content of files is part of the keys."""
        return bool(self.patterns or self.file_parameters)

    def reread(self, access: FileAccess) -> KeyTemplate:
        """Return the template with the policy's files as they are now, or this one if none differs."""
        content, read = files_of_patterns(self.patterns, access)
        static = dict(self.static) | content
        if static == dict(self.static):
            return self
        again = copy.copy(self)
        object.__setattr__(again, "static", tuple(sorted(static.items())))
        object.__setattr__(again, "files", tuple(sorted(set(read))))
        object.__setattr__(again, "code_witness", self.code_witness)
        again.__post_init__()
        return again

    def running(self, task: str) -> AbstractContextManager[Running | None]:
        """Raise `DigestError` around a call that runs in the driver's process if its code changed since the key.

        Returns None if there is nothing that can change.
        """
        return contextlib.nullcontext() if self.code_witness is None else self.code_witness.running(task)

    @property
    def may_change(self) -> bool:
        """Whether there are constants or files to compare at each call."""
        return self.code_witness is not None or self._file_witness is not None

    def files_changed(self, asked: int) -> bool:
        """Return whether the policy's files changed; `asked` counts how often the flow has asked for values so far."""
        return self._file_witness is not None and self._file_witness.changed(asked)

    def cache_key(
        self, arguments: Mapping[str, Any], resolve: Resolve | None = None, values: Mapping[str, Any] | None = None
    ) -> str | None:
        """Return the cache key of one call.

        Args:
            arguments: The bound arguments with defaults, possibly containing Refs.
            resolve: Returns the digest of a Ref's value.
            values: The same arguments without Refs. Required if `needs_values` is true and there are Refs.

        Returns:
            40 hexadecimal digits, or None if the user's key function returned None.

        Raises:
            DigestError: An argument has no stable digest.
        """
        if self.needs_values:
            components = self.components(arguments, resolve, values)
            return None if components is None else self.key_from_components(components)
        return self._key(_CACHE, arguments, resolve)

    def recipe_key(self, arguments: Mapping[str, Any], resolve: Resolve) -> str | None:
        """Return the recipe key of one call, where `resolve` returns the recipe key of a Ref's node.

        None if the recipe does not determine the cache key: the user's key function returned None, or it (or a file
        named by a parameter) needs a value that another node has not computed yet.
        """
        if not self.needs_values:
            return self._key(_RECIPE, arguments, resolve)
        if holds_ref(arguments):
            return None
        components = self.components(arguments, resolve)
        return None if components is None else hashed(_RECIPE, components)

    def components(
        self, arguments: Mapping[str, Any], resolve: Resolve | None = None, values: Mapping[str, Any] | None = None
    ) -> Components | None:
        """Return the named components of the cache key, as a record stores them; None if the call is not cached."""
        components: Components = dict(self.static)
        with main_module(self.main):
            if self.needs_values:
                values = self._values(arguments, values)
                for name in self.file_parameters:
                    with reading_files_of(self.identity, name):
                        components[f"files({name})"] = self._content(name, values)[0]
                if self.caller is not None:
                    answer = self.caller.answer(dict(values))
                    if answer is None:
                        return None
                    components["cache_key_fn"] = answer
            if self.inputs is not None:
                components["inputs"] = {
                    name: self.input_digest(name, arguments[name], resolve).hex() for name in self.inputs
                }
        return components

    @staticmethod
    def key_from_components(components: Mapping[str, Any]) -> str:
        """Return the cache key of these components."""
        return hashed(_CACHE, components)

    def files_of(self, values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """Return the paths and digests of all files whose content is part of the key of a call with these values.

        Contains `files` as of the template's creation, and files named by parameters as they are now. Call it together
        with the computation of the key, and compare the files again after the task ran.
        """
        found = dict(self.files)
        for name in self.file_parameters:
            found.update(self._content(name, values)[1])
        return tuple(sorted(found.items()))

    def _key(self, kind: bytes, arguments: Mapping[str, Any], resolve: Resolve | None) -> str:
        pieces = [kind, self._prefix]
        others: list[tuple[int, str, Any]] = []  # values that are not leaves, and their positions
        for name, label, is_open in self._labels:
            value, part = arguments[name], b""
            leaf = LEAVES.get(type(value)) if is_open else None
            if leaf is not None:
                part = leaf(value)
            elif is_open and type(value) is Ref and resolve is not None:
                part = bytes.fromhex(resolve(value))
            else:
                others.append((len(pieces) + 1, name, value))
            pieces += (label, part)
        if others:
            with main_module(self.main):
                for place, name, value in others:
                    pieces[place] = self.input_digest(name, value, resolve)
        return blake3(b"".join(pieces)).digest(SIZE).hex()

    def input_digest(self, name: str, value: Any, resolve: Resolve | None) -> bytes:
        """Return the digest of an argument, keyed if it is secret by its name or content."""
        if type(value) is Digested:
            return value.digest
        found = digest_bytes(value, resolve, where=_place(name), name=name)
        if name not in self.secret and not shows_secret(value):
            return found
        if not self.salt and self._ask_salt is not None:
            # Only on the driver, which sees every argument first; workers receive the salt with the template.
            object.__setattr__(self, "salt", self._ask_salt())
        return keyed(found, self.salt) if self.salt else found

    def digested(self, arguments: Mapping[str, Any]) -> dict[str, Digested]:
        """Return the digests of arguments without Refs, to take their place in another process.

        Functions among them arrive there without their source.
        """
        found = {}
        with main_module(self.main):
            for name in self.inputs or ():
                with contextlib.suppress(DigestError):  # reported where the key is computed
                    if not holds_ref({name: arguments[name]}):
                        found[name] = Digested(self.input_digest(name, arguments[name], None))
        return found

    def witness(self, arguments: Mapping[str, Any]) -> str | None:
        """Return a digest of the present arguments that are part of the key, ignoring the values of Refs.

        Comparing it later shows whether they changed since the key was computed. None if an argument has no digest.
        """
        names = arguments if self.inputs is None else self.inputs
        try:
            with main_module(self.main):
                return digest({name: arguments[name] for name in names}, lambda ref: combine("node", (str(ref.node),)))
        except DigestError:
            return None

    def _values(self, arguments: Mapping[str, Any], values: Mapping[str, Any] | None) -> Mapping[str, Any]:
        if values is not None:
            return values
        if holds_ref(arguments):
            raise PolicyError(
                f"the key of {self.identity!r} needs the values of its arguments",
                because="it has a cache key function or Files(parameter=...), and an argument is not computed yet",
                hint="compute the key where the values are available",
            )
        filled = fill_all(arguments, lambda _, ref: ref)  # there are no Refs; this fills in large arguments
        return {name: value.value if type(value) is OwnDefault else value for name, value in filled.items()}

    def _content(self, name: str, values: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        """Return the digest of the file or files that a parameter names, and the paths and digests of these."""
        assert self.context is not None  # set if there are file parameters
        given = values[name]
        if given is None:
            return combine("no file", ()), []
        if isinstance(given, (str, PathLike)):
            return read_files(fspath(given), self.context, self.context.unmatched)
        if not isinstance(given, (list, tuple)):
            raise PolicyError(
                f"Files(parameter={name!r}) got a value of type {type(given).__qualname__}",
                where=f"arguments[{name!r}]",
                hint="pass a path, a list of paths, or None",
            )
        each = [read_files(fspath(path), self.context, self.context.unmatched) for path in given]
        return combine("files", [found for found, _ in each]), [read for _, some in each for read in some]


@functools.cache
def _place(name: str) -> str:
    return f"arguments[{name!r}]"
