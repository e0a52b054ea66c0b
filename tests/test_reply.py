"""Replies of any shape are read or refused, never crashed at; answers' keys mean what they say."""

from __future__ import annotations

import ast
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from dspy.lm15 import InvalidRequestError, ServerError
from hypothesis import given
from hypothesis import strategies as st

from crb_dspy.export._seam import Export, prompts_of
from crb_dspy.export.python import Python
from crb_dspy.models import faults, lacks
from crb_dspy.models.reply import Reply, Unreadable, of_body, read, without_thoughts
from crb_dspy.program.answers import parse
from tests.test_saved import tuned

NAMES = st.sampled_from(
    ["choices", "message", "content", "text", "reasoning", "tool_calls", "function", "arguments",
     "finish_reason", "usage", "prompt_tokens", "completion_tokens", "refusal", "type", "delta"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)
MARKED = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "[THINK]", "<|channel|>final<|message|>", "<|end|>", "{", "}",
         '"GI"', ": []", "a ", "◁think▷", "<thinking ", "</s>"]
    )
).map("".join)  # fmt: skip


@given(JSON)
def test_any_json_is_a_reply_or_is_refused(value: Any) -> None:
    with suppress(Unreadable):
        found = read(value)
        assert isinstance(found, Reply)
        assert isinstance(found.text, str)
        assert found.sent is None or found.sent >= 0


@given(st.text())
def test_any_body_is_read_or_is_refused(body: str) -> None:
    with suppress(Unreadable):
        of_body(body)
    assert isinstance(faults.words_of(body), str)


@given(JSON)
def test_an_error_of_any_shape_has_words(value: Any) -> None:
    assert isinstance(faults.words_of(json.dumps(value)), str)


@given(MARKED | st.text())
def test_thoughts_of_any_kind_are_parted_from_answers(text: str) -> None:
    answer, _, thought = without_thoughts(text)
    assert not (answer and thought)
    parse(answer or thought, ["GI"])


@pytest.mark.parametrize(
    ("keys", "text", "found", "fault"),
    [
        (["GI"], '{"gi": ["a b"]}', {"GI": ["a b"]}, "'gi' in place of 'GI'"),
        (["GI"], '{"Digestive system": ["a b"]}', {"GI": ["a b"]}, "'Digestive system' in place"),
        (["Vitals_Hema"], '{"vitals hema": ["a"]}', {"Vitals_Hema": ["a"]}, "in place of"),
        (["GI"], '{"answer": {"GI": ["a"]}}', {"GI": ["a"]}, "a wrapper around"),
        (["GI"], '{"findings": ["a"]}', {"GI": ["a"]}, "a wrapper around"),
        (["GI", "RESP"], '[{"GI": ["a"]}, {"RESP": ["b"]}]', {"GI": ["a"], "RESP": ["b"]}, "sever"),
        (["GI", "RESP"], '[{"category": "RESP", "quote": "b", "score": 1}]',
         {"GI": [], "RESP": ["b"]}, "records"),
        (["GI"], '{"GI": [{"quote": "a", "confidence": 0.9, "why": "x"}]}', {"GI": ["a"]}, ""),
        (["GI"], '{"GI": [{"text": "a"}, {"evidence": "b"}]}', {"GI": ["a", "b"]}, ""),
        (["GI"], '{"GI": ["a", NaN, 5, true, null]}', {"GI": ["a"]}, "left out: 'nan', '5'"),
        (["GI"], '{"GI": [{"confidence": 0.9}]}', {"GI": []}, "no quotes, left out"),
        (["GI"], '{"GI": ["a"]} or {"GI": ["b"]}', {"GI": ["b"]}, "prose around"),
        (["GI"], '{"GI": ["a"]} since ["x"] is none', {"GI": ["a"]}, "prose around"),
        (["GI"], '{"GI": ["a"], "RESP": ["c', {"GI": ["a"]}, "broken JSON"),
        (["GI"], '{"other": ["a"]}', {"GI": []}, "category left out"),
    ],
)  # fmt: skip
def test_keys_and_items_mean_what_they_say(
    keys: list[str], text: str, found: dict[str, list[str]], fault: str
) -> None:
    answer = parse(text, keys, titles={"GI": "Digestive system"})
    assert answer.findings == found
    assert all(fault in answer.irregular.get(key, "") for key in keys if found[key])
    assert fault or not answer.irregular


def test_what_a_refusal_names_is_most_particular_first() -> None:
    assert lacks.blamed("'maxItems' is not permitted in response_format")[0] == "schema keywords"
    assert lacks.blamed("does not support 'temperature'") == ["temperature"]
    assert lacks.blamed("System role not supported") == ["system"]
    assert lacks.blamed("the system is busy") == []


def test_a_system_prompt_goes_to_the_front_of_the_users() -> None:
    given = {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]}
    assert lacks.without(given, ("system",))["messages"] == [{"role": "user", "content": "S\n\nU"}]
    assert not lacks.has({"messages": given["messages"][1:]}, "system")


def test_errors_are_told_apart_by_whose_they_are() -> None:
    long = faults.known(ServerError("the prompt is too long", status=500))
    assert faults.is_requests_own(long)
    assert "context = TOKENS" in str(long)
    assert not faults.is_refused_form(long)
    filtered = InvalidRequestError("triggered the content management policy", status=400)
    assert faults.is_requests_own(filtered) and not faults.is_refused_form(filtered)
    assert faults.is_refused_form(InvalidRequestError("no", status=400))
    assert not faults.is_requests_own(ServerError("out of memory", status=500))


def test_nothing_in_an_exported_script_is_defined_twice(tmp_path: Path) -> None:
    Python().write(Export(tuned(), prompts_of(tuned())), tmp_path)
    tree = ast.parse((tmp_path / "extract.py").read_text("utf-8"))
    names = Counter(n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef))
    values = (target for n in tree.body if isinstance(n, ast.Assign) for target in n.targets)
    names += Counter(value.id for value in values if isinstance(value, ast.Name))
    # Given its values at the end.
    assert {name for name, times in names.items() if times > 1} <= {"SETTINGS", "PROMPTS"}
