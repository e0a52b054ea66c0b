"""How well predicted quotes match gold: the objective, the paper's metrics, and their audit."""

from crb_dspy.errors import UserError

OBJECTIVE = "score"


def optimizable(name: str) -> str:
    """Return the name of a metric that may be optimized; UserError, with the reason, if not."""
    from crb_dspy.schema import unknown
    from crb_dspy.scoring.paper import PAPER

    if name in PAPER:
        raise UserError(
            f"objective '{name}': a metric of the paper can be reported but not optimized, since "
            "it can be gamed (every sentence in every category beats all published systems on "
            f"tsr_raw); use '{OBJECTIVE}'"
        )
    if name != OBJECTIVE:
        raise UserError(unknown("objective", name, [OBJECTIVE]))
    return name
