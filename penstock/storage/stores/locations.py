"""Parsing and formatting addresses of buckets and folders in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

from penstock.errors import ConfigurationError
from penstock.objects.texts import did_you_mean


@dataclass(frozen=True, slots=True)
class Location:
    """A bucket, a folder in it, and options."""

    scheme: str
    bucket: str
    prefix: str
    """The folder: empty, or ending in `/`."""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> str:
        query = f"?{urlencode(self.options)}" if self.options else ""
        return self.path(self.prefix).rstrip("/") + query

    def path(self, key: str) -> str:
        """Return the address of an object for fsspec, DuckDB and others."""
        return f"{self.scheme}://{self.bucket}/{key}"

    def option(self, name: str) -> str | None:
        return dict(self.options).get(name)


TRUSTED = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""What the option `trusted` of an address may be."""


def no_such_option(name: str, known: Sequence[str], *, where: str) -> ConfigurationError:
    """Return the error for an unknown option of an address."""
    hint = did_you_mean(name, known, f"the options are {', '.join(known)}")
    return ConfigurationError(f"addresses of this store have no option {name}", where=where, hint=hint, name=name)


def parse_location(address: str, *, known: Sequence[str]) -> Location:
    """Parse `s3://bucket/folder?option=value`. Raises `ConfigurationError`, also if the address contains secrets."""
    parts = urlsplit(address)
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the address of a store must not contain credentials",
            where=shown,
            because="addresses are written to records and logs",
            hint="put them where the service's own tools find them, such as AWS_PROFILE or ~/.aws/credentials",
        )
    prefix = parts.path.strip("/")  # not decoded: no tool decodes %20 in such an address
    options = parse_qsl(parts.query, keep_blank_values=True)
    if not parts.netloc or parts.fragment or any(segment in ("", ".", "..") for segment in prefix.split("/") if prefix):
        raise ConfigurationError(
            "the address of a store must consist of a bucket and a folder in it",
            where=shown,
            hint=f"for example {parts.scheme}://my-bucket/penstock",
        )
    for name, value in options:
        if name not in known:
            raise no_such_option(name, known, where=shown)
        if not value or "@" in value or (name == "trusted" and value not in TRUSTED):
            hint = f"write {name}=VALUE" if name != "trusted" else "write trusted=true"
            raise ConfigurationError(f"invalid value of {name}", where=shown, hint=hint, name=name)
    return Location(parts.scheme, parts.netloc, f"{prefix}/" if prefix else "", tuple(sorted(options)))
