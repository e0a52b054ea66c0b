"""Say what works here and what does not, a line each, and what mends it.

python -m crb_dspy.doctor [--model MODEL --api-base URL]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from crb_dspy.command import Parser, parameters, request_flag, run
from crb_dspy.errors import UserError, explained, scrubbed

if TYPE_CHECKING:
    from crb_dspy.doctor.checks import Finding
    from crb_dspy.models.settings import Settings

# The embedded model's name is that of an experiment that names none.
DEFAULT = "local/qwen2.5-coder-1.5b-instruct"


def main(argv: list[str]) -> int:
    """Read the arguments, examine, print a line for each check; 1 if one failed."""
    arguments = _parser().parse_args(argv)
    from pydantic import ValidationError

    from crb_dspy.doctor.server import settings_of

    try:
        settings = settings_of(
            arguments.model,
            api_base=arguments.api_base,
            api_key_env=arguments.api_key_env,
            context=arguments.context,
            timeout=arguments.timeout,
            request=parameters(arguments.request) or None,
            threads=4,
        )
    except ValidationError as error:
        raise UserError(explained(error)) from error
    return _examined(settings)


def _parser() -> Parser:
    parser = Parser(
        prog="python -m crb_dspy.doctor",
        description="Say what works: installation, store, and a model's server, a line each.",
    )
    parser.add_argument("--model", default=DEFAULT, help=f"as of compile (default: {DEFAULT})")
    parser.add_argument("--api-base", help="address of a local server, with /v1")
    parser.add_argument("--api-key-env", metavar="NAME", help="the variable that holds the key")
    parser.add_argument("--context", type=int, help="tokens that prompt and answer may have")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each question")
    request_flag(parser)
    return parser


def _examined(settings: Settings) -> int:
    from crb_dspy.doctor import house, server
    from crb_dspy.doctor.checks import in_turn
    from crb_dspy.models.faults import spare_here
    from crb_dspy.models.lm import Model, silence_libraries

    silence_libraries()
    spare_here()
    failed = 0
    for finding in in_turn(house.checks(settings), ("engine",)):
        failed += _shown(finding)
    if failed and settings.embedded:
        return 1
    with tempfile.TemporaryDirectory() as folder:
        model = Model(settings, Path(folder))
        try:
            for finding in in_turn(server.checks(model), server.NEEDED):
                failed += _shown(finding)
        finally:
            model.close()
    return int(bool(failed))


def _shown(finding: Finding) -> bool:
    print(scrubbed(str(finding)))
    sys.stdout.flush()
    return finding.state == "FAIL"


if __name__ == "__main__":
    run(main)
