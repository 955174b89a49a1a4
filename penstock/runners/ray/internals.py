"""All uses of Ray's private interfaces, where no public one exists."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_IS_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def default_address(temporary_folder: str | None) -> str:
    """Return the address that Ray uses for `auto`. Raises `ConnectionError` if there is none."""
    from ray._private import services
    from ray._private.authentication import authentication_token_setup as setup

    with contextlib.suppress(AttributeError):  # versions before 2.60 have no such default
        setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    return str(services.get_ray_address_from_environment("auto", temporary_folder))


def token_headers() -> dict[str, str]:
    """Return the header with the token that Ray sends from this process."""
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return {}  # Ray ends the process if a token is required and missing
    headers: dict[str, Any] = get_auth_headers_if_auth_enabled({})
    return {name.lower(): str(value) for name, value in headers.items()}


def raylet_socket() -> str | None:
    """Return the socket of the raylet to which this process is connected."""
    import ray

    here: Any = ray._private.worker._global_node
    return getattr(here, "raylet_socket_name", None)


def replace_printing(show: Callable[..., Any]) -> Callable[..., Any]:
    """Replace the function that shows lines of workers' streams, and return the previous one."""
    from ray._private import worker

    before: Callable[..., Any] = worker.print_to_stdstream
    worker.print_to_stdstream = show
    return before


def task_name_line(label: str) -> bytes:
    """Return the line in a worker's stream that names the task of the lines after it."""
    from ray._private.ray_constants import LOG_PREFIX_TASK_NAME

    return f"{LOG_PREFIX_TASK_NAME}{label}\n".encode()


@contextlib.contextmanager
def on_loopback(options: Mapping[str, Any]) -> Iterator[None]:
    """Return a context manager in which a new Ray uses only this machine, and listens on 127.0.0.1.

    Ray does that by default on macOS and Windows, where firewalls would ask. It has one switch for it: an environment
    variable for the processes that it starts, which is read into a constant in this process. Nothing is changed if the
    variable is set, or if `options` may state where Ray listens.
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
