"""URLs of settings without the secrets that they may hold."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """A URL without the password of its user part and without the values of parameters that sound secret.

    Where `/`, `?` or `@` in a password make the end of it doubtful, too much is left out rather than too little.
    """
    if "://" not in url:
        return url
    return _SECRET_PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1***@", url))


def without_password(url: str | None) -> str | None:
    """A URL as it may travel: where it arrives, the password comes from the environment."""
    return _USER.sub(r"\1@", url) if url else url


_PASSWORD = re.compile(r"^([a-z][a-z0-9+.-]*://[^:/?#@]*:).*@", re.IGNORECASE | re.DOTALL)
_USER = re.compile(r"^([a-z][a-z0-9+.-]*://[^:/?#@]*):[^/?#]*@", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"([?&](?:[^=&#]*(?:pass|pwd|secret|token|credential|signature|key)[^=&#]*|sig)=)[^&#]*", re.IGNORECASE
)
