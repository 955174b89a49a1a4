"""Text of any object, whatever its own methods do, so that users' objects never break a message.

If a method of an object raises, exits or returns something other than text, the result says so instead. All returned
texts can be encoded as UTF-8.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from typing import Any

MAX_TEXT = 200_000
"""Longer texts are cut in the middle, since they are sent to the driver and logged."""


def kind_of(value: object) -> str:
    """Return the name of the object's class."""
    return kind_name(type(value))


def kind_name(kind: type) -> str:
    """Return the qualified name of a class, without calling its metaclass."""
    return encodable(str.__str__(_QUALNAME(kind)))


def module_of(kind: type) -> str:
    """Return the name of the module of a class, or an empty string if the class has no valid one."""
    try:
        module = kind.__module__
    except BaseException:  # noqa: BLE001 (its metaclass is the user's code)
        return ""
    return module if type(module) is str else ""


def package_of(kind: type) -> str:
    """Return the name of the top-level package of a class."""
    return module_of(kind).partition(".")[0]


def text_of(value: object, how: Callable[[Any], Any] = str) -> str:
    """Return `str(value)`, or a text that says why it failed."""
    try:
        text = str.__str__(how(value))  # a plain str, also from subclasses of str
    except BaseException as error:  # noqa: BLE001 (it is the user's code; even an exit must not break a message)
        text = f"<{kind_of(value)} whose text is unavailable: {kind_of(error)}>"
    return encodable(_cut(text))


def repr_of(value: object) -> str:
    """Return `repr(value)`, or a text that says why it failed."""
    return text_of(value, repr)


def told(error: BaseException) -> str:
    """Format an exception as its class and message."""
    text = text_of(error)
    return f"{kind_of(error)}: {text}" if text else kind_of(error)


def traceback_of(error: BaseException, *, chain: bool = True) -> str:
    """Format an exception with its traceback, as Python does; with `chain`, after its causes and contexts."""
    trace = _TRACEBACK(error)
    try:
        lines = traceback.format_exception(type(error), error, trace, chain=chain)
    except BaseException:  # noqa: BLE001 (as above: it asks for causes, notes and more)
        lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), told(error) + "\n"]
    return encodable(_cut("".join(lines)))


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that a mistyped one probably means, or None."""
    import difflib  # only needed for error messages

    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a hint that names the closest of the known names, or the other hint if none is close."""
    close = closest(name, known)
    return otherwise if close is None else f"did you mean {close}?"


def misspelt_url(address: str) -> str | None:
    """Return the URL that an address without `://` was probably meant to be: `s3:/bucket`, `s3//bucket`, `s3:bucket`.

    The same text as the name of a folder is written with `./` before it.
    """
    found = re.match(_MISSPELT_URL, address)
    return None if found is None else f"{found[1] or found[2]}://{address[found.end() :].lstrip('/')}"


_MISSPELT_URL = r"(?i)(?:(s3|gs|az|memory)(?::|//)(?=.)|([a-z][a-z0-9+.-]+):/(?!/))"


def encodable(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot encode, written as escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def all_encodable(value: Any) -> Any:
    """Apply `encodable` to all texts in lists and dicts."""
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


# Bypasses whatever the object's class defines for these attributes.
_QUALNAME: Callable[[type], str] = type.__dict__["__qualname__"].__get__
_TRACEBACK: Callable[[BaseException], Any] = BaseException.__dict__["__traceback__"].__get__


def clean(text: str) -> str:
    """Return the text with control characters other than line feeds and tabs, bidirectional controls and invisible
    characters written as escapes."""
    return STEERING.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"


STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e0fff]"
)
