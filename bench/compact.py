"""What compact answers save the embedded model: tokens and seconds a call, and the same findings?

    python bench/compact.py [--cases 2] [--categories GI,GU,DERM] [--model NAME or FILE.gguf]

The shortest of the bundled reports, each category asked under the plain JSON schema and then
compactly; every answer is printed as it comes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dspy

sys.path.insert(0, str(Path(__file__).parents[1]))

from crb_dspy.catalog import build_program
from crb_dspy.data.benchmarks import load
from crb_dspy.data.schema import load_schema
from crb_dspy.models import embedded, weights
from crb_dspy.models.direct import Direct
from crb_dspy.models.engine import Engine
from crb_dspy.models.meter import Meter
from crb_dspy.models.server import Server
from crb_dspy.program import attempt
from crb_dspy.program.prompt import ReportFirst


class Asked:
    """A model asked in one form: its meter, and the answers as they came."""

    def __init__(self, connected: Mapping[str, Any]) -> None:
        self.meter, self.answers, self._direct = Meter(), list[str](), Direct(connected)
        engine = Engine(Server(lambda: connected, completion=self._told), self.meter)
        self.lm = dspy.LM(f"x/{id(self)}", engine=engine, temperature=0.0, cache=False)

    def _told(self, **given: Any) -> Any:
        reply = self._direct(**given)
        self.answers.append(reply["choices"][0]["message"]["content"])
        return reply


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=2)
    parser.add_argument("--categories", default="GI,GU,DERM")
    parser.add_argument("--model", default="qwen2.5-coder-1.5b-instruct")
    options = parser.parse_args()
    whole = load_schema("casereportbench")
    program = build_program("category_specific", whole.select(options.categories.split(",")), {})
    cases = sorted(load("sample", whole).cases, key=lambda case: len(case.text))[: options.cases]
    named = options.model.endswith(".gguf")
    path = Path(options.model) if named else weights.find(options.model)
    same = calls = 0
    with embedded.serve(path) as server:
        base = {"api_base": server.api_base, "api_key": server.api_key, "timeout": 600}
        base |= {"model": f"openai/{path.stem}"}
        forms = {"schema": Asked(base), "compact": Asked({**base, "compact": True})}
        for case in cases:
            for key, part in program.parts.items():
                found = []
                for name, form in forms.items():
                    before, started = form.meter.usage, time.perf_counter()
                    with dspy.context(lm=form.lm, adapter=ReportFirst(), disable_history=True):
                        found.append(attempt(part, case))
                    tokens = (form.meter.usage - before).completion_tokens
                    seconds = time.perf_counter() - started
                    print(f"{case.id} {key} {name}: {tokens} tokens, {seconds:.1f} s")
                    print(f"    {form.answers[-1]!r}", flush=True)
                calls += 1
                same += found[0].quotes == found[1].quotes
        for name, form in forms.items():
            print(f"{name:8} {form.meter.usage.completion_tokens / calls:.1f} tokens an answer")
        print(f"findings {same} of {calls} answers equal")


if __name__ == "__main__":
    main()
