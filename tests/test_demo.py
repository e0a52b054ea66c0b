"""The recorded run: played back without a model, whole, and in the form that servers have."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from crb_dspy.demo import __main__ as command
from crb_dspy.demo.recorded import completion, digest, played, recording, serving
from tests.made_run import home

BODY = {"messages": [{"role": "user", "content": "Which?"}], "max_tokens": 3}


def asked(address: str, body: object) -> bytes:
    data = json.dumps(body).encode()
    request = Request(f"{address}/chat/completions", data, {"Content-Type": "application/json"})
    with urlopen(request) as answer:
        return bytes(answer.read())


def test_a_recorded_question_is_answered_and_another_refused() -> None:
    with serving(played({digest(BODY): ["This.", 5, 2, "length"]})) as address:
        assert json.loads(asked(address, BODY)) == completion("This.", 5, 2, "length")
        other = {"messages": [{"role": "user", "content": "Who?"}]}
        with pytest.raises(HTTPError, match="404"):
            asked(address, other)


def test_two_demos_at_once_have_two_addresses() -> None:
    with serving(played({})) as one, serving(played({})) as other:
        assert one != other


def test_the_recording_says_what_it_is_of() -> None:
    kept = recording()
    assert "rule" in kept["about"]["model"] and len(kept["answers"]) > 50
    for text, sent, written, finish in kept["answers"].values():
        assert json.loads(text) and sent > 0 and written > 0 and finish in ("stop", "length")


@pytest.mark.slow
def test_the_demo_ends_in_a_gain_and_every_question_was_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with home(tmp_path) as place:
        assert command.main([]) == 0
        said = capsys.readouterr().out
        (run,) = place.runs()
        page = (place.out / "report.html").read_text("utf-8")
        assert (place.out / "card.md").is_file()
    stale = "a question is not in the recording: run python bench/record_demo.py"
    assert "not recorded" not in page and "\nerrors     0 of 36 cells" in said, stale
    assert run.data.metrics["cost/lost"] == 0, stale
    assert run.data.metrics["test/difference"] > 0 and ": improved" in said
    assert said.startswith("demo       ") and "recorded on" in said and "\nnext       " in said
    assert 'id="candidates"' in page
