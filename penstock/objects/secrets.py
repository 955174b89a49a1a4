"""Finding secrets in names and values, and removing them from texts.

A parameter is secret because of its name (`password`, `api_key`, `hf_token`) or its value (which contains pydantic's
SecretStr or SecretBytes, secret names or texts with credentials). Secrets are never written to records, logs or stored
parameters.
"""

from __future__ import annotations

import io
import itertools
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from penstock.imported import loaded
from penstock.objects.questions import ask, has

HIDDEN = "***"
_WORDS = (
    r"pass(?:word|wd|phrase|code)?|pwd|secrets?|token|credentials?|auth|authorization|"
    r"(?:api|access|secret|private|signing|encryption|auth|account|shared|master)_?keys?"
)
# Patterns are strings, which `re` compiles and caches on first use: most runs use few of them.
_NAME = rf"(?i)(?:.*_)?(?:{_WORDS})(?:_?(?:text|str|bytes|value))?"
_SHORTEST = 4
"""Shorter secrets are not searched for in texts: too much of every text would be hidden."""
_MOST_VALUES = 1_000
_LOOKED_AT = 200
_LONGEST = 1 << 20
"""Longer bytes are assumed to be data."""


def is_secret_name(name: str) -> bool:
    """Return whether a parameter, key or variable of this name is secret: `token`, but not `tokens`, `max_tokens` or
    `token_path`."""
    return re.fullmatch(_NAME, re.sub(_CAMEL, "_", name)) is not None


_CAMEL = r"(?<=[a-z0-9])(?=[A-Z])"


def is_secret(value: object) -> bool:
    """Return whether the value itself is marked as secret, without searching its parts."""
    kinds = _secret_kinds()
    return bool(kinds) and isinstance(value, kinds)


def holds_secret(value: object) -> bool:
    """Return whether the value or any part of it is marked as secret."""
    kinds = _secret_kinds()
    if not kinds or type(value) in _PLAIN or type(value).__module__.partition(".")[0] in _TABLES:
        return False
    return _found_in(value, kinds)


def shows_secret(value: object) -> bool:
    """Return a fast, shallow answer to `holds_secret`, for every argument of every call."""
    kinds = _secret_kinds() if "pydantic" in sys.modules else ()
    if not kinds:
        return False
    left, looked = [value], 0
    while left and looked < _LOOKED_AT:
        item, looked = left.pop(), looked + 1
        if isinstance(item, kinds):
            return True
        if isinstance(item, dict):
            left += itertools.islice(item.values(), _LOOKED_AT)
        elif isinstance(item, list | tuple):
            left += item[:_LOOKED_AT]
        elif has(type(item), "__pydantic_fields__"):
            left += getattr(item, "__dict__", {}).values()
    return False


def secret_parameters(parameters: Mapping[str, Any]) -> list[str]:
    """Return the names of the secret parameters, in order."""
    return [
        name
        for name, value in parameters.items()
        if (is_secret_name(name) and _says_something(value)) or holds_secret(value) or _names_secret(value)
    ]


def _names_secret(value: object, depth: int = 0) -> bool:
    """Return whether a text in plain containers or fields looks like a secret or has a secret name. The record of a run
    hides the same."""
    if depth > 8 or isinstance(value, type) or type(value).__module__.partition(".")[0] in _TABLES:
        return False
    if isinstance(value, str):
        return redacted_text(value) != value
    if isinstance(value, bytes | bytearray):
        return len(value) <= _LONGEST and _names_secret(value.decode("utf-8", "backslashreplace"))
    if isinstance(value, Mapping):
        return any(_is_named_secret(name, inner, depth) for name, inner in _some(value.items()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(_names_secret(inner, depth + 1) for inner in _some(value))
    fields = getattr(value, "__dict__", None)
    slots = {name: getattr(value, name, None) for name in ask(type(value), "__dataclass_fields__", ())}
    held = {**slots, **(fields if isinstance(fields, dict) else {})}
    return any(_is_named_secret(name, inner, depth) for name, inner in _some(held.items()))


def _is_named_secret(name: object, value: object, depth: int) -> bool:
    if isinstance(name, str) and is_secret_name(name) and _says_something(value):
        return True
    return _names_secret(value, depth + 1)


def _says_something(value: object) -> bool:
    """Return False for None, booleans and empty texts, which contain no secret."""
    return not (value is None or isinstance(value, bool) or (isinstance(value, str | bytes) and not value))


class Redactor:
    """Removes the secrets of a run from texts: known ones, and whatever looks like one."""

    def __init__(self, parameters: Mapping[str, Any] | None = None) -> None:
        known: set[str] = set()
        for name, value in (parameters or {}).items():
            _collect(value, known, secret=is_secret_name(name))
        # The longest first: one may be a prefix of another.
        ordered = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        return redacted_text(text if self._known is None else self._known.sub(HIDDEN, text))

    def facts(self, value: Any) -> Any:
        """Redact all texts in a JSON-compatible value."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {name: self.facts(inner) for name, inner in value.items()}
        return [self.facts(inner) for inner in value] if isinstance(value, list | tuple) else value


def redacted_text(text: str) -> str:
    """Return a text without the passwords in URLs and the values of `password=` and the like.

    If the end of a secret is ambiguous, the longest possible part is removed.
    """
    if "://" in text:
        text = re.sub(_TOKEN_OF_URL, rf"\1{HIDDEN}@", re.sub(_PASSWORD_OF_URL, rf"\1{HIDDEN}@", text))
    text = re.sub(_BEARER, rf"\1{HIDDEN}", text)
    return re.sub(_NAMED, _hidden, text) if "=" in text or ":" in text else text


# Every repetition is bounded, so that no text takes long to match.
_SCHEME = r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,20}://"
_PASSWORD_OF_URL = rf"""(?i)({_SCHEME}[^\s:/?\#@"'<>]{{0,200}}:)[^\s"'<>]{{0,400}}@"""
_TOKEN_OF_URL = rf"""(?i)({_SCHEME})[^\s:/?\#@"'<>]{{16,400}}@"""
_BEARER = r"(?i)\b((?:bearer|basic)\s{1,4})[A-Za-z0-9+/_.~=-]{8,}"
# password=…, ?token=…&, 'password': '…', "api_key": "…", password: SecretStr
_NAMED = (
    rf"""(?i)(?P<name>(?<![A-Za-z0-9_-])(?:[A-Za-z0-9]{{1,40}}[_-]){{0,6}}(?:{_WORDS.replace("_?", "[_-]?")}))"""
    r"""(?P<between>=|["']\s*[:=]\s*)(?P<value>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s"'&,;)\]}]+)"""
)


def _hidden(found: re.Match[str]) -> str:
    value = found["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return f"{found['name']}{found['between']}{quote}{HIDDEN}{quote}"


# -- values

_PLAIN = (str, bytes, bytearray, bool, int, float, complex, type(None))
_TABLES = ("numpy", "pandas", "pyarrow", "polars", "dask", "torch")


def _secret_kinds() -> tuple[type, ...]:
    pydantic = loaded("pydantic")  # its secrets only exist if it was imported
    if pydantic is None:
        return ()
    return _kinds_in(pydantic)


@cache
def _kinds_in(pydantic: Any) -> tuple[type, ...]:
    kinds = (getattr(pydantic, name, None) for name in ("Secret", "SecretStr", "SecretBytes"))
    return tuple(kind for kind in kinds if isinstance(kind, type))


class _Found(Exception):
    """A secret was found."""


def _found_in(value: object, kinds: tuple[type, ...]) -> bool:
    """Search by pickling to nowhere, which visits every part of a value, as storing it would."""
    import cloudpickle

    class Watch(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, met: object) -> None:
            if isinstance(met, kinds):
                raise _Found

    try:
        Watch(_Nowhere()).dump(value)
    except _Found:
        return True
    except BaseException:  # noqa: BLE001 (a value's __reduce__ may do anything; what cannot be pickled is not kept)
        return False
    return False


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _collect(value: object, known: set[str], *, secret: bool, depth: int = 0) -> None:
    """Collect the texts of secrets in a value from plain containers and models."""
    if len(known) >= _MOST_VALUES or depth > 8:
        return
    if is_secret(value):
        _collect(value.get_secret_value(), known, secret=True, depth=depth + 1)  # type: ignore[attr-defined]
    elif isinstance(value, str | bytes):
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        if secret and len(text.strip()) >= _SHORTEST:
            known.update({text, repr(text)[1:-1]})
    elif isinstance(value, Mapping):
        for name, inner in _some(value.items()):
            _collect(inner, known, secret=secret or (isinstance(name, str) and is_secret_name(name)), depth=depth + 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in _some(value):
            _collect(inner, known, secret=secret, depth=depth + 1)
    elif isinstance(fields := getattr(value, "__dict__", None), dict) and not isinstance(value, type):
        _collect(fields, known, secret=secret, depth=depth + 1)


def _some(items: Iterable[Any]) -> Iterable[Any]:
    for number, item in enumerate(items):
        if number >= _MOST_VALUES:
            return
        yield item
