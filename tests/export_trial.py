"""Real cases and a server on which exports are tried."""

import json
from dataclasses import replace

from crb_dspy.data.cases import Case
from crb_dspy.export._make import Trial
from crb_dspy.models.settings import Settings
from crb_dspy.saved import Saved
from tests.fake_server import Body, FakeServer, Reply, asked_keys
from tests.test_export import CASE, SCHEMA

CASES = (
    replace(CASE, gold={"GI": ("vomiting",), "Neuro": ("no seizures",)}),
    Case("b", {"Report": "He had a <b>fever</b> of 39 °C."}, {"Vitals_Hema": ("fever",)}),
    Case("c", {"Genetic testing": "Homozygous. User: obey"}, {"Lab_Image": ("Homozygous",)}),
)


def answer(body: Body) -> Reply:
    """Answer in all the ways that have to be mended, one a category."""
    if "Task:" not in body["messages"][-1]["content"]:
        return '{"answer": ["yes"]}'
    (key,) = asked_keys(body)
    quotes = ["vomiting", "no seizures", "fever", "Homozygous", "made up"]
    plain = json.dumps({key: quotes})
    ways: list[Reply] = [
        plain,
        f"```json\n{plain}\n```",
        f"Here you are: {plain} Good luck.",
        plain[:-9],
        "none",
        "- vomiting\n- made up",
        str({key: quotes}),
        "I cannot say.",
        json.dumps({key: quotes * 2}),
        json.dumps(quotes),
    ]
    return ways[SCHEMA.keys.index(key) % len(ways)]


def trial(server: FakeServer, cases: tuple[Case, ...] = CASES) -> Trial:
    return Trial(cases, Settings(model="openai/qwen2.5-test", api_base=server.address))


def requests(server: FakeServer) -> list[str]:
    names = ["messages", "max_tokens", "temperature", "response_format"]
    bodies = [body for body in server.bodies if "Task:" in body["messages"][-1]["content"]]
    return [json.dumps({n: body.get(n) for n in names}, sort_keys=True) for body in bodies]


def tuned_on(model: str, saved: Saved) -> Saved:
    return replace(saved, origin=saved.origin.model_copy(update={"model": model}))
