"""A gRPC call without a gRPC package, to find out whether a server answers and accepts this process.

Any gRPC server answers the first bytes of HTTP/2 with its settings, and a call with a status.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
"""The first bytes of an HTTP/2 client, with default settings."""
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_ACKNOWLEDGED = _END_OF_STREAM = 1
_END_OF_HEADERS = 4
_STATUS = b"grpc-status"
UNAUTHENTICATED = _STATUS + b"\x0216"
"""Part of the answer to a call that is refused because of missing or wrong credentials."""


def greets(connection: socket.socket) -> bool:
    """Start a connection, and return whether the server speaks HTTP/2. Raises `OSError` if it does not answer."""
    connection.sendall(_PREFACE)
    answer = connection.recv(9)
    return len(answer) > 3 and answer[3] == _SETTINGS


def call(connection: socket.socket, *, authority: str, path: str, message: bytes, headers: Mapping[str, str]) -> bytes:
    """Make the first call after `greets`.

    Returns:
        The unparsed answer up to its status, or less if the connection breaks.
    """
    sent = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        **headers,
    }
    begin = _frame(_HEADERS, _END_OF_HEADERS, 1, b"".join(_literal(*each) for each in sent.items()))
    data = _frame(_DATA, _END_OF_STREAM, 1, b"\0" + len(message).to_bytes(4, "big") + message)
    answer = b""
    try:
        connection.sendall(_frame(_SETTINGS, _ACKNOWLEDGED, 0, b"") + begin + data)
        while _STATUS not in answer[:-4] and (more := connection.recv(4096)):
            answer += more
    except OSError:
        pass  # return what was received
    return answer


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + content


def _literal(name: str, value: str) -> bytes:
    """Return a header without compression and indexing."""
    return b"\0" + encoded(name) + encoded(value)


def encoded(text: str) -> bytes:
    """Return a text as HTTP/2 encodes it in headers."""
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    length, rest = b"\x7f", len(data) - 127  # in the seven bits that follow, and as many more as it takes
    while rest > 127:
        length, rest = length + bytes([rest % 128 + 128]), rest // 128
    return length + bytes([rest]) + data
