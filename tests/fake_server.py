"""An OpenAI-style server on loopback that counts, delays and breaks as a test wants."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any

from crb_dspy.demo import recorded
from crb_dspy.demo.recorded import Handler, running
from tests.fake_model import keys_of

Body = dict[str, Any]


@dataclass(frozen=True)
class Raw:
    """A reply word for word; with a `pause`, one byte after so many seconds."""

    payload: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0

    @property
    def data(self) -> bytes:
        if isinstance(self.payload, bytes):
            return self.payload
        return json.dumps(self.payload).encode()


# Text of the answer, or an HTTP status to fail with, perhaps with headers.
Reply = str | int | tuple[int, dict[str, str]] | Raw


@dataclass
class FakeServer:
    """What was asked (`bodies`), how many calls were under way at most, and the answers."""

    reply: Callable[[Body], Reply]
    delay: float = 0.0
    bodies: list[Body] = field(default_factory=list)
    most: int = 0
    address: str = ""
    spent: list[int] = field(default_factory=list)
    # What GET /v1/models lists, and the key without which nothing is answered.
    models: list[Body] = field(default_factory=list)
    key: str = ""
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
    with running(_Server(("127.0.0.1", 0), _handler(fake))) as fake.address:
        yield fake


def _handler(fake: FakeServer) -> type[Handler]:
    class Fake(Handler):
        def do_GET(self) -> None:
            self.answer(*_listed(fake, self.path, self.headers["Authorization"]))

        def do_POST(self) -> None:
            body = json.loads(self.sent())
            reply = fake.answer(body)
            if isinstance(reply, Raw):
                _write(self, reply)
            elif isinstance(reply, str):
                payload = completion(body, reply)
                fake.spent.append(payload["usage"]["total_tokens"])
                self.answer(200, payload)
            else:
                status, headers = (reply, {}) if isinstance(reply, int) else reply
                self.answer(status, _failure(status, self.headers["Authorization"]), headers)

    return Fake


def _listed(fake: FakeServer, path: str, key: str) -> tuple[int, Body]:
    if fake.key and key != f"Bearer {fake.key}":
        return 401, {"error": {"message": "invalid api key"}}
    if path == "/v1/models" and fake.models:
        return 200, {"object": "list", "data": fake.models}
    return 404, {"error": "not found"}


def _write(handler: Handler, raw: Raw) -> None:
    handler.begin(raw.status, len(raw.data), raw.headers)
    size = 1 if raw.pause else len(raw.data) or 1
    for at in range(0, len(raw.data), size):
        handler.wfile.write(raw.data[at : at + size])
        time.sleep(raw.pause)


def _failure(status: int, key: str) -> Body:
    """Say what was wrong as careless servers do: with the key that was sent."""
    message = f"broken with {status} for {key}"
    return {"error": {"message": message, "code": status}}


def completion(body: Body, text: str) -> Body:
    sent = sum(len(message["content"]) for message in body["messages"]) // 4
    return recorded.completion(text, sent, len(text) // 4) | {"id": "fake", "model": body["model"]}
