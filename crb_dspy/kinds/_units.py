"""Numbers with their units, and dates, without what notation adds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from crb_dspy.quotes.folding import fold

# How a number with its unit, a comparison before it, may be written.
_NUMBER = re.compile(
    r"(?P<sign><=|>=|[<>≤≥~≈])?\s*(?P<number>[-+]?\d[\d,\u00a0']*(?:\.\d+)?(?:[eE][-+]?\d+)?"
    r"(?:\s*[x×*]\s*10\s*\^?\s*[-+]?\d+)?)\s*(?P<unit>[^\d\s(),;][^(),;]*)?"
)
_POWER = re.compile(r"\s*[x×*]\s*10\s*\^?\s*([-+]?\d+)")
# Units of the clinic that the library knows by other names, or not at all.
_UNITS = {
    "bpm": "1/minute", "beats/min": "1/minute", "breaths/min": "1/minute", "/min": "1/minute",
    "iu": "IU", "u": "IU", "%": "percent", "°c": "degC", "c": "degC", "°f": "degF", "f": "degF",
    "y": "year", "yrs": "year", "yr": "year", "mo": "month", "wk": "week", "d": "day", "h": "hour",
    "mm hg": "mmHg", "mmhg": "mmHg", "meq/l": "mEq/L", "iu/l": "IU/L", "u/l": "IU/L",
}  # fmt: skip


@dataclass(frozen=True)
class Number:
    """A number: its comparison, its value in a unit ("" where none is known), and as written."""

    sign: str
    value: float
    unit: str
    written: float


@lru_cache(maxsize=1 << 14)
def normalised(text: str, type_: str, unit: str = "") -> str | Number:
    """Return a value without what notation adds.

    A number is in `unit`, or in base units, with its dimension for the unit; a date is its ISO
    form, as far as it is known; a text is its folded words, and so is what is none of its type.
    """
    if type_ == "number" and (found := _number(text, unit)):
        return found
    if type_ == "date" and (date := _date(text)):
        return date
    return re.sub(r"\b(?:a|an|the)\b", " ", fold(text).text).strip()


def _number(text: str, unit: str) -> Number | None:
    match = _NUMBER.search(text)
    if not match:
        return None
    written = re.sub(r"[,\u00a0']", "", match["number"])
    power = _POWER.search(written)
    number = float(_POWER.sub("", written)) * 10.0 ** (int(power[1]) if power else 0)
    sign = {"≤": "<=", "≥": ">=", "≈": "~"}.get(match["sign"] or "", match["sign"] or "")
    own = (match["unit"] or "").strip(" .") or unit
    return Number(sign, *_converted(number, own, unit), number)


def _converted(number: float, own: str, unit: str) -> tuple[float, str]:
    """Return a number in a unit, or in base units, and the dimension; units as texts if unknown."""
    if not own:
        return number, ""
    import pint

    registry = _registry()
    try:
        quantity = registry.Quantity(number, _named(own))
        if unit:
            return float(quantity.to(_named(unit)).magnitude), unit
        base = quantity.to_base_units()
        return float(base.magnitude), str(base.dimensionality)
    # The library's parser raises whatever Python's does.
    except (pint.PintError, ValueError, TypeError, AttributeError, SyntaxError, ArithmeticError):
        return number, re.sub(r"\s+", "", own.casefold())


def _named(unit: str) -> str:
    plain = _UNITS.get(unit.strip().casefold(), unit.strip())
    plain = f"1{plain}" if plain.startswith("/") else plain
    return re.sub(r"(?<=[A-Za-z])(\d)", r"**\1", plain.replace("µ", "u").replace("μ", "u"))


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    registry.define("IU = [international_units]")
    registry.define("Eq = [equivalents]")
    return registry


def _date(text: str) -> str:
    """Return a date as far as two readings with other defaults agree about it, "" for none."""
    from datetime import datetime

    from dateutil import parser

    try:
        one, two = (
            parser.parse(text, default=d) for d in (datetime(1900, 1, 1), datetime(1904, 2, 2))
        )
    except (ValueError, OverflowError):
        return ""
    if one.year != two.year:
        return ""
    day = f"{one:%Y-%m-%d}" if one.day == two.day else f"{one:%Y-%m}"
    return day if one.month == two.month else f"{one:%Y}"
