"""A server between us and S3 that has bad days: it asks to slow down, and cuts connections."""

import http.client
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

SLOW_DOWN = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"""
REFUSED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>CODE</Code><Message>No.</Message></Error>"""
_REQUESTS_A_CONNECTION = 3
_OWN_HEADERS = ("connection", "transfer-encoding", "date", "server")


@dataclass
class BadDays:
    """What the proxy does to whom: every so manieth request or connection; 0 means none.

    Attributes:
        slow_every: It is answered with 503.
        cut_every: It is broken off in the middle of an answer.
        cut_first: So many connections are broken off first of all.
        refusal: Status and S3's code that requests are answered with; none means that they are not.
        refuses: Which of them, by method and path.
        refused: The body of that answer.
        requests: Method and path of each.
    """

    upstream: str
    slow_every: int = 0
    cut_every: int = 0
    cut_first: int = 0
    refusal: tuple[int, str] | None = None
    refuses: Callable[[str, str], bool] = lambda method, path: True  # noqa: ARG005
    refused: bytes = REFUSED
    slowed: int = 0
    cut: int = 0
    connections: int = 0
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True

    def __init__(self, days: BadDays) -> None:
        self.days = days
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        # Whoever was cut off has gone.
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.served, days = 0, self.server.days
        with days.lock:
            days.connections += 1
            is_due = bool(days.cut_every) and days.connections % days.cut_every == 0
            self.is_cut = is_due or days.connections <= days.cut_first

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        days = self.server.days
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with days.lock:
            days.requests.append((self.command, self.path))
            is_slowed = days.slow_every and len(days.requests) % days.slow_every == 0
            days.slowed += bool(is_slowed)
        self.served += 1
        if is_slowed:
            self._answer(503, {"Content-Type": "application/xml"}, SLOW_DOWN)
            return
        if days.refusal and days.refuses(self.command, self.path):
            status, code = days.refusal
            elsewhere = {"x-amz-bucket-region": "eu-central-1"}
            self._answer(status, elsewhere, days.refused.replace(b"CODE", code.encode()))
            return
        status, headers, content = self._ask_upstream(body)
        if self.is_cut:
            self._cut_off(status, headers, content)
        else:
            self._answer(status, headers, content)

    def _ask_upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(urlsplit(self.server.days.upstream).netloc)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
        upstream.request(self.command, self.path, body, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        kept = {name: v for name, v in answer.getheaders() if name.lower() not in _OWN_HEADERS}
        return answer.status, kept, content

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        is_head = self.command == "HEAD"
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or is_head:
                self.send_header(name, value)
        if not is_head and status != http.client.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        if self.served >= _REQUESTS_A_CONNECTION:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self.wfile.write(b"" if is_head else content)

    def _cut_off(self, status: int, headers: dict[str, str], content: bytes) -> None:
        """Send half of what there is, and vanish: a reset, not an end."""
        with self.server.days.lock:
            self.server.days.cut += 1
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def flaky_proxy(days: BadDays) -> Iterator[str]:
    """Run a proxy for as long as the `with` block runs; give its address."""
    with _Server(days) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
