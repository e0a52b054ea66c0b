"""What every kind keeps to: one contract, inherited by all, and what each has of its own."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crb_dspy.data.cases import Case
from crb_dspy.data.kind import Kind, find_kind, kinds, made, usual
from crb_dspy.data.schema import Category
from crb_dspy.errors import UserError
from crb_dspy.program.reading import read
from crb_dspy.scoring.halves import Halves, total

TEXT = (
    "A boy of nine had fever and rash two days before admission. Blood glucose was 5.4 mmol/L. "
    "He had no seizures. His uncle has gout. Marfan syndrome was found."
)

# A law is inherited by many classes, on purpose.
LAW = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def halves(kind: Kind, gold: Sequence[str], found: Sequence[str]) -> Halves:
    """A cell as the objective counts it."""
    value = kind.score(TEXT, gold, found).score
    if math.isnan(value):
        return Halves()
    return Halves(value, 1) if kind.sought(gold) else Halves(empty=value, n_empty=1)


def score(kind: Kind, cells: Sequence[tuple[Sequence[str], Sequence[str]]]) -> float:
    return total(halves(kind, *cell) for cell in cells).score


class Contract:
    """The laws. A subclass names a kind, its options, and annotations that differ from another."""

    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    # As files hold them: no two share anything, and the second comes twice.
    golds: ClassVar[Sequence[Any]]
    # As a model may write them, and what they are as annotations.
    answers: ClassVar[Sequence[tuple[str, Any]]]
    wrong: ClassVar[Any]

    @property
    def kind(self) -> Kind:
        """With what it learns from the annotations."""
        bare = made(self.name, "K", (), self.options)
        more = bare.fitted([bare.gold(gold) for gold in self.cells])
        return made(self.name, "K", (), {**self.options, **more})

    @property
    def cells(self) -> list[Any]:
        return [*self.golds, self.golds[1], None]

    def gold(self) -> list[tuple[str, ...]]:
        return [self.kind.gold(gold) for gold in self.cells]

    def test_gold_scores_one(self) -> None:
        kind = self.kind
        for gold in self.gold():
            value = kind.score(TEXT, gold, gold).score
            assert value == 1 or (math.isnan(value) and kind.sought(gold) is None)
        assert score(kind, [(gold, gold) for gold in self.gold()]) == 1

    def test_silence_scores_nothing(self) -> None:
        assert score(self.kind, [(gold, ()) for gold in self.gold()]) == 0

    def test_one_answer_for_all_scores_nothing(self) -> None:
        kind = self.kind
        if kind.listed:
            pytest.skip("what is found in many reports is a finding in each")
        for constant in dict.fromkeys(self.gold()):
            assert score(kind, [(gold, constant) for gold in self.gold()]) == 0

    def test_the_most_frequent_answer_is_worth_less_than_gold(self) -> None:
        common = self.kind.gold(self.golds[1])
        assert score(self.kind, [(gold, common) for gold in self.gold()]) < 0.5

    @settings(LAW, max_examples=30)
    @given(data=st.data())
    def test_order_and_repetition_change_nothing(self, data: st.DataObject) -> None:
        kind = self.kind
        gold = list(kind.gold(data.draw(st.sampled_from(list(self.golds)))))
        pool = sorted({item for own in self.gold() for item in own})
        found = data.draw(st.lists(st.sampled_from(pool), max_size=4))
        shuffled = data.draw(st.permutations(found + found[:1]))
        same = data.draw(st.permutations(gold + gold[:1]))
        known, other = kind.score(TEXT, gold, found).score, kind.score(TEXT, same, shuffled).score
        assert other == pytest.approx(known, nan_ok=True)

    @settings(LAW, max_examples=30)
    @given(data=st.data())
    def test_a_wrong_item_more_never_helps(self, data: st.DataObject) -> None:
        kind = self.kind
        gold = kind.gold(data.draw(st.sampled_from(list(self.golds))))
        pool = sorted({item for own in self.gold() for item in own})
        found = data.draw(st.lists(st.sampled_from(pool), max_size=3))
        extra = list(kind.read(self.wrong)[0])
        before = kind.score(TEXT, gold, found).score
        assert not kind.score(TEXT, gold, [*found, *extra]).score > before + 1e-12

    def test_a_reason_stands_beside_every_score(self) -> None:
        for gold in self.gold():
            for found in self.gold():
                judged = self.kind.score(TEXT, gold, found)
                assert judged.reason and "\n" not in judged.reason and len(judged.reason) <= 400
                assert math.isnan(judged.score) or 0 <= judged.score <= 1

    def test_items_survive_files_and_answers(self) -> None:
        kind = self.kind
        for gold in filter(None, self.gold()):
            plain = json.loads(json.dumps(kind.plain(gold)))
            assert kind.read(list(gold))[0] == list(gold), "its own items"
            if kind.plain(gold[:1]) != kind.plain(gold):
                assert set(kind.read(plain)[0]) <= set(gold)
            told = [{**kind.told(i), "quote": kind.quoted(i) or ""} for i in gold]
            if not kind.verbatim:
                assert kind.read(told)[0] == list(gold)

    def test_answers_are_read_tolerantly(self) -> None:
        kind = self.kind
        for text, meant in self.answers:
            answer = read(text, {"K": kind})
            assert not answer.failed, text
            assert tuple(answer.findings["K"]) == kind.gold(meant), text

    @settings(LAW, max_examples=60)
    @given(st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=8) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
        max_leaves=8,
    ))  # fmt: skip
    def test_nothing_that_a_model_writes_is_an_error(self, value: object) -> None:
        items, fault = self.kind.read(value)
        assert all(isinstance(item, str) for item in items) and isinstance(fault, str)
        assert self.kind.read(items)[0] == items

    @settings(LAW, max_examples=40)
    @given(st.text(max_size=40))
    def test_no_text_is_an_error(self, text: str) -> None:
        answer = read(text, {"K": self.kind})
        assert answer.failed or isinstance(answer.findings["K"], list)

    def test_pieces_come_together(self) -> None:
        kind = self.kind
        for gold in filter(None, self.gold()):
            once = kind.merged(TEXT, [gold, gold])
            assert kind.score(TEXT, gold, once).score == kind.score(TEXT, gold, gold[:1]).score or (
                kind.listed and kind.score(TEXT, gold, once).score == 1
            )

    def test_the_question_names_the_key_and_the_schema_is_json(self) -> None:
        kind = self.kind
        assert '"K"' in kind.asked(['"K"'])
        several = kind.asked(['"K"', '"L"'])
        assert '"K"' in several and '"L"' in several and several != kind.asked(['"K"'])
        assert json.loads(json.dumps(kind.schema(320)))["type"]
        assert kind.about and kind.frame.system and kind.annotation

    def test_metrics_are_numbers_and_gold_has_the_best_of_them(self) -> None:
        kind, gold = self.kind, [own for own in self.gold() if own]
        best = kind.metrics([(str(n), own, own) for n, own in enumerate(gold)])
        assert all(isinstance(value, float) for value in best.values())
        for name, value in best.items():
            worst = 0 if "error" in name else 1
            assert math.isnan(value) or value == pytest.approx(worst), name
        assert kind.metrics([]) == {} or all(map(math.isnan, kind.metrics([]).values()))
        assert kind.pooled([best, best]) == pytest.approx(best, nan_ok=True)

    def test_systems_that_ask_no_model_learn_and_answer(self) -> None:
        kind = self.kind
        cases = [Case(str(n), {"R": TEXT}, {"K": own}) for n, own in enumerate(self.gold())]
        for name, guess in kind.guesses(cases).items():
            found = list(guess(Case("new", {"R": TEXT})))
            assert name and kind.read(found)[0] == found

    def test_what_is_shown_is_escaped(self) -> None:
        kind = self.kind
        hostile = "<script>alert(1)</script>"
        cells = [(hostile, own, own) for own in self.gold()]
        assert "<script" not in kind.figure(cells)


class TestQuotes(Contract):
    name = "quotes"
    golds = (["fever and rash"], ["no seizures"], ["Blood glucose was 5.4 mmol/L"])
    answers = (
        ('{"K": ["no seizures"]}', ["no seizures"]),
        ('```json\n{"K": ["no seizures"]}\n```', ["no seizures"]),
    )
    wrong = ("Marfan syndrome",)


class TestChoice(Contract):
    name = "choice"
    options: ClassVar = {"options": ["present", "absent", "not mentioned"]}
    golds: ClassVar[Sequence[Any]] = ("present", "absent", "not mentioned")
    answers: ClassVar[Sequence[tuple[str, Any]]] = (
        ('{"K": "absent"}', "absent"),
        ('{"K": "Absent."}', "absent"),
        ('{"K": ["present"]}', "present"),
        ("not mentioned", "not mentioned"),
        ("The answer is: present", "present"),
        ('{"K": {"choice": "absent", "quote": ""}}', "absent"),
        ('{"K": "present", "other', "present"),
    )
    wrong = "present"

    def test_a_wrong_item_more_never_helps(self) -> None:
        kind = self.kind
        for gold in self.gold():
            for found in self.gold():
                before = kind.score(TEXT, gold, found).score
                for extra in ("present", "absent"):
                    if (extra,) != gold:
                        assert not kind.score(TEXT, gold, [*found, extra]).score > before

    def test_the_default_is_taken_where_an_annotation_is_missing(self) -> None:
        kind = made("choice", "K", (), {**self.options, "default": "not mentioned"})
        assert kind.gold(None) == ("not mentioned",)
        assert kind.sought(("not mentioned",)) is False and kind.sought(("absent",)) is True
        assert made("choice", "K", (), self.options).gold(None) == ()

    def test_metrics_are_those_of_the_field(self) -> None:
        gold = ["present", "present", "absent", "absent", "not mentioned"]
        found = ["present", "absent", "absent", "absent", "present"]
        pairs = zip(gold, found, strict=True)
        metrics = self.kind.metrics([(str(n), (g,), (f,)) for n, (g, f) in enumerate(pairs)])
        assert metrics["accuracy"] == pytest.approx(3 / 5)
        assert metrics["micro_f1"] == pytest.approx(3 / 5)
        # By hand: present 1/2 and 1/2, absent 2/3 and 1, not mentioned 0.
        assert metrics["macro_precision"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
        assert metrics["macro_recall"] == pytest.approx((1 / 2 + 1 + 0) / 3)
        # Agreement 0.6; by chance 2/5 x 2/5 + 2/5 x 3/5 = 0.4.
        assert metrics["kappa"] == pytest.approx((0.6 - 0.4) / (1 - 0.4))

    def test_the_confusion_matrix_counts_every_cell(self) -> None:
        cells = [("a", ("present",), ("absent",)), ("b", ("absent",), ())]
        shown = self.kind.figure(cells)
        assert shown.count(">1<") == 2 and "(no answer)" in shown

    def test_a_text_that_names_two_options_names_none(self) -> None:
        assert read("present or absent", {"K": self.kind}).failed
        items, fault = self.kind.read("present or absent")
        assert items == [] and "not one of the options" in fault


class TestSeveral(Contract):
    name = "choice"
    options: ClassVar = {"options": ["Edema", "Pneumonia", "Effusion"], "many": True}
    golds = (["Edema", "Effusion"], ["Pneumonia"], ["Edema", "Pneumonia"])
    answers = (
        ('{"K": ["effusion", "Edema"]}', ["Effusion", "Edema"]),
        ('{"K": []}', []),
        ('{"K": "Pneumonia"}', ["Pneumonia"]),
    )
    wrong = ("Effusion",)

    def test_one_answer_for_all_scores_nothing(self) -> None:
        """Options that many reports have are found in them: silence is what scores nothing."""
        assert score(self.kind, [(gold, ()) for gold in self.gold()]) == 0

    def test_the_most_frequent_answer_is_worth_less_than_gold(self) -> None:
        everything = tuple(self.options["options"])
        assert score(self.kind, [(gold, everything) for gold in self.gold()]) == 0

    def test_a_wrong_item_more_never_helps(self) -> None:
        kind = self.kind
        assert kind.score(TEXT, ("Edema",), ("Edema", "Effusion")).score < 1

    def test_pieces_come_together(self) -> None:
        assert self.kind.merged(TEXT, [("Edema",), ("Edema", "Effusion")]) == ["Edema", "Effusion"]


class TestEvidence(TestChoice):
    options: ClassVar = {**TestChoice.options, "evidence": True}
    golds = (
        {"choice": "present", "quote": "had fever and rash"},
        {"choice": "absent", "quote": "no seizures"},
        "not mentioned",
    )
    answers = (
        ('{"K": {"choice": "absent", "quote": "no seizures"}}', golds[1]),
        ('{"K": "present"}', "present"),
    )

    def test_evidence_is_placed_and_what_is_not_in_the_report_is_counted(self) -> None:
        kind = self.kind
        (item,) = kind.gold(self.golds[1])
        (place,) = kind.placed(TEXT, [item])
        assert TEXT[slice(*place.spans[0])] == "no seizures"
        assert kind.score(TEXT, (item,), ("absent | no such words",)).ungrounded == 1
        assert kind.score(TEXT, (item,), ("absent | no such words",)).score == 1


class TestValue(Contract):
    name = "value"
    options: ClassVar = {"type": "number", "unit": "mmol/L"}
    golds = ("5.4 mmol/L", "7 mmol/L", "0.9 mmol/L")
    answers = (
        ('{"K": "5.4 mmol/L"}', "5.4 mmol/L"),
        ('{"K": 5.4}', "5.4"),
        ('{"K": null}', None),
        ('{"K": "not mentioned"}', None),
        ('{"K": {"value": 5.4, "unit": "mmol/L"}}', "5.4 mmol/L"),
        ("5.4 mmol/L", "5.4 mmol/L"),
        ('{"K": "5.4", "o', "5.4"),
    )
    wrong = "88"

    def test_numbers_are_the_same_in_other_units(self) -> None:
        kind: Any = made("value", "K", (), {"type": "number"})
        same = {
            "37 °C": "98.6 °F", "1.2 g/dL": "12 g/L", "5 x 10^9/L": "5000 /uL",
            "120 bpm": "120/min", "3 months": "3 mo", "1,200 mg": "1.2 g",
            "10 mg": "10", "4 mEq/L": "4 meq/L",
        }  # fmt: skip
        for one, other in same.items():
            assert kind.same(one, other) and kind.same(other, one), (one, other)
        for one, other in {"5 mg": "5 g", ">5 mg": "5 mg", "37 °C": "38 °C"}.items():
            assert not kind.same(one, other), (one, other)

    def test_dates_are_as_exact_as_they_are_written(self) -> None:
        kind: Any = made("value", "K", (), {"type": "date"})
        assert kind.same("3 March 2019", "2019-03-03") and kind.same("March 2019", "2019-03")
        assert not kind.same("2019-03-03", "March 2019") and not kind.same("2019", "2020")

    def test_unknown_stands_apart(self) -> None:
        cells = [("a", ("5.4 mmol/L",), ("5.4",)), ("b", (), ()), ("c", (), ("7",))]
        metrics = self.kind.metrics(cells)
        assert metrics["exact_accuracy"] == 0 and metrics["normalised_accuracy"] == 1
        assert metrics["unknown_accuracy"] == 0.5


class TestEvents(Contract):
    name = "events"
    golds = (
        [["fever", -48], ["Marfan syndrome", 24]],
        [["no seizures", 0]],
        [["uncle has gout", None], ["blood glucose", 0]],
    )
    answers = (
        ('{"K": [{"event": "fever", "hours": -48}]}', [["fever", -48]]),
        ('{"K": [["fever", "2 days before"]]}', [["fever", -48]]),
        ('{"K": [{"event": "fever", "hours": -48}, {"event": "ra', [["fever", -48]]),
        ('[{"event": "fever", "hours": "-48"}]', [["fever", -48]]),
        ('{"K": []}', []),
    )
    wrong: ClassVar = [{"event": "something else entirely", "hours": 3}]

    def test_times_count(self) -> None:
        kind = self.kind
        gold = kind.gold([["fever", -48], ["rash", 0]])
        near, far, never = (
            kind.score(TEXT, gold, kind.gold([["fever", at], ["rash", 0]])).score
            for at in (-47, 48, None)
        )
        assert 1 > near > far > never

    def test_metrics_by_hand(self) -> None:
        kind = self.kind
        gold = kind.gold([["fever", -48], ["rash", 0], ["gout", 24]])
        found = kind.gold([["fever", -24], ["rash", -30], ["cough", 1], ["seizure", 2]])
        metrics = kind.metrics([("a", gold, found)])
        assert metrics["match_rate"] == pytest.approx(2 / 3)
        assert metrics["event_precision"] == pytest.approx(2 / 4)
        assert metrics["event_f1"] == pytest.approx(2 * 2 / (3 + 4))
        assert metrics["concordance"] == 0  # the order of the two is turned round
        assert metrics["median_error_hours"] == pytest.approx((24 + 30) / 2)

    def test_a_timeline_shows_every_event_with_a_time(self) -> None:
        gold, found = (self.kind.gold(own) for own in (self.golds[0], self.golds[1]))
        assert self.kind.figure([("a", gold, found)]).count("<circle") == 3


class TestAnswer(Contract):
    name = "answer"
    golds = (["Marfan syndrome"], ["gout", "podagra"], ["viral rash"])
    answers = (
        ('{"K": "Marfan syndrome"}', "Marfan syndrome"),
        ("Marfan syndrome", "Marfan syndrome"),
        ('{"K": {"answer": "gout"}}', "gout"),
        ('{"K": "gout", "x', "gout"),
    )
    wrong = "measles"

    def test_squad_by_hand(self) -> None:
        kind = self.kind
        assert kind.score(TEXT, ("The gout.",), ("gout",)).score == 1
        half = kind.score(TEXT, ("Marfan syndrome",), ("the Marfan disease",)).score
        assert half == pytest.approx(0.5)
        cells = [("a", ("gout", "podagra"), ("Podagra!",)), ("b", ("gout",), ("acute gout",))]
        metrics = kind.metrics(cells)
        assert metrics["answer_exact_match"] == 0.5
        assert metrics["answer_f1"] == pytest.approx((1 + 2 / 3) / 2)

    def test_points_that_lead_to_it_are_recalled(self) -> None:
        kind = made("answer", "K", (), {"reasons": True})
        gold = kind.gold({"answers": ["gout"], "points": ["painful big toe", "high urate"]})
        answer = {"answer": "gout", "reasons": ["a painful toe"]}
        found = read(json.dumps({"K": answer}), {"K": kind}).findings["K"]
        assert kind.metrics([("a", gold, found)])["reasoning_recall"] == 0.5
        assert kind.score(TEXT, gold, found).score == 1


def test_every_kind_of_the_package_keeps_the_contract() -> None:
    tested = {own.name for own in Contract.__subclasses__()}
    assert tested == set(kinds())


def test_the_usual_kind_is_the_first_and_needs_no_name() -> None:
    category = Category(key="GI", title="GI", guidance="g", instruction="Quote.")
    assert type(category.holds) is type(usual()) and category.holds.verbatim
    assert "kind" not in category.model_dump()


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("choise", {}, "unknown kind 'choise': did you mean 'choice'"),
        ("choice", {"option": ["a", "b"]}, "unknown option 'option': did you mean 'options'"),
        ("choice", {"options": ["a"]}, "one of at least two"),
        ("choice", {"options": ["a", "A"]}, "different texts"),
        ("choice", {"options": ["a", "b"], "default": "c"}, "none of the options"),
        ("", {"colour": "red"}, "category 'K': unknown option 'colour'"),
        ("./nowhere.py:Grade", {}, "no such file"),
    ],
)
def test_mistakes_in_a_schema_are_one_line(kind: str, options: dict[str, Any], said: str) -> None:
    category = Category(key="K", title="t", guidance="g", instruction="i", kind=kind, **options)
    with pytest.raises(UserError, match=said) as caught:
        _ = category.holds
    assert "\n" not in str(caught.value)


def test_a_class_that_is_no_kind_is_refused(tmp_path: Any) -> None:
    (tmp_path / "mine.py").write_text("class Grade: ...\n")
    with pytest.raises(UserError, match="must be a subclass"):
        find_kind(f"{tmp_path}/mine.py:Grade")


def _named_kinds(path: Path) -> list[str]:
    """Where a file outside of kinds compares or sets a kind by its name."""
    found = []
    names = set(kinds())

    def kind_like(node: ast.AST) -> bool:
        return (isinstance(node, ast.Attribute) and node.attr in ("kind", "USUAL")) or (
            isinstance(node, ast.Name) and node.id == "kind"
        )

    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            imported = [module, *(f"{module}.{alias.name}" for alias in node.names)]
            found += [name for name in imported if name.startswith("crb_dspy.kinds")]
        sides = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        said = {s.value for s in sides if isinstance(s, ast.Constant) and isinstance(s.value, str)}
        if said & names and any(map(kind_like, sides)):
            found.append(f"line {node.lineno}")  # type: ignore[attr-defined]
        if isinstance(node, ast.keyword) and node.arg == "kind":
            value = node.value.value if isinstance(node.value, ast.Constant) else None
            found += [f"line {node.value.lineno}"] if value in names else []
    return found


def test_the_core_names_no_kind() -> None:
    root = Path(__file__).parents[1]
    files = [p for f in ("crb_dspy", "programs", "optimizers") for p in (root / f).rglob("*.py")]
    core = [p for p in files if "kinds" not in p.parts[-2:] and p.parent.name != "benchmarks"]
    naming = {p.relative_to(root).as_posix(): own for p in core if (own := _named_kinds(p))}
    assert naming == {}
    assert _named_kinds(root / "crb_dspy/data/benchmarks/t2s2.py"), "the test sees what it forbids"
