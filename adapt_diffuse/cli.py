"""The command line: one sub-command per module of ``commands``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from .commands import benchmark, degrade, demo, find_scratches, import_model, import_severity, restore, train_severity
from .errors import AdaptDiffuseError
from .memory import out_of_memory

COMMANDS = {
    "restore": restore,
    "degrade": degrade,
    "find-scratches": find_scratches,
    "train-severity": train_severity,
    "import-model": import_model,
    "import-severity": import_severity,
    "benchmark": benchmark,
    "demo": demo,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m adapt_diffuse", description="Restore damaged photos with sample-adaptive latent diffusion."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").strip().splitlines()[0]
        sub = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for input that cannot be used, 130 after Ctrl-C."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    # diffusers and accelerate tell the user things that are not theirs to act on
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    try:
        return args.run(args)
    except AdaptDiffuseError as error:
        print(f"adapt_diffuse: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if not out_of_memory(error):
            raise
        print(
            "adapt_diffuse: the memory ran out: take smaller photos, a smaller --batch or --size, or close other "
            "programs.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("adapt_diffuse: interrupted; what was finished before is kept.", file=sys.stderr)
        return 130
