"""The digest of a function, class, module or callable object by itself, without its name and what it uses."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from blake3 import blake3

from penstock.digests.code.byte_code import byte_code_digest
from penstock.digests.code.made_classes import is_made, members
from penstock.digests.code.named_classes import is_local
from penstock.digests.code.syntax import class_syntax, encode_tree, function_code_digest, module_syntax
from penstock.digests.definitions.behind import home_of
from penstock.digests.functions import function_content, local_content
from penstock.digests.names import is_project_module
from penstock.digests.python import combine, digest, find_branch
from penstock.digests.walk import Walk
from penstock.errors import DigestError

MADE_BY_FUNCTION = (
    "create it in a function that the task calls (with functools.cache, each process does so once), "
    "give its type a digest with register_digest(), "
)
"""The beginning of hints for constants: as an argument, it would have no digest either."""


def content_of(value: Any, code: Callable[[FunctionType], bytes] = function_code_digest) -> str:
    """Return the digest of a piece of code. `code` gives that of a function's own part. Raises `DigestError`."""
    walk = Walk(None, find_branch, code)
    if isinstance(value, FunctionType):
        try:
            where = f"{value.__module__}.{value.__qualname__}"
            return walk.run(lambda fn: function_content(fn, walk), value, where, "").hex()
        except DigestError as error:
            cause = error.__cause__
            hint = (
                cause.hint
                if isinstance(cause, DigestError)
                else MADE_BY_FUNCTION + "or use CacheKey('v1') for the code"
            )
            raise DigestError(error.what, where=error.where, because=error.because, hint=hint) from cause
    if is_made(value):
        return combine("made class", [f"{name}={digest(item, where=name)}" for name, item in members(value)])
    if is_local(value):
        return walk.run(
            lambda cls: local_content(cls, walk), value, f"{value.__module__}.{value.__qualname__}", ""
        ).hex()
    if isinstance(value, type):
        return blake3(b"class\0" + encode_tree(class_syntax(value))).digest(20).hex()
    if isinstance(value, ModuleType):
        return blake3(b"module\0" + encode_tree(module_syntax(value))).digest(20).hex()
    held = walk.run(walk.of, value, type(value).__qualname__, "").hex()
    call = getattr(type(value), "__call__", None)  # noqa: B004 - the function itself is needed
    if isinstance(call, FunctionType) and is_project_module(home_of(call)):  # a callable object: its state and code
        return combine("callable", (held, content_of(call, code)))
    return held


def source_or_byte_code(fn: FunctionType) -> bytes:
    """Return the digest of a function's syntax, or of its byte code if it has no source."""
    try:
        return function_code_digest(fn)
    except DigestError:
        return byte_code_digest(fn.__code__)
