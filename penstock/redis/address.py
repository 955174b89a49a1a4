"""Redis addresses, read from URLs or arguments, and their credentials, which are never sent with them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from penstock.errors import ConfigurationError
from penstock.objects.texts import did_you_mean

USERNAME_VARIABLE = "PENSTOCK_REDIS_USERNAME"
PASSWORD_VARIABLE = "PENSTOCK_REDIS_PASSWORD"
PASSWORD_FILE_VARIABLE = "PENSTOCK_REDIS_PASSWORD_FILE"

Kind = Literal["one", "socket", "sentinel", "cluster"]

_KINDS: dict[str, Kind] = {"redis": "one", "unix": "socket", "redis+sentinel": "sentinel", "redis+cluster": "cluster"}
_PORTS = {"one": 6379, "cluster": 6379, "sentinel": 26379, "socket": 0}
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_PARAMETERS = ("prefix", "timeout", *_TLS_PARAMETERS)


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The location of a Redis server, without its password."""

    kind: Kind = "one"
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    path: str = ""
    """The path of the socket."""
    master: str = ""
    """The name of the master among the sentinels."""
    db: int = 0
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()
    username: str | None = None
    had_password: bool = False
    """Whether a password was given. In another process it must come from the environment."""
    extras: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Parameters of the URL for the lock manager: prefix, timeout."""

    def __str__(self) -> str:
        user = f"{quote(self.username or '', safe='')}{':***' if self.had_password else ''}@"
        user = user if user != "@" else ""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        db = f"/{self.db}" if self.db else ""
        if self.kind == "socket":
            return f"unix://{user}{self.path}" + (f"?db={self.db}" if self.db else "")
        scheme = "rediss" if self.tls else "redis"
        if self.kind == "sentinel":
            return f"{scheme}+sentinel://{user}{hosts}/{self.master}{db}"
        return f"{scheme}{'+cluster' if self.kind == 'cluster' else ''}://{user}{hosts}{db}"


def parse_url(url: str) -> tuple[RedisAddress, str | None]:
    """Return the address and the password in a URL. Raises `ConfigurationError`, which never shows the password."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.replace("rediss", "redis")
        kind = _KINDS[scheme]
        user, _, places = parts.netloc.rpartition("@")
        username, _, password = (unquote(text) for text in user.partition(":"))
        parameters = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        steps = [unquote(step) for step in parts.path.split("/")[1:] if step]
        hosts = tuple(_host(place, _PORTS[kind]) for place in places.split(",")) if kind != "socket" else ()
        if kind == "socket":
            steps = [parameters.pop("db", "0")]
        master = steps.pop(0) if kind == "sentinel" else ""
        db = int(steps.pop(0)) if steps else 0
        if steps or db < 0 or (kind == "one" and len(hosts) != 1):
            raise ValueError
    except (KeyError, IndexError, ValueError):
        raise ConfigurationError(
            "invalid Redis address",
            where=_without_user(url),
            hint="write redis://host:6379/0, rediss://…, unix:///path/to/socket, redis+sentinel://host,host/master/0 "
            "or redis+cluster://host,host",
        ) from None
    for name in parameters:
        if name not in _PARAMETERS:
            raise ConfigurationError(
                f"Redis addresses have no parameter {name}",
                where=_without_user(url),
                hint=did_you_mean(name, _PARAMETERS, f"the parameters are {', '.join(_PARAMETERS)}"),
            )
    address = RedisAddress(
        kind=kind,
        hosts=hosts,
        path=unquote(parts.path) if kind == "socket" else "",
        master=master,
        db=db,
        tls=parts.scheme.startswith("rediss"),
        tls_options=tuple((name, parameters[name]) for name in _TLS_PARAMETERS if name in parameters),
        username=username or None,
        extras=tuple((name, value) for name, value in parameters.items() if name not in _TLS_PARAMETERS),
    )
    return with_password(address, password or None)


def with_password(address: RedisAddress, password: str | None) -> tuple[RedisAddress, str | None]:
    """Return the address, marked as having a password if there is one, and the password."""
    return replace(address, had_password=password is not None), password


def credentials(address: RedisAddress, password: str | None) -> tuple[str, ...]:
    """Return the arguments of Redis' AUTH: nothing, a password, or a user and a password.

    If no password was given in code, it is read from PENSTOCK_REDIS_PASSWORD, or from the file that
    PENSTOCK_REDIS_PASSWORD_FILE names, again for every connection so that changes take effect. Raises
    `ConfigurationError` if a password is required and none is set.
    """
    username = address.username or os.environ.get(USERNAME_VARIABLE) or None
    if password is None:
        password = os.environ.get(PASSWORD_VARIABLE) or None
    if password is None and (path := os.environ.get(PASSWORD_FILE_VARIABLE)):
        password = _read(path)
    if password is None and (username is not None or address.had_password):
        raise ConfigurationError(
            "the Redis password is not known in this process",
            where=str(address),
            because="passwords are not sent to other processes",
            hint=f"set {PASSWORD_VARIABLE} or {PASSWORD_FILE_VARIABLE} on the machine of this process",
        )
    if password is None:
        return ()
    return (password,) if username is None else (username, password)


def tls_arguments(address: RedisAddress) -> dict[str, Any]:
    """Return the TLS options for redis-py."""
    options: dict[str, Any] = dict(address.tls_options)
    if "ssl_check_hostname" in options:
        options["ssl_check_hostname"] = options["ssl_check_hostname"].lower() in ("1", "true", "yes")
    return {"ssl": True, **options} if address.tls else {}


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except (OSError, UnicodeError) as error:
        raise ConfigurationError(
            "cannot read the file with the Redis password",
            where=path,
            because=f"{type(error).__name__}: {error}",
            hint=f"correct {PASSWORD_FILE_VARIABLE}",
        ) from None


def _host(place: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{place}")
    if not parts.hostname:
        raise ValueError(place)
    return parts.hostname, parts.port or port


def _without_user(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
