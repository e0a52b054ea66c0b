"""How parts are tuned: the face that recipes of one's own import."""

from crb_dspy.recipe.bridge import NoBar, Student, adopted, examples
from crb_dspy.recipe.context import Context
from crb_dspy.recipe.contract import (
    Answer,
    Recipe,
    calls,
    chooses,
    estimated,
    guided,
    reflecting,
    reflections,
    supported,
)
from crb_dspy.recipe.demonstrations import shown

__all__ = [
    "Answer",
    "Context",
    "NoBar",
    "Recipe",
    "Student",
    "adopted",
    "calls",
    "chooses",
    "estimated",
    "examples",
    "guided",
    "reflecting",
    "reflections",
    "shown",
    "supported",
]
