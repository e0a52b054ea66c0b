"""A sentence classifier beside a model: what is asked, what is kept, what is never learnt."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.errors import UserError
from crb_dspy.export._seam import Export, lacking, prompts_of
from crb_dspy.export.markdown import Markdown
from crb_dspy.export.python import Python
from crb_dspy.extract.__main__ import main as extract
from crb_dspy.origin import Origin
from crb_dspy.program import with_support
from crb_dspy.retrieval.support import USES, Learnt, Support, learn, supports
from crb_dspy.retrieval.use import Use
from crb_dspy.saved import Saved, load_program, write_program
from crb_dspy.tuning.ledger import identity
from tests.fake_model import fake_model

SCHEMA = load_schema("casereportbench").select(["GI", "Neuro"])
GUT = ("vomiting", "diarrhoea", "jaundice", "colic", "constipation", "hepatomegaly")


def made(number: int, gut: bool = True) -> Case:
    word = GUT[number % len(GUT)]
    told = f"There was severe {word} for days." if gut else "The garden was green and the day long."
    text = f"A child came to us. {told} The family had moved here. She liked to read."
    quotes = (f"severe {word} for days",) if gut else ()
    return Case(f"c{number}", {"Report": text}, {"GI": quotes, "Neuro": ()}, group=f"g{number}")


CASES = [made(n, n % 3 != 2) for n in range(12)]
LEARNT = learn(CASES, SCHEMA)
NEW = Case("new", {"Report": "A boy was seen. There was severe vomiting. He went home."})
QUIET = Case("quiet", {"Report": "A boy was seen. The garden was green. He went home."})


def part(floor: float, threshold: float):  # type: ignore[no-untyped-def]
    seed = build_program("category_specific", SCHEMA, {}).parts["GI"]
    return seed.with_support(Support(LEARNT, Use("clauses", floor, threshold)))


def test_alone_it_quotes_what_it_has_learnt_and_asks_nothing() -> None:
    with fake_model() as engine:
        assert part(2.0, 0.3)(case=NEW).GI == ["There was severe vomiting."]
        assert part(2.0, 0.3)(case=QUIET).GI == []
    assert not engine.prompts


def test_as_a_gate_it_asks_only_where_it_sees_something_and_keeps_what_it_supports() -> None:
    answer = json.dumps({"GI": ["severe vomiting", "A boy was seen"]})
    with fake_model(lambda prompt: answer) as engine:
        assert part(0.3, 2.0)(case=QUIET).GI == []
        assert not engine.prompts
        assert part(0.3, 2.0)(case=NEW).GI == ["severe vomiting"]
    assert len(engine.prompts) == 1


def test_joined_the_quotes_of_both_are_found_once() -> None:
    answer = json.dumps({"GI": ["severe vomiting"]})
    with fake_model(lambda prompt: answer):
        found = part(0.3, 0.3)(case=NEW).GI
    assert found == ["severe vomiting", "There was severe vomiting."]


def test_of_a_case_that_it_learnt_from_it_says_what_it_learnt_without_its_group() -> None:
    poisoned = [replace(c, gold={"GI": (), "Neuro": ("A child came to us",)}) for c in CASES[:1]]
    other = learn([*poisoned, *CASES[1:]], SCHEMA)
    bare = replace(CASES[0], gold=None)
    for size in ("sentences", "clauses"):
        assert LEARNT.view(bare, size) == other.view(bare, size)
        assert LEARNT.view(NEW, size) != other.view(NEW, size)


def test_every_use_has_a_name_and_another_identity() -> None:
    seed = build_program("category_specific", SCHEMA, {}).parts["GI"]
    uses = supports(LEARNT)
    assert list(uses) == list(USES)
    identities = {identity(with_support(seed, support)) for support in uses.values()}
    assert len(identities | {identity(seed)}) == len(USES) + 1


def saved_with(folder: Path) -> tuple[Path, Saved]:
    program = build_program("category_specific", SCHEMA, {})
    tuned = program.with_parts({"GI": part(2.0, 0.3)})
    origin = Origin(
        program="category_specific", schema="casereportbench", categories=["GI", "Neuro"],
        model="openai/x",
    )  # fmt: skip
    saved = Saved(tuned, SCHEMA, origin)
    return write_program(folder / "program.json", saved), saved


def test_a_saved_program_finds_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    path, saved = saved_with(tmp_path)
    loaded = load_program(path)
    assert loaded.fingerprint == saved.fingerprint
    for case in (NEW, QUIET):
        assert loaded.program.parts["GI"](case=case).GI == part(2.0, 0.3)(case=case).GI
    assert loaded.program.parts["Neuro"].support is None
    again = write_program(tmp_path / "again.json", loaded)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("silent", [("GI",), ("GI", "Neuro")])
def test_a_program_that_asks_nothing_reaches_no_model(
    tmp_path: Path, silent: tuple[str, ...]
) -> None:
    _, saved = saved_with(tmp_path)
    alone = {k: saved.program.parts[k].with_support(part(2.0, 0.3).support) for k in silent}
    tuned = replace(saved, program=saved.program.with_parts(alone))
    origin = load_program(write_program(tmp_path / "tuned.json", tuned)).origin
    # The file names no server that would have to be trusted; the command names one that is dead.
    settings = origin.settings(None, "http://127.0.0.1:9/v1", 1)
    assert (settings.model == "none") == (len(silent) == 2)
    assert origin.model == "openai/x"
    if len(silent) == 2:
        report = tmp_path / "report.txt"
        report.write_text(NEW.text)
        asked = [str(tmp_path / "tuned.json"), "--input", str(report)]
        assert extract([*asked, "--out", str(tmp_path / "found.jsonl")]) == 0
        assert "severe vomiting" in (tmp_path / "found.jsonl").read_text()


def test_a_damaged_classifier_is_refused_in_one_line(tmp_path: Path) -> None:
    path, _ = saved_with(tmp_path)
    table = json.loads(path.read_text())
    table["support"]["parts"]["GI"]["size"] = "words"
    path.write_text(json.dumps(table))
    with pytest.raises(UserError, match="changed or damaged"):
        load_program(path)


def test_a_format_without_code_says_that_it_lacks_the_classifier(tmp_path: Path) -> None:
    _, saved = saved_with(tmp_path)
    assert "classifier" in lacking(Markdown(), saved)
    plain = replace(saved, program=build_program("category_specific", SCHEMA, {}))
    assert "classifier" not in lacking(Markdown(), plain)


def test_an_exported_script_knows_the_negations_of_the_schema(tmp_path: Path) -> None:
    _, saved = saved_with(tmp_path)
    spanish = replace(saved, schema=SCHEMA.model_copy(update={"negations": ["es"]}))
    for one, known in ((saved, False), (spanish, True)):
        (folder := tmp_path / str(known)).mkdir()
        export = Export(one, prompts_of(one))
        Python().write(export, folder)
        Python().reader(export, folder)
        beside = vars(sys.modules["exported"])["BESIDE"]
        cue = type(beside).__init__.__globals__["speak"].__globals__["folded_cue"]()
        assert bool(cue.search("sin fiebre")) == known


def test_a_classifier_of_nothing_annotated_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="no annotated case"):
        learn([replace(case, gold=None) for case in CASES], SCHEMA)


def test_it_is_kept_and_not_copied() -> None:
    one = part(2.0, 0.3)
    assert isinstance(one.with_instruction("x").support.learnt, Learnt)
    assert one.with_instruction("x").support.learnt is one.support.learnt
