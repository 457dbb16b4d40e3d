"""A server that answers DetectLabels as Rekognition does, and looks at nothing.

For tests and measurements: it counts what it is asked, answers when it is told to, and can be too
busy. Each picture has labels of its own, made from its bytes: a table tells which are whose.
"""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL_VERSION = "3.0"
# A picture has a label from each row.
_KINDS = (("Street", "City"), ("Person", "Human"))


def answer_to(jpeg: bytes) -> dict[str, Any]:
    """Return what the server answers about a picture."""
    digest = hashlib.sha256(jpeg).digest()
    left, top = digest[0] / 512, digest[1] / 512
    box = {"Left": left, "Top": top, "Width": 0.25, "Height": 0.5}
    place, thing = _KINDS
    return {
        "Labels": [
            {
                "Name": f"{place[0]} {digest.hex()[:8]}",
                "Confidence": 50 + digest[2] / 8,
                "Instances": [],
                "Parents": [{"Name": place[1]}],
            },
            {
                "Name": thing[0],
                "Confidence": 99.5,
                "Instances": [{"BoundingBox": box, "Confidence": 60 + digest[3] / 8}] * 2,
                "Parents": [],
            },
        ],
        "LabelModelVersion": MODEL_VERSION,
    }


@dataclass(slots=True)
class StandInRekognition:
    """What the server has seen, and how it is to behave; both may change while it runs.

    Attributes:
        url: Where it is.
        delay_s: Seconds until an answer.
        throttled: So many requests are refused first, as too fast.
        refusal: Name of an error that every request is refused with; "" for none.
        pictures: Those that were answered.
        requests: All that came.
        most_at_once: Requests that were under way together.
    """

    url: str = ""
    delay_s: float = 0.0
    throttled: int = 0
    refusal: str = ""
    pictures: list[bytes] = field(default_factory=list)
    requests: int = 0
    most_at_once: int = 0
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def respond(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Return the status and content of the answer to a request."""
        with self._lock:
            self.requests += 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            is_throttled = self.throttled > 0
            self.throttled -= is_throttled
        try:
            if is_throttled:
                return _error("ThrottlingException", "Rate exceeded")
            if self.refusal:
                return _error(self.refusal, "stand-in")
            time.sleep(self.delay_s)
            jpeg = base64.b64decode(json.loads(body)["Image"]["Bytes"])
            with self._lock:
                self.pictures.append(jpeg)
            return 200, answer_to(jpeg)
        finally:
            with self._lock:
                self._now -= 1


def _error(code: str, message: str) -> tuple[int, dict[str, Any]]:
    return 400, {"__type": code, "message": message}


@contextmanager
def serving(rekognition: StandInRekognition, port: int = 0) -> Iterator[None]:
    """Serve on the loopback address for as long as the `with` block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, content = rekognition.respond(body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        rekognition.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
