"""Batch APIs: requests sent as files, answered within a day, at half the price."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from crb_dspy.errors import RunError, one_line
from crb_dspy.files import as_json, write_whole
from crb_dspy.models.direct import OWN, Fields
from crb_dspy.models.prices import dollars
from crb_dspy.models.server import Unanswered

# Limits of one file of OpenAI's API: requests, bytes.
MOST, LARGEST = 50_000, 200_000_000
# Seconds between two looks at a batch: at first, then doubled each time, at most.
SOON, LATE = 5.0, 60.0
# How a batch ends, and what its calls cost of what they would cost one by one.
_OVER = ("completed", "failed", "expired", "cancelled")
PRICE = 0.5
_OK = 200
ENDPOINT = "/v1/chat/completions"


class Batches:
    """The requests of a run in a folder, what became of them, and their answers.

    `connected` are the arguments of every LiteLLM call. The folder holds requests (the reports'
    texts among them), the answers, and which batch is under way: whoever opens it again goes on.
    Called as LiteLLM is, it gives the answers that are there.
    """

    def __init__(
        self,
        folder: Path,
        connected: Mapping[str, Any],
        api: Any = None,
    ) -> None:
        self._folder, self._api = folder, api or _Api(connected)
        self._model = connected["model"].partition("/")[2] or connected["model"]
        folder.mkdir(parents=True, exist_ok=True)
        # By key: the file of an answer, and where it begins there.
        self._answers: dict[str, tuple[Path, int]] = {}
        self._pending: set[str] = set()
        # What failed in a batch is sent again by the next start only.
        self._sent: set[str] = set()
        for path in sorted(folder.glob("answers-*.jsonl")):
            self._index(path)

    def __call__(self, **given: Any) -> Any:
        """Return an answer; Unanswered for what no batch has answered: nothing is asked singly."""
        if (answer := self.answer(_key(_asked(given)))) is None:
            raise Unanswered("not answered in its batch")
        return answer

    def answer(self, key: str) -> Fields | None:
        """Return the reply to a request, None if there is none yet."""
        if key not in self._answers:
            return None
        path, start = self._answers[key]
        with path.open("rb") as file:
            file.seek(start)
            line = json.loads(file.readline(), object_hook=Fields)
        reply: Fields = line.response.body
        cost = dollars(self._model, reply.usage or Fields()) * PRICE
        reply["_hidden_params"] = {"response_cost": cost}
        return reply

    def want(self, given: Mapping[str, Any]) -> Fields | None:
        """Return the reply to a request, or note that it is to be sent."""
        body = _asked(given)
        key = _key(body)
        if (reply := self.answer(key)) is None and key not in self._sent:
            self._sent.add(key)
            self._pending.add(key)
            line = {
                "custom_id": key,
                "method": "POST",
                "url": ENDPOINT,
                "body": {"model": self._model, **body},
            }
            with (self._folder / "wanted.jsonl").open("a") as file:
                file.write(f"{as_json(line)}\n")
        return reply

    @property
    def wanted(self) -> int:
        """How many requests are to be sent."""
        return len(self._pending)

    def begin(self) -> None:
        """Forget what was wanted and not sent."""
        (self._folder / "wanted.jsonl").unlink(missing_ok=True)
        self._pending.clear()

    def send(self) -> None:
        """Send what is wanted, in as many batches as it takes."""
        wanted = self._folder / "wanted.jsonl"
        for lines in _chunks(wanted):
            name = f"{len(self._state()) + 1:03d}"
            path = self._folder / f"requests-{name}.jsonl"
            write_whole(path, "".join(lines))
            file = self._try(self._api.upload, path)
            self._note(name, {"batch": self._try(self._api.create, file), "status": "sent"})
        self.begin()

    def wait(self, say: Callable[[str], None]) -> None:
        """Wait until no batch is under way and fetch their answers; RunError if one failed."""
        pause, failed = SOON, ""
        while under_way := {n: s for n, s in self._state().items() if s["status"] not in _OVER}:
            for name, state in under_way.items():
                batch = self._try(self._api.look, state["batch"])
                say(f"batch {state['batch']}: {batch.status}")
                if batch.status in _OVER:
                    self._fetch(name, batch)
                    self._note(name, {**state, "status": batch.status})
                    failed = failed or (batch.status != "completed" and batch.status) or ""
            if any(state["status"] not in _OVER for state in self._state().values()):
                time.sleep(pause)
                pause = min(2 * pause, LATE)
        if failed:
            raise RunError(f"a batch has {failed}; the same command sends again what has no answer")

    def _fetch(self, name: str, batch: Any) -> None:
        if file := getattr(batch, "output_file_id", None):
            path = self._folder / f"answers-{name}.jsonl"
            write_whole(path, self._try(self._api.content, file).decode("utf-8"))
            self._index(path)

    def _index(self, path: Path) -> None:
        start = 0
        with path.open("rb") as file:
            for line in file:
                entry = json.loads(line)
                # What failed is wanted again by the next start.
                if (entry.get("response") or {}).get("status_code") == _OK:
                    self._answers[entry["custom_id"]] = path, start
                start += len(line)

    def _state(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads((self._folder / "state.json").read_text())
        except FileNotFoundError:
            return {}
        return found

    def _note(self, name: str, state: Mapping[str, str]) -> None:
        state = {**self._state(), name: dict(state)}  # type: ignore[dict-item]
        write_whole(self._folder / "state.json", as_json(state, indent=1))

    def _try(self, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except Exception as error:
            said = f"{self._model}: the batch API fails: {one_line(error)}"
            raise RunError(f"{said}; the same command goes on") from error


class _Api:
    """LiteLLM's calls for files and batches."""

    def __init__(self, connected: Mapping[str, Any]) -> None:
        import litellm

        self._litellm = litellm
        self._given = {n: its for n, its in connected.items() if n in ("api_base", "api_key")}
        self._given["custom_llm_provider"] = connected["model"].partition("/")[0]

    def upload(self, path: Path) -> str:
        """Return the id of a file that was sent."""
        with path.open("rb") as file:
            sent = (path.name, file.read())
        return str(self._litellm.create_file(file=sent, purpose="batch", **self._given).id)

    def create(self, file: str) -> str:
        """Return the id of a batch."""
        made = self._litellm.create_batch(
            completion_window="24h", endpoint=ENDPOINT, input_file_id=file, **self._given
        )
        return str(made.id)

    def look(self, batch: str) -> Any:
        """Return a batch as it is now."""
        return self._litellm.retrieve_batch(batch_id=batch, **self._given)

    def content(self, file: str) -> bytes:
        """Return a file."""
        return bytes(self._litellm.file_content(file_id=file, **self._given).content)


def _asked(given: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: its for name, its in given.items() if name not in (*OWN, "extra_body")}
    body |= given.get("extra_body") or {}
    # A file of answers is never streamed.
    return {name: its for name, its in body.items() if name != "stream"}


def _key(body: Mapping[str, Any]) -> str:
    return sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _chunks(path: Path) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    with path.open("r", encoding="utf-8") as file:
        for line in file:
            length = len(line.encode())
            if chunk and (len(chunk) == MOST or size + length > LARGEST):
                yield chunk
                chunk, size = [], 0
            chunk.append(line)
            size += length
    if chunk:
        yield chunk
