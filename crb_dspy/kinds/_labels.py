"""Options chosen against options that are right: the field's metrics, and the confusion matrix."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from markupsafe import Markup

NO_ANSWER = "(no answer)"
# Of a cell: the options that are right, and those that were chosen.
Pair = tuple[frozenset[str], frozenset[str]]


def figures(pairs: Sequence[Pair], options: Sequence[str]) -> dict[str, float]:
    """Return accuracy, precision, recall and F1 (macro and micro), and Cohen's kappa."""
    if not pairs:
        return {}
    import numpy as np
    from sklearn import metrics

    met = {option for wanted, given in pairs for option in wanted | given}
    names = [option for option in options if option in met]
    known = {"accuracy": float(np.mean([wanted == given for wanted, given in pairs]))}
    if not names:
        return known
    tables = [
        np.array([[n in own for n in names] for own in side]) for side in zip(*pairs, strict=True)
    ]
    for average in ("macro", "micro"):
        found = metrics.precision_recall_fscore_support(*tables, average=average, zero_division=0)
        ratios = zip(("precision", "recall", "f1"), found, strict=False)
        known |= {f"{average}_{name}": float(value) for name, value in ratios}
    return known | {"kappa": _kappa(pairs)}


def drawn(pairs: Sequence[Pair], options: Sequence[str]) -> str:
    """Return the confusion matrix as HTML: gold down, answers across."""
    told = Counter((_told(wanted), _told(given)) for wanted, given in pairs)
    names = list(dict.fromkeys([*options, *(name for pair in told for name in pair)]))
    names = [name for name in names if any(name in pair for pair in told)]
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(name) for name in names)
    rows = Markup("").join(
        Markup('<tr><th scope="row" class="name">{}</th>{}</tr>').format(
            gold,
            Markup("").join(
                Markup("<td>{}{}{}</td>").format(
                    Markup("<b>" * (gold == name)),
                    told[gold, name] or "",
                    Markup("</b>" * (gold == name)),
                )
                for name in names
            ),
        )
        for gold in names
    )
    table = '<table class="numbers"><thead><tr><th>gold ↓ answer →</th>{}</tr></thead>'
    return Markup(table + "<tbody>{}</tbody></table>").format(head, rows)


def _told(options: frozenset[str]) -> str:
    return ", ".join(sorted(options)) or NO_ANSWER


def _kappa(pairs: Sequence[Pair]) -> float:
    """Return agreement beyond chance, NaN where there is one answer only."""
    from sklearn.metrics import cohen_kappa_score

    gold, found = ([", ".join(sorted(own)) for own in side] for side in zip(*pairs, strict=True))
    return float(cohen_kappa_score(gold, found)) if len({*gold, *found}) > 1 else math.nan
