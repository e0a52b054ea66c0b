"""The benchmark authors' own scores, kept apart from anything this project measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.files import bundled

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED = bundled("published/caseReportBench_2025.csv")


def load_published(path: Path | None = None) -> pd.DataFrame:
    """Return the published scores, one row a configuration, metric and category.

    Columns: source, model, strategy, prompting, metric, category, value (0 to 100, mean over
    cases), scale (the source's own value is value / scale), and the flags published (True) and
    rescored (False), so that no table can pass them off as measured here. `path` is the CSV file
    or the folder that holds it. FileNotFoundError if there is none.
    """
    import pandas as pd

    file = path or PUBLISHED
    file = file / PUBLISHED.name if file.is_dir() else file
    # The parser of some pandas versions misses the last digit; Python's does not.
    scores = pd.read_csv(file, converters={"value": float})
    return scores.assign(published=True, rescored=False)
