"""A server on loopback that gives recorded answers to recorded questions, in OpenAI's form."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from crb_dspy.files import EXPERIMENTS

# Found as the quickstart is.
DEMO = Path(EXPERIMENTS) / "demo.toml"
# Tried first, so that the demo run twice is the same run; another where it is taken.
PORT = 8753
# An OpenAI-style request, and what it is answered: a chat completion, None where there is none.
Body = dict[str, Any]
Reply = Callable[[Body], Body | None]


def recording() -> dict[str, Any]:
    """Return what was recorded: `about` it, and `answers` by the digest of their question."""
    text = files("crb_dspy.demo").joinpath("answers.json").read_text("utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def digest(body: Mapping[str, Any]) -> str:
    """Return 16 hex digits that change with any message of a request."""
    said = [[message["role"], message["content"]] for message in body["messages"]]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def completion(text: str, sent: int, written: int, finish: str = "stop") -> Body:
    """Return an answer of `written` tokens to a prompt of `sent` in OpenAI's form."""
    message = {"role": "assistant", "content": text}
    used = {"prompt_tokens": sent, "completion_tokens": written, "total_tokens": sent + written}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    told = {"id": "recorded", "object": "chat.completion", "created": 0, "model": "recorded"}
    return {**told, "choices": [choice], "usage": used}


def played(answers: Mapping[str, Any]) -> Reply:
    """Return what answers from a recording."""

    def reply(body: Body) -> Body | None:
        known = answers.get(digest(body))
        return completion(*known) if known else None

    return reply


@contextmanager
def serving(reply: Reply) -> Iterator[str]:
    """Serve on this machine alone until the end of the block; yield the address, with /v1."""
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), _handler(reply))
    except OSError:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(reply))
    with running(server) as address:
        yield address


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Serve until the end of the block; yield the address, with /v1."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Reads and sends whole bodies, keeps connections, and says nothing of its own."""

    protocol_version = "HTTP/1.1"
    # Else small answers wait for the client's delayed acknowledgement.
    disable_nagle_algorithm = True

    def sent(self) -> bytes:
        """Return what was sent."""
        return self.rfile.read(int(self.headers["Content-Length"]))

    def begin(self, status: int, size: int, headers: Mapping[str, str] | None = None) -> None:
        """Send what stands before a body, of JSON where the headers do not say otherwise."""
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def answer(
        self, status: int, payload: object, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send an answer as JSON."""
        data = json.dumps(payload).encode()
        self.begin(status, len(data), headers)
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _handler(reply: Reply) -> type[Handler]:
    class Recorded(Handler):
        def do_POST(self) -> None:
            found = reply(json.loads(self.sent()))
            refused = {"error": {"message": "this question was not recorded", "code": 404}}
            self.answer(200 if found else 404, found or refused)

    return Recorded
