"""Each call of Rekognition is one request, whatever becomes of it: over real HTTP."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.aws import AwsSettings
from pipeline.rekognition import LabelsError, Rekognition

ANSWERS = {
    "ok": (200, b'{"Labels": [], "LabelModelVersion": "3.0"}'),
    "broken": (500, b'{"__type": "InternalServerError", "message": "x"}'),
    "no answer in time": (504, b""),
    "busy": (503, b""),
    "too fast": (400, b'{"__type": "ThrottlingException", "message": "x"}'),
}


@contextmanager
def answering(requests: list[str], how: list[str]) -> Iterator[str]:
    """Serve as `how` says, which may change; note each request that has come whole."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            requests.append(how[0])
            if how[0] == "cut off":
                self.close_connection = True
                return
            status, body = ANSWERS[how[0]]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("has_answered", [False, True])
def test_a_call_is_one_request_whatever_becomes_of_it(has_answered: bool) -> None:
    requests: list[str] = []
    how = ["ok"]
    with answering(requests, how) as url:
        rekognition = Rekognition(AwsSettings(region="eu-central-1", endpoint_url=url))
        if has_answered:
            rekognition.detect_labels(b"x")
        kinds = {}
        for how[0] in ("cut off", "broken", "no answer in time", "busy", "too fast"):
            requests.clear()
            with pytest.raises(LabelsError) as raised:
                rekognition.detect_labels(b"x")
            assert len(requests) == 1, how[0]
            kinds[how[0]] = raised.value.kind
    # What may have been paid for is told from what was not.
    assert kinds == {
        "cut off": "lost",
        "broken": "lost",
        "no answer in time": "lost",
        "busy": "away",
        "too fast": "throttled",
    }
