"""An OpenAI-style server on loopback that counts, delays and breaks as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fake_model import keys_of

Body = dict[str, Any]
# Text of the answer, or an HTTP status to fail with, perhaps with headers.
Reply = str | int | tuple[int, dict[str, str]]


@dataclass
class FakeServer:
    """What was asked (`bodies`), how many calls were under way at most, and the answers."""

    reply: Callable[[Body], Reply]
    delay: float = 0.0
    bodies: list[Body] = field(default_factory=list)
    most: int = 0
    address: str = ""
    spent: list[int] = field(default_factory=list)
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tokens(self) -> int:
        """The tokens of all answers given, as their usage said."""
        return sum(self.spent)

    def prompts(self) -> list[str]:
        """The user messages that were sent."""
        return [body["messages"][-1]["content"] for body in self.bodies]

    def answer(self, body: Body) -> Reply:
        with self._lock:
            self.bodies.append(body)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            time.sleep(self.delay)
            return self.reply(body)
        finally:
            with self._lock:
                self._now -= 1


def asked_keys(body: Body) -> list[str]:
    """The category keys that a prompt asks for."""
    return keys_of(body["messages"][-1]["content"])


def empty(body: Body) -> Reply:
    """Find nothing."""
    if "Task:" not in body["messages"][-1]["content"]:
        return '{"answer": ["yes"]}'
    return json.dumps({key: [] for key in asked_keys(body)})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that left before their answer."""


@contextmanager
def serving(reply: Callable[[Body], Reply] = empty, delay: float = 0.0) -> Iterator[FakeServer]:
    fake = FakeServer(reply, delay)
    server = _Server(("127.0.0.1", 0), _handler(fake))
    fake.address = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else small answers wait for the client's delayed acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            reply = fake.answer(body)
            if isinstance(reply, str):
                payload = _completion(body, reply)
                fake.spent.append(payload["usage"]["total_tokens"])
                self._send(200, payload, {})
            else:
                status, headers = (reply, {}) if isinstance(reply, int) else reply
                self._send(status, _failure(status, self.headers["Authorization"]), headers)

        def _send(self, status: int, payload: Body, headers: dict[str, str]) -> None:
            data = json.dumps(payload).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _failure(status: int, key: str) -> Body:
    """Say what was wrong as careless servers do: with the key that was sent."""
    message = f"broken with {status} for {key}"
    return {"error": {"message": message, "code": status}}


def _completion(body: Body, text: str) -> Body:
    sent = sum(len(message["content"]) for message in body["messages"]) // 4
    return {
        "id": "fake",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": sent,
            "completion_tokens": len(text) // 4,
            "total_tokens": sent + len(text) // 4,
        },
    }
