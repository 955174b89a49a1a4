"""Any object as text, whatever its own methods do: no report breaks on what a user's object says of itself.

What is asked of an object here may raise anything, exit, or give something that is no text; that is then told in its
place. All texts can be written as UTF-8.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any

MAX_TEXT = 200_000
"""A longer text is cut in the middle: it would travel to the driver and stand in the log."""


def kind_of(value: object) -> str:
    """The name of the object's class."""
    return kind_name(type(value))


def kind_name(kind: type) -> str:
    """The name of a class, as the class itself knows it."""
    return encodable(str.__str__(_QUALNAME(kind)))


def module_of(kind: type) -> str:
    """The name of the module of a class; empty if the class has something else in its place."""
    try:
        module = kind.__module__
    except BaseException:  # noqa: BLE001 (its metaclass is the user's code)
        return ""
    return module if type(module) is str else ""


def package_of(kind: type) -> str:
    """The name of the package that a class comes from."""
    return module_of(kind).partition(".")[0]


def text_of(value: object, how: Callable[[Any], Any] = str) -> str:
    """`str(value)`, or what came of it."""
    try:
        text = str.__str__(how(value))  # a plain one, also of a class derived from str
    except BaseException as error:  # noqa: BLE001 (it is the user's code; even an exit there ends no report)
        text = f"<{kind_of(value)}, whose text cannot be had: {kind_of(error)}>"
    return encodable(_cut(text))


def repr_of(value: object) -> str:
    """`repr(value)`, or what came of it."""
    return text_of(value, repr)


def told(error: BaseException) -> str:
    """An exception in one piece: its class, and what it says."""
    text = text_of(error)
    return f"{kind_of(error)}: {text}" if text else kind_of(error)


def traceback_of(error: BaseException) -> str:
    """An exception with its traceback, as Python shows it."""
    trace = _TRACEBACK(error)
    try:
        lines = traceback.format_exception(type(error), error, trace)
    except BaseException:  # noqa: BLE001 (as above: it asks for causes, notes and more)
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), told(error) + "\n"]
    return encodable(_cut("".join(lines)))


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold, lone surrogates, written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def all_encodable(value: Any) -> Any:
    """The same for all texts in lists and dicts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {all_encodable(key): all_encodable(item) for key, item in value.items()}
    return [all_encodable(item) for item in value] if isinstance(value, list | tuple) else value


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half:,} characters left out …\n{text[-half:]}"


# What the object's class says of these attributes is not asked.
_QUALNAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_TRACEBACK: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__


def clean(text: str) -> str:
    """Text with control characters but line feeds and tabs, and those that turn the direction of writing or are not
    seen at all, written as escapes."""
    return STEERING.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
