"""`python -m console`: what a person uses at a terminal beside the `temporal` CLI."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m console", description="Clients for a person at a terminal beside the temporal CLI."
    )
    commands = made.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="build a small library with a team of agents, on a dev server of its own",
        description="Start a dev server and a worker, run build_project, test what it built, and stop both. The model "
        "is the environment's MODEL; without one, a scripted model whose answers are in examples/textkit.toml.",
    )
    demo.add_argument("spec", nargs="?", help="what to build, in words (default: the library textkit)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = parser().parse_args(arguments)
    from console.demo import run_demo  # here, because it takes longer than --help may

    return run_demo(options.spec)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # The SDK's threads end a plain exit in a segmentation fault now and then.
    os._exit(code)
