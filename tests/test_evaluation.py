"""How parts are run over cases: each once, few at a time, the first of a case alone."""

import threading
import time
from typing import Any

import dspy
import pytest

from crb_dspy.data.cases import Case
from crb_dspy.data.schema import load_schema
from crb_dspy.evaluation.asking import evaluate, readings_of
from crb_dspy.models.engine import ModelGone
from crb_dspy.program import Part

SCHEMA = load_schema("casereportbench").select(["Neuro", "GI", "GU"])
CASES = [
    Case(f"c{i}", {"Report": f"Case {i} had seizures."}, {"Neuro": ("seizures",)}) for i in range(5)
]


class Recorder:
    """Stands for three parts; records when each of their calls began and ended."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.parts = [
            self._part(category.key, number) for number, category in enumerate(SCHEMA.categories)
        ]

    def _part(self, key: str, number: int) -> Part:
        recorder = self

        class Recorded(Part):
            def forward(self, case: Case) -> dspy.Prediction:
                assert case.gold is None
                with recorder.lock:
                    recorder.events.append(("begin", case.id, number))
                    recorder.now += 1
                    recorder.most = max(recorder.most, recorder.now)
                time.sleep(0.01)
                with recorder.lock:
                    recorder.now -= 1
                    recorder.events.append(("end", case.id, number))
                return dspy.Prediction(**{key: ["seizures"]})

        return Recorded([category for category in SCHEMA.categories if category.key == key])


@pytest.mark.parametrize("threads", [1, 2, 7, 40])
def test_each_part_of_each_case_is_asked_once_within_the_cap(threads: int) -> None:
    recorder = Recorder()
    readings = readings_of(recorder.parts, CASES, threads=threads)
    begun = [(case, part) for what, case, part in recorder.events if what == "begin"]
    assert sorted(begun) == sorted((case.id, part) for case in CASES for part in range(3))
    assert recorder.most <= threads
    assert all(reading.quotes for answers in readings for reading in answers)


@pytest.mark.parametrize("threads", [1, 7])
def test_the_first_part_of_a_case_is_back_before_the_others_go(threads: int) -> None:
    recorder = Recorder()
    readings_of(recorder.parts, CASES, threads=threads)
    for case in CASES:
        own = [(what, part) for what, id_, part in recorder.events if id_ == case.id]
        assert own[:2] == [("begin", 0), ("end", 0)]


def test_one_thread_keeps_the_calls_of_a_case_together() -> None:
    recorder = Recorder()
    readings_of(recorder.parts, CASES)
    order = [case for what, case, _ in recorder.events if what == "begin"]
    assert order == [case.id for case in CASES for _ in range(3)]


class Breaking(Part):
    """Fails as told."""

    def __init__(self, key: str, error: BaseException | None) -> None:
        super().__init__([c for c in SCHEMA.categories if c.key == key])
        self.error = error

    def forward(self, case: Case) -> dspy.Prediction:
        if self.error:
            raise self.error
        return dspy.Prediction(**{self.keys[0]: ["seizures"]})


def program(**errors: BaseException | None) -> Any:
    from crb_dspy.program import ExtractionProgram

    class Broken(ExtractionProgram):
        def build(self, schema: Any, **options: Any) -> dict[str, Part]:
            return {key: Breaking(key, errors.get(key)) for key in schema.keys}

    return Broken(SCHEMA)


def test_a_failing_part_is_a_row_and_leaves_the_others_standing() -> None:
    rows = evaluate(program(GI=ValueError("no\nluck")), CASES)
    assert len(rows) == 15
    failed = [row for row in rows if row.error]
    assert {row.category for row in failed} == {"GI"}
    assert {(row.error, row.score, row.salvaged) for row in failed} == {
        ("ValueError: no luck", 0.0, False)
    }
    assert all(row.score == 1 for row in rows if row.category == "Neuro")


def test_a_failed_cell_scores_nothing_even_where_nothing_was_to_be_found() -> None:
    assert evaluate(program(GU=ValueError()), CASES)[2].score == 0


def test_a_program_called_directly_survives_a_failing_part_too() -> None:
    prediction = program(GI=ValueError("x"))(case=CASES[0])
    assert prediction.Neuro == ["seizures"]
    assert prediction.GI == []
    assert prediction.errors == {"GI": "ValueError: x"}


def test_a_model_that_is_gone_ends_the_evaluation() -> None:
    with pytest.raises(ModelGone):
        evaluate(program(GI=ModelGone("gone")), CASES, threads=3)
