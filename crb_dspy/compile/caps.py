"""Caps that would hold nothing, or not even what judging takes, refused before the first call."""

from __future__ import annotations

from crb_dspy.compile.estimate import LONGER
from crb_dspy.compile.plan import Plan
from crb_dspy.errors import UserError
from crb_dspy.models.lm import priced


def check_caps(planned: Plan) -> None:
    """UserError where judging alone would be beyond a cap, or a cap would hold nothing."""
    calls, tokens = planned.estimate.of("check", "baseline", "gate", "test")
    caps = planned.experiment.caps
    # Estimates are on the safe side: no more is refused than surely cannot be done.
    for name, least in {"calls": calls, "tokens": round(tokens / LONGER)}.items():
        most = getattr(caps, name)
        if most is not None and most < least:
            raise UserError(
                f"max_{name} = {most}: judging alone may take {least} {name}; raise it, or "
                "lower limit"
            )
    for settings in planned.experiment.roles.values() if caps.usd is not None else ():
        if not priced(settings):
            raise UserError(
                f"max_usd: no price is known for '{settings.model}', so that nothing would "
                "be held back; use max_calls or max_tokens"
            )
