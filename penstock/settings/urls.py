"""URLs in settings without their secrets."""

from __future__ import annotations

import re


def redacted(url: str) -> str:
    """Return a URL without its password and without the values of parameters whose names suggest a secret.

    If `/`, `?` or `@` in a password make its end ambiguous, the longest possible part is removed.
    """
    if "://" not in url:
        return url
    return re.sub(_SECRET_PARAMETER, r"\1***", re.sub(_PASSWORD, r"\1***@", url))


def without_password(url: str | None) -> str | None:
    """Return a URL that can be sent to workers, which read the password from their environment."""
    return re.sub(_USER, r"\1@", url) if url and "://" in url else url


# Not compiled here but on first use: most settings contain no URL.
_PASSWORD = r"(?is)^([a-z][a-z0-9+.-]*://[^:/?#@]*:).*@"
_USER = r"(?i)^([a-z][a-z0-9+.-]*://[^:/?#@]*):[^/?#]*@"
_SECRET_PARAMETER = r"(?i)([?&](?:[^=&#]*(?:pass|pwd|secret|token|credential|signature|key)[^=&#]*|sig)=)[^&#]*"
