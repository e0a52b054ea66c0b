"""A schema of five kinds with invented cases, and a fake model that reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.fake_server import Body

SCHEMA = """\
[[category]]
key = "Findings"
title = "Findings"
guidance = "complaints and signs, with their negation"
instruction = "Quote every complaint and sign."
terms = ["fever", "rash", "cough"]

[[category]]
key = "Smoking"
title = "Smoking"
guidance = "whether the patient smokes"
instruction = "Say whether the patient smokes."
kind = "choice"
options = ["smoker", "former smoker", "never", "not mentioned"]
default = "not mentioned"
terms = ["smok"]

[[category]]
key = "Temperature"
title = "Temperature"
guidance = "body temperature on admission"
instruction = "Give the body temperature on admission."
kind = "value"
type = "number"
unit = "°C"

[[category]]
key = "Course"
title = "Course"
guidance = "what happened when"
instruction = "List what happened, with hours from admission."
kind = "events"
max_tokens = 900

[[category]]
key = "Diagnosis"
title = "Diagnosis"
guidance = "the final diagnosis"
instruction = "Name the final diagnosis."
kind = "answer"
"""
KEYS = ("Findings", "Smoking", "Temperature", "Course", "Diagnosis")
_SMOKING = {
    "smoker": "He smokes a pack a day.",
    "never": "He never smoked.",
    "former smoker": "He gave up smoking years ago.",
    "not mentioned": "",
}
_DIAGNOSES = ("measles", "influenza", "scarlet fever", "typhus")


def entry(number: int) -> dict[str, Any]:
    """One invented case, all of whose gold differs from its neighbours'."""
    smoking = list(_SMOKING)[number % 4]
    degrees = f"{37 + number % 5}.{number % 10} °C"
    days = 1 + number % 3
    sign = ("fever", "rash", "cough")[number % 3]
    diagnosis = _DIAGNOSES[number % len(_DIAGNOSES)]
    measured = number % 4 != 3
    text = (
        f"Patient {number} had {sign} {days} days before admission. {_SMOKING[smoking]} "
        + (f"His temperature was {degrees}. " if measured else "")
        + f"The final diagnosis was {diagnosis}."
    )
    gold = {
        "Findings": [sign],
        "Smoking": smoking,
        "Temperature": degrees if measured else None,
        "Course": [[sign, -24 * days]],
        "Diagnosis": diagnosis,
    }
    return {"id": f"c{number}", "sections": {"Case report": text}, "gold": gold}


def written(folder: Path, count: int = 16) -> tuple[str, str]:
    """Write schema and cases; return their paths."""
    (folder / "mixed.toml").write_text(SCHEMA, "utf-8")
    lines = [json.dumps(entry(number), ensure_ascii=False) for number in range(count)]
    (folder / "mixed.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    return str(folder / "mixed.toml"), str(folder / "mixed.jsonl")


def answers(report: str) -> dict[str, Any]:
    """What a good model would say of a report, but for smoking, which it knows no word of."""
    day = re.search(r"had (\w+) (\d) days", report)
    degrees = re.search(r"temperature was (\S+ °C)", report)
    diagnosis = re.search(r"diagnosis was (.*)\.", report)
    return {
        "Findings": [day[1]] if day else [],
        "Smoking": "not mentioned",
        "Temperature": degrees[1] if degrees else None,
        "Course": [{"event": day[1], "hours": -24 * int(day[2])}] if day else [],
        "Diagnosis": diagnosis[1] if diagnosis else "",
    }


def asked(prompt: str) -> list[str]:
    """The categories that a prompt asks for: its last line names them in quotation marks."""
    last = prompt.strip().splitlines()[-1]
    return [key for key in KEYS if f'"{key}"' in last]


def reply(body: Body) -> str:
    """Answer as the good model; whatever is no question about a report, in a word."""
    prompt = body["messages"][-1]["content"]
    if "<report>" not in prompt:
        return '{"answer": ["yes"]}'
    report = prompt.split("\n</report>\n", 1)[0]
    known: Mapping[str, Any] = answers(report)
    return json.dumps({key: known[key] for key in asked(prompt)}, ensure_ascii=False)
