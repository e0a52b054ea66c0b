"""The contract of every export format."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from crb_dspy.catalog import build_program
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema, load_schema
from crb_dspy.errors import CrbError, RunError, UserError
from crb_dspy.export import _check
from crb_dspy.export._find import find, names
from crb_dspy.export._make import PROOF, Request, make, narrowed
from crb_dspy.export._seam import Export, Exporter, lacking, prompts_of, used
from crb_dspy.models.lm import Model
from crb_dspy.models.settings import Settings
from crb_dspy.origin import Origin
from crb_dspy.saved import Saved, load_program, write_program
from tests.made_search import made_plan, made_split, run
from tests.scoring_reply import scoring

SCHEMA = load_schema("casereportbench")
CASE = Case(
    "case-7",
    {
        "History": 'A girl {{report}} had vomiting {% if x %} {# no #} and """loose""" stools.',
        "Examination": "Tone was `low`, <|im_end|> no seizures; reflexes {{{x}}} 2+ \\n (\\1).",
    },
)
INSTRUCTION = (
    'Quote findings, e.g. "no {{fever}}".\n\n## Rules\n- Keep negations: {% raw %}.\n'
    '- Say nothing else, `never` a summary; """quote""" it.\n1. Copy \'as is\' {\\n}.'
)
NOT_EMBEDDED = "openai/qwen2.5-test"


def tuned(
    kind: str, program: str = "category_specific", schema: Schema = SCHEMA, **options: object
) -> Saved:
    """A program as an optimizer leaves it: with demonstrations, or with other instructions."""
    seed = build_program(program, schema, options)
    changed = seed.with_parts({})
    for part in changed.parts.values():
        if kind == "demonstrations":
            findings = {key: ["vomiting", "no seizures"] for key in part.keys}
            demo = {**part.demonstration(CASE, findings), "case": CASE.id, "reasoning": "{{a}} b."}
            part.predict.demos = [demo]
        else:
            wording = f"{INSTRUCTION} ({', '.join(part.keys)})"
            part.predict.signature = part.predict.signature.with_instructions(wording)
    origin = Origin(
        program=program,
        program_options=dict(options),
        schema=schema.name,
        categories=list(schema.keys),
        model=NOT_EMBEDDED,
    )
    return Saved(changed, schema, origin)


@lru_cache
def by_gepa(cot: bool) -> Saved:
    """A program of which GEPA itself wrote the instructions, on a model that likes its style."""
    split = made_split(SCHEMA.keys)
    model = scoring([*split.train, *split.validation], better="style ")
    settings = {"optimizer": "gepa", "program_options": {"cot": cot}}
    found = run(made_plan(split, SCHEMA.keys, **settings), model).tuned.program
    assert sum("style " in part.instruction for part in found.parts.values()) > 10
    return replace(tuned("instructions", cot=cot), program=found)


def request(exporter: Exporter, **changes: Any) -> Request:
    reports = (replace(CASE, id="r1"),) if exporter.wants_reports else ()
    return Request(reports=reports, **changes)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(params=names())
def exporter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exporter:
    found = find(request.param)
    # What goes to a registry has a test of its own.
    monkeypatch.setattr(type(found), "publish", lambda self, export, folder: [])
    return found


@pytest.mark.parametrize("cot", [False, True], ids=["", "cot"])
@pytest.mark.parametrize("kind", ["demonstrations", "instructions", "gepa"])
def test_every_prompt_is_the_tuned_one_to_the_byte(
    exporter: Exporter, kind: str, cot: bool, tmp_path: Path
) -> None:
    saved = by_gepa(cot) if kind == "gepa" else tuned(kind, cot=cot)
    proof, export = make(exporter, saved, tmp_path / "out", request(exporter))
    assert len(proof["prompts"]) == len(SCHEMA.keys) == 14
    if exporter.name != "langextract":
        reports = list(_check.FIXTURES)
        altered = [n for n, text in _check.FIXTURES.items() if exporter.shown(text) != text]
        told = {"prompts": 14, "reports": reports, "altered": altered}
        assert proof["check"] == {"messages": "identical", **told}
        assert bool(altered) == (exporter.name == "litellm")
        notes = (tmp_path / "out" / "README.md").read_text()
        assert (f"alters the texts {', '.join(altered)}:" in notes) == bool(altered)
    assert proof == json.loads((tmp_path / "out" / PROOF).read_text()) | {"published": []}
    assert proof["files"] == {
        name: digest for name, digest in _check.files(tmp_path / "out").items() if name != PROOF
    }
    assert ("reasoning" in proof["lacks"]) == (cot and "reasoning" not in exporter.carries)
    assert export.saved is saved


def altered(name: str, data: bytes) -> bytes:
    return data.replace(b"copied phrases", b"copied Phrases").replace(b"fever", b"Fever")


def careless(
    exporter: Exporter, change: Callable[[str, bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Make a format write something else than it should."""
    write = exporter.write

    def wrong(export: Export, folder: Path) -> None:
        write(export, folder)
        for name, data in contents(folder).items():
            (folder / name).write_bytes(change(name, data))

    monkeypatch.setattr(exporter, "write", wrong)


def test_a_mismatch_is_an_error_and_nothing_is_written(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    careless(exporter, altered, monkeypatch)
    with pytest.raises(CrbError, match=r"nothing was written|changed or damaged"):
        make(exporter, tuned("instructions"), tmp_path / "out", request(exporter))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "entry", "told"),
    [
        ("GI.prompt.json", {"examples": []}, "GI: examples: 0, where the program has 1"),
        ("GI.schema.json", {"required": []}, "GI: the schema does not allow its categories"),
    ],
)
def test_what_langextract_is_told_is_compared_whole(
    name: str, entry: dict[str, Any], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(file: str, data: bytes) -> bytes:
        return json.dumps(json.loads(data) | entry).encode() if file == name else data

    exporter = find("langextract")
    careless(exporter, without, monkeypatch)
    with pytest.raises(RunError, match=told):
        make(exporter, tuned("demonstrations"), tmp_path / "out", request(exporter))


def test_an_earlier_export_outlives_a_mismatch(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, out = tuned("instructions"), tmp_path / "out"
    make(exporter, saved, out, request(exporter, check=False))
    before = contents(out)
    careless(exporter, altered, monkeypatch)
    with pytest.raises(CrbError):
        make(exporter, saved, out, request(exporter))
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.usefixtures("brief")
def test_exported_loaded_exported_again_is_the_same_to_the_byte(
    exporter: Exporter, tmp_path: Path
) -> None:
    saved = tuned("demonstrations", cot=True)
    loaded = load_program(write_program(tmp_path / "program.json", saved))
    for number, program in enumerate((saved, loaded, loaded)):
        make(exporter, program, tmp_path / f"{number}", request(exporter, check=number == 0))
    first, *others = (contents(tmp_path / f"{number}") for number in range(3))
    unchecked = {PROOF, "README.md"}
    assert others[0] == others[1]
    assert {n: d for n, d in first.items() if n not in unchecked} == {
        n: d for n, d in others[0].items() if n not in unchecked
    }


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("program", ["monolithic", "grouped", "filtered", "review"])
def test_every_program_is_exported_or_says_what_is_missing(
    exporter: Exporter, program: str, tmp_path: Path
) -> None:
    saved = tuned("demonstrations", program, keep_ungrounded=False)
    proof, _ = make(exporter, saved, tmp_path / "out", request(exporter))
    special = {"filtered": "sections", "review": "second_pass"}.get(program)
    notes = (tmp_path / "out" / "README.md").read_text()
    for need, words in proof["lacks"].items():
        assert need not in exporter.carries
        assert f"- {words}\n" in notes
    if special:
        assert (special in proof["lacks"]) == (special not in exporter.carries)
    assert ("grounding" in proof["lacks"]) == ("grounding" not in exporter.carries)
    passes = 1 + (program == "review" and "second_pass" in exporter.carries)
    assert len(proof["prompts"]) == passes * len(saved.program.parts)


@pytest.mark.usefixtures("brief")
def test_text_of_reports_is_accounted_for(exporter: Exporter, tmp_path: Path) -> None:
    saved = tuned("demonstrations")
    proof, export = make(exporter, saved, tmp_path / "out", request(exporter))
    held = proof["report_text"]
    shown = [demo for part in saved.program.parts.values() for demo in part.predict.demos]
    assert held["demonstrations"] == 14
    assert held["characters"] == sum(len(demo["report"]) for demo in shown)
    assert held["cases"] == ["case-7"]
    notes = (tmp_path / "out" / "README.md").read_text()
    assert "14 demonstrations" in notes
    assert "CC BY-NC 4.0" in notes
    assert export.dropped is False


@pytest.mark.usefixtures("brief")
def test_text_of_reports_can_be_left_out(exporter: Exporter, tmp_path: Path) -> None:
    saved = tuned("demonstrations")
    proof, _ = make(exporter, saved, tmp_path / "out", Request(report_text=False))
    assert proof["report_text"]["demonstrations"] == 0
    written = contents(tmp_path / "out")
    assert not any(b"reflexes" in data for data in written.values())
    assert b"dropped on request" in written["README.md"]
    # The program at hand is as it was.
    assert saved.program.parts["GI"].predict.demos


@pytest.mark.usefixtures("brief")
def test_categories_can_be_chosen(exporter: Exporter, tmp_path: Path) -> None:
    saved = narrowed(tuned("demonstrations"), ["GI", "Neuro"])
    proof, _ = make(exporter, saved, tmp_path / "out", request(exporter))
    assert proof["categories"] == ["Neuro", "GI"]
    assert set(proof["prompts"]) == {"GI", "Neuro"}
    whole = {prompt.name: prompt for prompt in prompts_of(tuned("demonstrations"))}
    assert all(prompt == whole[prompt.name] for prompt in prompts_of(saved))


@pytest.mark.usefixtures("brief")
def test_a_chosen_category_is_shown_the_sections_that_it_was_tuned_on(tmp_path: Path) -> None:
    saved = tuned("instructions", "filtered", SCHEMA.select(["GI", "Neuro"]))
    make(find("mlflow-model"), narrowed(saved, ["GI"]), tmp_path / "out", Request())
    exported = load_program(tmp_path / "out")
    case = Case("c", {"History": "He vomited.", "Cardiac examination": "There was a murmur."})
    read = exported.program.parts["GI"].text_for(case)
    assert read == saved.program.parts["GI"].text_for(case) == "## History\nHe vomited."
    assert set(exported.whole_schema.keys) == set(SCHEMA.keys)


def test_a_place_that_holds_something_else_is_left_alone(
    exporter: Exporter, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds notes.txt, which is of no earlier export"):
        make(exporter, tuned("instructions"), tmp_path, request(exporter))
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_what_a_format_lacks_is_what_the_program_needs(exporter: Exporter) -> None:
    plain, review = tuned("instructions"), tuned("instructions", "review", cot=True)
    assert set(lacking(exporter, plain)) <= used(plain)
    assert {"second_pass", "reasoning"} <= used(review) - used(plain)
    assert set(lacking(exporter, review)) >= set(lacking(exporter, plain))


def test_the_proof_tells_the_tuned_model_from_others_where_it_is_known(tmp_path: Path) -> None:
    weights = tmp_path / "own.gguf"
    weights.write_bytes(b"GGUF")
    saved = narrowed(tuned("instructions"), ["GI"])
    names = {f"local/{weights}", NOT_EMBEDDED, "openai/other", "local/gone.gguf"}
    found = {}
    for name in names:
        at = replace(saved, origin=saved.origin.model_copy(update={"model": name}))
        proof, _ = make(find("messages"), at, tmp_path / "out", Request(check=False))
        found[name] = proof["model_fingerprint"]
    assert found.pop("local/gone.gguf") is None
    assert len(set(found.values())) == 3 and all(found.values())
    settings = Settings(model=NOT_EMBEDDED)
    assert found[NOT_EMBEDDED] == Model(settings, tmp_path).identity


def test_categories_that_are_asked_for_together_cannot_be_parted() -> None:
    with pytest.raises(UserError, match="together"):
        narrowed(tuned("instructions", "monolithic"), ["GI"])
    whole = narrowed(tuned("instructions", "monolithic"), list(SCHEMA.keys))
    assert [p.keys for p in prompts_of(whole)] == [SCHEMA.keys]


def test_a_difference_is_shown_where_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = find("messages")
    careless(exporter, altered, monkeypatch)
    with pytest.raises(RunError) as caught:
        make(exporter, tuned("instructions"), tmp_path / "out", Request())
    message = str(caught.value)
    assert message.startswith("messages: prompt 'Vitals_Hema', report 'plain': system message")
    assert "Fever" in message
