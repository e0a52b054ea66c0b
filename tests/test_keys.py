"""Any identifier names a category: a name that is taken gets a key that works everywhere."""

from __future__ import annotations

import inspect
import json
import keyword
import re
from pathlib import Path

import dspy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crb_dspy.catalog import build_program, names
from crb_dspy.data.benchmarks import load
from crb_dspy.data.benchmarks.predictions import read_predictions
from crb_dspy.data.cases import Case
from crb_dspy.data.reserved import RESERVED, safe
from crb_dspy.data.schema import FOLDER, Category, Schema, load_schema
from crb_dspy.errors import UserError
from crb_dspy.origin import Origin
from crb_dspy.program import ExtractionProgram, Part
from crb_dspy.saved import Saved, load_program, write_program
from tests.fake_model import fake_model, keys_of

WHOLE = load_schema("casereportbench")


def schema(*keys: str) -> Schema:
    made = [Category(key=key, title=key, guidance="any", instruction="Quote.") for key in keys]
    return Schema(name="mine", category=tuple(made))


def members() -> set[str]:
    """All names that DSPy's and this project's objects have where categories become attributes."""
    signature = dspy.make_signature({"report": (str, dspy.InputField())}, "x")
    found = {name for one in (signature, type(signature)) for name in dir(one)}
    found |= {name for kind in (dspy.Prediction, ExtractionProgram, Part) for name in dir(kind)}
    for kind in (dspy.Prediction, dspy.Example):
        found |= set(inspect.signature(kind.__init__).parameters) - {"args", "kwargs"}
    for name in names("programs"):
        program = build_program(name, WHOLE, {})
        own = set(dir(program)) | {n for part in program.parts.values() for n in dir(part)}
        found |= own - set(WHOLE.keys) - set(program.parts)
    return {name for name in found if re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name)}


def test_all_names_that_are_taken_are_reserved() -> None:
    assert members() - RESERVED == set()
    assert not RESERVED & set(WHOLE.keys) & set(load_schema("maccrobat").keys)


NAMES = ["report", "reasoning", "keys", "fields", "signature", "score", "found", "forward", "demos"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_works_under_a_key_of_its_own(name: str, tmp_path: Path) -> None:
    path, cases, given = (tmp_path / n for n in ("mine.toml", "cases.jsonl", "pred.jsonl"))
    path.write_text(
        f'[[category]]\nkey = "{name}"\ntitle = "T"\nguidance = "g"\ninstruction = "Quote."\n'
    )
    made = load_schema(str(path))
    assert made.keys == (f"{name}_",) == made.select([name]).keys == made.select(made.keys).keys
    for key in (name, f"{name}_"):
        line = {"id": "c", "sections": {"Case": "She vomited."}, "gold": {key: ["vomited"]}}
        cases.write_text(json.dumps(line))
        (case,) = load(str(cases), made).cases
        assert case.gold == {f"{name}_": ("vomited",)}
        given.write_text(json.dumps({"id": "c", "findings": {key: ["vomited"]}}))
        read = read_predictions(given, made.keys, ["c"])
        assert read == {"c": {f"{name}_": ["vomited"]}}


def test_a_name_and_its_key_are_one_category(tmp_path: Path) -> None:
    path, rest = tmp_path / "mine.toml", 'title = "T"\nguidance = "g"\ninstruction = "Quote."\n'
    path.write_text("".join(f'[[category]]\nkey = "{k}"\n{rest}' for k in ("report", "report_")))
    with pytest.raises(UserError, match="key 'report_' stands for two categories"):
        load_schema(str(path))


def test_keys_that_are_free_are_what_they_were() -> None:
    for known in ("casereportbench", "maccrobat"):
        text = (FOLDER / f"{known}.toml").read_text("utf-8")
        assert load_schema(known).keys == tuple(re.findall(r'^key = "(.*)"', text, re.M))


plain = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)
# Taken names too, by the keys that they get.
keys = (plain | st.sampled_from([*keyword.kwlist, *sorted(RESERVED)])).map(safe)


# One of them asks nothing.
ASKING = [name for name in names("programs") if name != "given"]


@given(st.lists(keys, min_size=1, max_size=3, unique=True), st.sampled_from(ASKING))
@settings(max_examples=25)
def test_any_identifier_works_in_every_program(chosen: list[str], program: str) -> None:
    made = schema(*chosen)
    case = Case("c", {"Case": "She vomited."})

    def reply(prompt: str) -> str:
        return json.dumps({key: ["vomited"] for key in keys_of(prompt)})

    with fake_model(reply):
        built = build_program(program, made, {})
        found = built(case=case)
    assert not found.errors
    assert {key: found[key] for key in chosen} == {key: ["vomited"] for key in chosen}


@given(keys)
@settings(max_examples=10)
def test_its_program_can_be_saved(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    made = schema(key)
    about = Origin(program="category_specific", model="x/y", schema="mine", categories=[key])
    saved = Saved(build_program("category_specific", made, {}), made, about)
    path = write_program(tmp_path_factory.mktemp("keys") / "program.json", saved)
    assert load_program(path).schema.keys == (key,)
