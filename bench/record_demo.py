"""Record the answers that `python -m crb_dspy.demo` plays back.

    python bench/record_demo.py                 # seconds: a rule answers
    python bench/record_demo.py --model NAME    # an embedded model, once a question

The rule stands in for a model: it quotes most sentences that hold one of the category's terms, and
now and then one that does not. With a model every answer is written down as it comes, so that a
recording that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from crb_dspy.compile import __main__ as compiling  # noqa: E402
from crb_dspy.data.schema import load_schema  # noqa: E402
from crb_dspy.demo.recorded import DEMO, Body, Reply, completion, digest, serving  # noqa: E402
from crb_dspy.files import as_json, write_whole  # noqa: E402
from crb_dspy.models import embedded, weights  # noqa: E402
from crb_dspy.models.engine import estimated_tokens  # noqa: E402

ANSWERS = ROOT / "crb_dspy/demo/answers.json"
RULE = "a rule that stands in for a model"
# Shares of what has a term that the rule quotes, and of cells in which it quotes anything: fewer
# where examples show that there may be nothing, as with models.
QUOTED, STRAY, TAUGHT = 0.9, 0.5, 0.1

Ask = Callable[[Body], tuple[str, int, int, str]]


def ruled(body: Body) -> tuple[str, int, int, str]:
    """Answer by the rule, the same every time."""
    terms = {c.key: [t.lower() for t in c.terms] for c in load_schema("casereportbench").categories}
    whole = "\n".join(message["content"] for message in body["messages"])
    report = whole.partition("<report>\n")[2].partition("\n</report>")[0]
    stray_share = TAUGHT if "Examples, from" in whole else STRAY
    sentences = [s.strip() for s in re.split(r"(?<=[.;])\s+", report) if 8 < len(s.strip()) < 300]
    chance, found = random.Random(whole), {}
    for key in (key for key in terms if f'"{key}"' in whole.rpartition("Task:")[2]):
        hit = [s for s in sentences if any(term in s.lower() for term in terms[key])]
        kept = [s for s in hit if chance.random() < QUOTED]
        stray = [chance.choice(sentences)] if sentences and chance.random() < stray_share else []
        found[key] = kept[:5] + stray
    text = json.dumps(found or {"answer": ["yes"]}, ensure_ascii=False)
    return text, estimated_tokens(whole), estimated_tokens(text), "stop"


@contextmanager
def asking(model: str | None) -> Iterator[Ask]:
    """Open what answers: the rule, or an embedded model."""
    if model is None:
        yield ruled
        return
    with embedded.serve(weights.find(model)) as server:

        def ask(body: Body) -> tuple[str, int, int, str]:
            where = f"{server.api_base}/chat/completions"
            key = {"Authorization": f"Bearer {server.api_key}"}
            said = httpx.post(where, headers=key, json=body, timeout=600).raise_for_status().json()
            choice, used = said["choices"][0], said["usage"]
            sizes = used["prompt_tokens"], used["completion_tokens"]
            return choice["message"]["content"], *sizes, choice["finish_reason"]

        yield ask


def recorder(ask: Ask, path: Path, about: Body) -> Reply:
    """Return what asks and writes the answers down."""
    old = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    kept = old["answers"] if old.get("about", {}).get("model") == about["model"] != RULE else {}

    def reply(body: Body) -> Body | None:
        key = digest(body)
        if key not in kept:
            kept[key] = ask(body)
            lines = ",\n".join(f" {as_json(k)}: {as_json(kept[k])}" for k in sorted(kept))
            write_whole(path, f'{{"about": {as_json(about)},\n"answers": {{\n{lines}\n}}}}\n')
        return completion(*kept[key])

    return reply


def main(argv: list[str]) -> int:
    """Read the arguments, run the demo's experiment, and keep every answer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="an embedded one (default: the rule)")
    parser.add_argument("--out", type=Path, default=ANSWERS)
    arguments = parser.parse_args(argv)
    about = {"model": arguments.model or RULE, "date": date.today().isoformat()}
    with (
        asking(arguments.model) as ask,
        TemporaryDirectory() as folder,
        serving(recorder(ask, arguments.out.absolute(), about)) as address,
        # A store and a cache of its own: what a cache answers is not asked.
        chdir(folder),
    ):
        own = ["--model", "openai/recorded", "--api-base", address, "--threads", "1"]
        return compiling.main([str(DEMO), *own])


if __name__ == "__main__":
    from crb_dspy.command import run

    run(main)
