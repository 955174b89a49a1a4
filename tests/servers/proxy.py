"""An HTTP proxy that loses, delays, repeats and damages, as a test decides. It changes no byte of what it forwards.

    with FaultProxy(endpoint.url) as proxy:
        proxy.fault("lose answer", method="PUT", part="record.json", times=1)
        store = ...                                    # through proxy.url
        proxy.seen                                     # [("PUT", "/bucket/…"), …]

The faults: `lose answer` forwards and closes the connection without an answer; `late` holds the request until `release`
is called, and answers nobody; `twice` forwards it two times and returns the second answer; `refuse` answers `status`
itself; `cut` passes half of the answer's body; `stall` answers nothing until `release`; `drop` closes the connection at
once.
"""

from __future__ import annotations

import http.client
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(slots=True)
class Fault:
    kind: str
    method: str
    part: str
    times: int
    status: int


class FaultProxy:
    """A proxy between a client and `url`."""

    def __init__(self, url: str) -> None:
        self.seen: list[tuple[str, str]] = []
        self.late: list[threading.Thread] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._happened = threading.Condition(self._lock)
        upstream = urlsplit(url)
        handler = type("Handler", (_Handler,), {"proxy": self, "upstream": (upstream.hostname, upstream.port)})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault(self, kind: str, *, method: str = "", part: str = "", times: int = 1, status: int = 503) -> None:
        """Apply this fault to the next `times` requests of this method whose path contains `part`."""
        with self._lock:
            self._faults.append(Fault(kind, method, part, times, status))

    def heal(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def release(self) -> None:
        """Release what is held; return when late requests have been delivered."""
        self._released.set()
        for thread in self.late:
            thread.join(100)

    def wait_for(self, method: str, part: str, *, seconds: float = 30.0) -> bool:
        """Wait until such a request has come."""
        with self._happened:
            return self._happened.wait_for(lambda: self.count(method, part) > 0, seconds)

    def count(self, method: str, part: str = "") -> int:
        return sum(1 for how, path in self.seen if how == method and part in path)

    def take(self, method: str, path: str) -> Fault | None:
        """Record a request and return its fault."""
        with self._happened:
            self.seen.append((method, path))
            self._happened.notify_all()
            for fault in self._faults:
                if fault.times > 0 and fault.method in ("", method) and fault.part in path:
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    proxy: ClassVar[FaultProxy]
    upstream: ClassVar[tuple[str, int]]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True  # the client gave up

    def _serve(self) -> None:
        fault = self.proxy.take(self.command, unquote(self.path))
        if fault is not None and fault.kind == "drop":
            return self._hang_up()
        body = self._body()
        kind = fault.kind if fault else ""
        if kind == "refuse":
            assert fault is not None
            return self._answer(fault.status, [("Content-Type", "application/xml")], _ERROR.get(fault.status, b""))
        if kind == "late":
            thread = threading.Thread(target=self._deliver_late, args=(self.command, self.path, self._sent(), body))
            self.proxy.late.append(thread)
            thread.start()
            return self._hang_up()
        if kind == "stall":
            self.proxy._released.wait()
            return self._hang_up()
        if kind == "twice":
            self._forward(self.command, self.path, self._sent(), body)
        status, headers, answer = self._forward(self.command, self.path, self._sent(), body)
        if kind == "lose answer":
            return self._hang_up()
        if kind == "cut":
            self._answer(status, headers, answer, cut=True)
            return self._hang_up()
        self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _sent(self) -> list[tuple[str, str]]:
        return [(name, value) for name, value in self.headers.items() if name.lower() != "expect"]

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            raise NotImplementedError("chunked requests")
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _deliver_late(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.proxy._released.wait()
        self._forward(method, path, headers, body)

    def _forward(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Any:
        connection = http.client.HTTPConnection(*self.upstream, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        pass


_ERROR = {
    code: f"<Error><Code>{name}</Code><Message>as the test says</Message></Error>".encode()
    for code, name in {
        403: "AccessDenied",
        409: "ConditionalRequestConflict",
        500: "InternalError",
        501: "NotImplemented",
        503: "SlowDown",
    }.items()
}
