"""What the sentence classifier finds without a model, by setting, on annotated cases.

python bench/retrieval.py [--data CASES] [--schema NAME] [--folds 8] [--inner 4] [--curve] [--json]

Without --data, the 24 cases in the folder that CRB_REAL_DATA names, else the sample. a: F1 over
cells with gold; b: share of empty cells left empty; H: their harmonic mean. Each case is judged by
classifiers and rules that saw neither it nor its group.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from crb_dspy.data.benchmarks import load
from crb_dspy.data.cases import Case
from crb_dspy.data.schema import Schema, load_schema
from crb_dspy.data.splits import folds
from crb_dspy.retrieval.choosing import Cells, choose, objective
from crb_dspy.retrieval.classifier import Matrix, Seen, see
from crb_dspy.retrieval.crossfit import crossfitted
from crb_dspy.retrieval.features import Terms
from crb_dspy.retrieval.sentences import Size
from crb_dspy.retrieval.system import cells, fit, sizes_for, terms_of
from crb_dspy.retrieval.training import train
from crb_dspy.scoring.objective import score_cell

# Two reports of one disease, which the table does not say.
GROUPS = {"PMC6453830": "H syndrome", "PMC6536078": "H syndrome"}
# Standard errors that a category's gain must reach; without end: one rule for all.
EVIDENCE = {"one rule for all": 1e9, "1 SE": 1.0, "half an SE": 0.5, "no shrinkage": 0.0}
DRAWS = 3
Tables = Mapping[Size, Sequence[Seen]]
Result = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", default="")
    parser.add_argument("--schema", default="casereportbench")
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--inner", type=int, default=4)
    parser.add_argument("--cover", type=float)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    schema = load_schema(options.schema)
    cases = annotated(options.data, schema)
    if options.curve:
        rows: dict[str, Result] = curve(cases, schema)
    else:
        rows = {}
        for terms in (terms_of(schema), dict.fromkeys(schema.keys, ())):
            name = "terms" if any(terms.values()) else "no terms"
            rows |= {f"{name}, {row}": own for row, own in settings(cases, terms, options).items()}
        rows["seconds"] = seconds(cases, schema)
    if options.json:
        print(json.dumps({"cases": len(cases), "rows": rows}))
        return
    print(f"{len(cases)} cases, {len(schema.keys)} categories")
    for name, own in rows.items():
        print(
            f"{name:44}" + "  ".join(f"{key} {value:.3f}" for key, value in own.items()), flush=True
        )


def annotated(source: str, schema: Schema) -> tuple[Case, ...]:
    real = Path(os.environ.get("CRB_REAL_DATA", "")) / "casereportbench" / "gold_24.jsonl"
    source = source or (str(real) if real.is_file() else "sample")
    cases = load(source, schema).cases
    grouped = (replace(case, group=GROUPS.get(case.id, case.group)) for case in cases)
    return tuple(case for case in grouped if case.gold is not None)


def score(text: str, gold: Sequence[str], predicted: Sequence[str]) -> float:
    return score_cell(text, gold, predicted).score


def result(scores: Matrix, gold: np.ndarray) -> Result:
    a, b = (float(scores[mask].mean()) if mask.any() else np.nan for mask in (gold, ~gold))
    return {"a": a, "b": b, "H": objective(scores, gold)}


def settings(cases: Sequence[Case], terms: Terms, options: argparse.Namespace) -> dict[str, Result]:
    """Give common rules as cross-fitting sees them, then nested: rules chosen without the fold."""
    sizes = sizes_for(cases, list(terms))
    tables = {size: [see(case, size, terms) for case in cases] for size in sizes}
    own = found(tables, terms, options.folds, options.cover)
    whole = cells(tables, own, list(terms), score)
    rows = {
        f"{rule.size} from {rule.threshold} on": result(whole.scores[rule], whole.gold)
        for rule in whole.scores
    }
    chosen = {name: np.zeros(whole.gold.shape) for name in EVIDENCE}
    order = [case.id for case in cases]
    for fold in folds(cases, options.folds):
        held = {case.id for case in fold}
        inner = {size: [s for s in own if s.case.id not in held] for size, own in tables.items()}
        outer = {size: [s for s in own if s.case.id in held] for size, own in tables.items()}
        seen = cells(inner, found(inner, terms, options.inner, options.cover), list(terms), score)
        for name, evidence in EVIDENCE.items():
            for column, rule in enumerate(choose(seen, evidence)):
                for one in outer["sentences"]:
                    row = order.index(one.case.id)
                    chosen[name][row, column] = whole.scores[rule][row, column]
    rows |= {f"nested, {name}": result(own, whole.gold) for name, own in chosen.items()}
    return rows | by_category(whole, chosen["1 SE"], list(terms))


def found(
    tables: Tables, terms: Terms, k: int, cover: float | None
) -> dict[Size, Mapping[str, Matrix]]:
    return {size: crossfitted(own, size, terms, k=k, cover=cover) for size, own in tables.items()}


def by_category(whole: Cells, scores: Matrix, keys: Sequence[str]) -> dict[str, Result]:
    return {
        f"nested, 1 SE: {key}": result(scores[:, [i]], whole.gold[:, [i]])
        | {"cells with gold": float(whole.gold[:, i].sum())}
        for i, key in enumerate(keys)
    }


def curve(cases: Sequence[Case], schema: Schema) -> dict[str, Result]:
    """Train on some cases of the others than six that judge; several draws of each size."""
    rows: dict[str, list[Result]] = {}
    for draw in range(DRAWS):
        order = list(cases)
        random.Random(draw).shuffle(order)
        test = order[:6]
        groups = {case.group for case in test}
        rest = [case for case in order if case.group not in groups]
        for size in (6, 12, 18):
            system = fit(rest[:size], schema, score, k=4)
            cells_ = [
                (
                    bool(gold),
                    score(case.text, gold, given) if gold and given else not (gold or given),
                )
                for case in test
                for key, given in system.findings(case).items()
                for gold in [(case.gold or {}).get(key, ())]
            ]
            gold, values = (np.array([column]) for column in zip(*cells_, strict=True))
            rows.setdefault(f"{size} cases", []).append(result(values.astype(float), gold))
    return {
        name: {key: float(np.mean([own[key] for own in draws])) for key in draws[0]}
        | {"lowest H": min(own["H"] for own in draws), "highest H": max(own["H"] for own in draws)}
        for name, draws in rows.items()
    }


def seconds(cases: Sequence[Case], schema: Schema) -> Result:
    """Time training and prediction on 138 reports, made of these with their sentences numbered."""
    copies = [
        replace(
            case,
            id=f"{case.id}/{n}",
            sections={
                f"{heading} {n}": f"{body} Copy {n}." for heading, body in case.sections.items()
            },
        )
        for n in range(1 + 138 // len(cases))
        for case in cases
    ][:138]
    terms, spent = terms_of(schema), {}
    for size in sizes_for(cases, list(terms)):
        started = time.process_time()
        seen = [see(case, size, terms) for case in copies]
        classifier = train(seen, size, terms)
        spent[f"{size}: train on 138"] = time.process_time() - started
        started = time.process_time()
        for case in copies:
            classifier.probabilities(classifier.see(case))
        spent["predict"] = time.process_time() - started
        spent["kilobytes"] = len(json.dumps(classifier.plain())) / 1000
        spent = {
            f"{size} {key}" if key in ("predict", "kilobytes") else key: v
            for key, v in spent.items()
        }
    return spent


if __name__ == "__main__":
    main()
