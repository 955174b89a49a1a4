"""What Ray keeps to itself and there is no public way to: all of it that is used stands here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_IS_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def default_address(temporary_folder: str | None) -> str:
    """The address that Ray means by `auto`. Raises `ConnectionError` if there is none."""
    from ray._private import services
    from ray._private.authentication import authentication_token_setup as setup

    with contextlib.suppress(AttributeError):  # Rays before 2.60 have no such default
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return str(services.get_ray_address_from_environment("auto", temporary_folder))


def token_headers() -> dict[str, str]:
    """The header with the token that Ray will send from here."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return {}  # asked for one that is not there, Ray ends the process
    headers: dict[str, Any] = get_auth_headers_if_auth_enabled({})
    return {name.lower(): str(value) for name, value in headers.items()}


def raylet_socket() -> str | None:
    """The socket of the process by which this one is connected to Ray."""
    import ray

    here: Any = ray._private.worker._global_node
    return getattr(here, "raylet_socket_name", None)


def replace_printing(show: Callable[..., Any]) -> Callable[..., Any]:
    """Have lines of workers' streams shown by this; returns what showed them before."""
    from ray._private import worker

    before: Callable[..., Any] = worker.print_to_stdstream
    worker.print_to_stdstream = show
    return before


def task_name_line(label: str) -> bytes:
    """The line in a worker's stream that says whose the lines behind it are."""
    from ray._private.ray_constants import LOG_PREFIX_TASK_NAME

    return f"{LOG_PREFIX_TASK_NAME}{label}\n".encode()


@contextlib.contextmanager
def on_loopback(options: Mapping[str, Any]) -> Iterator[None]:
    """A Ray that is started in this block has this machine for all of its world, and listens on 127.0.0.1.

    Ray does so by itself where firewalls would ask (on macOS and Windows), and has one switch for it: a variable for
    the processes that it starts, read into a constant in this one. Whoever set the variable has decided, and so have
    `options` that say, or may say, where it listens.
    """
    if _IS_CLUSTER in os.environ or {"_node_ip_address", "_system_config"} & options.keys():
        yield
        return
    from ray._private import ray_constants as constants

    before = constants.ENABLE_RAY_CLUSTER
    os.environ[_IS_CLUSTER], constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before
        del os.environ[_IS_CLUSTER]
