"""Scores of anybody's quotes, as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crb_dspy.errors import UserError
from crb_dspy.scoring.objective import score_cell

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("text", "gold", "predicted")


def score(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a data frame with `score` (0 to 1) and `reason` for each row.

    A row is a category of a report: `text`, and lists of quotes in `gold` and `predicted`.
    UserError for a column that is missing or a cell that is no list of texts.
    """
    if missing := [name for name in _COLUMNS if name not in frame.columns]:
        raise UserError(f"column '{missing[0]}' is missing; a row needs {', '.join(_COLUMNS)}")
    cells = []
    for index, (text, *quotes) in zip(
        frame.index, frame[list(_COLUMNS)].itertuples(index=False), strict=True
    ):
        gold, predicted = (_quotes(f"row {index}", cell) for cell in quotes)
        cells.append(score_cell(str(text), gold, predicted))
    return frame.assign(score=[c.score for c in cells], reason=[c.reason for c in cells])


def _quotes(where: str, cell: object) -> list[str]:
    if hasattr(cell, "tolist"):  # a numpy array, as pandas reads it from parquet
        cell = cell.tolist()
    if not isinstance(cell, list | tuple) or not all(isinstance(quote, str) for quote in cell):
        raise UserError(f"{where}: gold and predicted are lists of texts, not {cell!r:.60}")
    return list(cell)
