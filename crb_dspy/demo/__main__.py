"""Play a recorded run back: the quickstart in seconds, without a model.

python -m crb_dspy.demo
"""

from __future__ import annotations

from crb_dspy.command import Parser, run
from crb_dspy.files import fingerprint


def main(argv: list[str]) -> int:
    """Read the arguments, play the recording, compile on what it answers."""
    arguments = _parser().parse_args(argv)
    from crb_dspy.compile.__main__ import main as compiled
    from crb_dspy.demo.recorded import DEMO, played, recording, serving

    kept = recording()
    about, answers = kept["about"], kept["answers"]
    print(f"demo       {len(answers)} answers to invented reports, recorded on {about['date']}")
    print(f"           from {about['model']}: judge the pages, not the figures")
    with serving(played(answers)) as address:
        # Answers of another recording are not these.
        name = f"openai/recorded-{fingerprint(answers)}"
        own = ["--model", name, "--api-base", address, "--out", arguments.out]
        done = compiled([str(DEMO), *own])
    print("next       python -m crb_dspy.init mine --data CASES.jsonl  # the same with your own")
    return done


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.demo",
        description="Play a recorded run back: the quickstart in seconds, without a model.",
    )
    parser.add_argument("--out", default="mlruns/out", help="folder of the artefacts")
    return parser


if __name__ == "__main__":
    run(main)
