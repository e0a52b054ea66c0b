"""How sure a score or a difference is, when cells of the same case (group) vary together."""

from crb_dspy.stats.estimates import (
    Difference,
    Estimate,
    mean_interval,
    paired_difference,
)
from crb_dspy.stats.harmonic import (
    Halves,
    harmonic_difference,
    harmonic_gain,
    harmonic_interval,
    harmonic_mean,
)
from crb_dspy.stats.resampling import Floats
from crb_dspy.stats.testing import (
    cases_needed,
    detectable,
    holm,
    margin,
    minimum_detectable,
    verdict,
)

__all__ = [
    "Difference",
    "Estimate",
    "Floats",
    "Halves",
    "cases_needed",
    "detectable",
    "harmonic_difference",
    "harmonic_gain",
    "harmonic_interval",
    "harmonic_mean",
    "holm",
    "margin",
    "mean_interval",
    "minimum_detectable",
    "paired_difference",
    "verdict",
]
