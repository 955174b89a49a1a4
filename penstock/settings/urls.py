"""URLs of settings without the secrets that they may hold."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """A URL without the password of its user part and without the values of parameters that sound secret.

    Where `/`, `?` or `@` in a password make the end of it doubtful, too much is left out rather than too little.
    """
    if "://" not in url:
        return url
    return re.sub(_SECRET_PARAMETER, r"\1***", re.sub(_PASSWORD, r"\1***@", url))


def without_password(url: str | None) -> str | None:
    """A URL as it may travel: where it arrives, the password comes from the environment."""
    return re.sub(_USER, r"\1@", url) if url and "://" in url else url


# Texts, which `re` compiles when they are first asked for: most settings hold no URL.
_PASSWORD = r"(?is)^([a-z][a-z0-9+.-]*://[^:/?#@]*:).*@"
_USER = r"(?i)^([a-z][a-z0-9+.-]*://[^:/?#@]*):[^/?#]*@"
_SECRET_PARAMETER = r"(?i)([?&](?:[^=&#]*(?:pass|pwd|secret|token|credential|signature|key)[^=&#]*|sig)=)[^&#]*"
