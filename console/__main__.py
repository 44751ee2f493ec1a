"""`python -m console`: what a person uses at a terminal beside the `temporal` CLI."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python -m console",
        description="Clients for a person at a terminal beside the temporal CLI.",
        epilog="watch, show, fork, board and budget ask the server that Temporal's own settings name: "
        "TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, TEMPORAL_PROFILE and so on.",
    )
    commands = made.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="build a small library with a team of agents, on a dev server of its own",
        description="Start a dev server and a worker, run build_project, test what it built, and stop both. The model "
        "is the environment's MODEL; without one, a scripted model whose answers are in examples/textkit.toml.",
    )
    demo.add_argument("spec", nargs="?", help="what to build, in words (default: the library textkit)")
    demo.add_argument(
        "--kill", action="store_true", help="kill the worker in the middle of the run, which another one goes on with"
    )
    watch = commands.add_parser(
        "watch",
        help="show runs as they go on",
        description="Show runs as they go on, until all of them have ended: a live view on a terminal, a line for each "
        "change elsewhere. It only looks: leave it and come back as you like. The exit code is 0 if all ended well.",
    )
    watch.add_argument("workflow_ids", nargs="+", metavar="WORKFLOW_ID", help="the run; several may be named")
    watch.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="how often to look (default %(default)g)"
    )
    watch.add_argument(
        "--follow",
        metavar="INSTANCE",
        help="show what one instance says and does instead, while it does it: coder-1; of one run",
    )
    show = commands.add_parser(
        "show",
        help="show who was asked what in a run, in which order, how long it took, and what it cost",
        description="Show the calls of a run, one that has ended or one that goes on, as its history tells them.",
    )
    show.add_argument("workflow_id", metavar="WORKFLOW_ID", help="the run")
    show.add_argument("--mermaid", action="store_true", help="write a Mermaid sequence diagram instead of a table")
    fork = commands.add_parser(
        "fork",
        help="start a run that takes over what another one did before a step, and goes on differently",
        description="Start a run that takes over everything that had happened to another one before a step: results, "
        "what its agents remember, its files. Nothing of that is asked for again. From the step on it goes its own "
        "way, with other models or inputs, or with a program that was changed there.",
    )
    fork.add_argument("workflow_id", metavar="RUN", help="the run, one that goes on or one that has ended")
    fork.add_argument(
        "--at",
        required=True,
        metavar="STEP",
        help="the step before which it begins, as show lists it, or a scatter's number",
    )
    fork.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="ROLE=MODEL",
        help="another model for a role or a method; repeatable",
    )
    fork.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="JSON",
        help="the inputs, all of them, instead of the run's; repeatable",
    )
    fork.add_argument(
        "--id", metavar="ID", help="the new run's workflow id (default: RUN-fork-1, or the next that is free)"
    )
    budget = commands.add_parser(
        "budget",
        help="limit what all runs of a tenant, or with a tag, spend together",
        description="Budgets that runs share: those of a tenant, tenant=acme, or with a tag, tag=nightly, as their "
        "options say. A run that finds nothing left waits until the budget is raised or renews.",
        epilog="python -m console budget set tenant=acme usd=50 per=day",
    )
    budget.add_argument(
        "action", choices=("set", "show", "clear"), help="set limits, show what is spent and by whom, or take it away"
    )
    budget.add_argument(
        "name", nargs="?", metavar="NAME", help="tenant=acme or tag=nightly; without one, show shows all"
    )
    budget.add_argument(
        "limits",
        nargs="*",
        metavar="LIMIT",
        help="usd=50, tokens=1000000, calls=500; none takes one away (usd=none); per=day begins anew at 00:00 UTC. "
        "Those that are not named stay",
    )
    budget.add_argument("--team", default="", help="whose workers keep it, where workers serve a team")
    codec = commands.add_parser(
        "codec",
        help="let the Web UI and the CLI read and write what is encrypted or stored",
        description="Serve Temporal's remote codec protocol with the environment's PAYLOAD_KEY and PAYLOAD_STORE, "
        "until Ctrl-C. Whoever reaches it can read all runs; web pages are answered only if they are of this machine "
        "or of an --origin, and get of what is very large the beginning.",
    )
    codec.add_argument("--host", default="127.0.0.1", help="where to listen (default %(default)s)")
    codec.add_argument("--port", type=int, default=8081, help="the port; 0 for a free one (default %(default)s)")
    codec.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="the address of a Web UI on another machine; repeatable",
    )
    board = commands.add_parser(
        "board",
        help="serve a page on which runs are seen, answered and steered",
        description="Serve a page, and an interface for programs (/openapi.json), until Ctrl-C: runs, who works on "
        "what, what agents say, and everything that waits for a person, with buttons. It keeps nothing: all of it is "
        "Temporal's. Where others than this machine can reach it, BOARD_TOKENS says who may do what: "
        "NAME=look|answer|steer:TOKEN, several with commas; NAME=answer(owner):TOKEN answers for that person only.",
    )
    board.add_argument("--host", default="127.0.0.1", help="where to listen (default %(default)s)")
    board.add_argument("--port", type=int, default=8234, help="the port; 0 for a free one (default %(default)s)")
    board.add_argument(
        "--name", action="append", default=[], metavar="HOST", help="another name by which it is reached; repeatable"
    )
    commands.add_parser(
        "key",
        help="make a key for PAYLOAD_KEY",
        description="Print a new key with an id. To begin: export PAYLOAD_KEY=$(python -m console key). To go over to "
        'another one: PAYLOAD_KEY="$(python -m console key),$PAYLOAD_KEY"; old ones stay as long as there are runs of '
        "them.",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    options = parser().parse_args(arguments)
    from activities.errors import KeyMissing, PayloadLost, SettingInvalid, StoreMissing

    try:
        return _run(options)
    except (KeyMissing, PayloadLost, SettingInvalid, StoreMissing) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    # Each is imported here, because it takes longer than --help may.
    if options.command == "demo":
        from console.narrator import Narrator

        with Narrator("Python to start") as narrator:
            from console.demo import run_demo

            return run_demo(options.spec, narrator, kill=options.kill)
    if options.command == "watch":
        from console.watch import follow, watch

        if options.follow:
            if len(options.workflow_ids) > 1:
                print("watch: --follow shows an instance of one run; name one.", file=sys.stderr)
                return 2
            return follow(options.workflow_ids[0], options.follow, every=options.every)
        return watch(options.workflow_ids, every=options.every)
    if options.command == "codec":
        from console.codec import serve_codec

        return serve_codec(options.host, options.port, options.origin)
    if options.command == "board":
        from console.board.serving import serve_board

        return serve_board(options.host, options.port, options.name)
    if options.command == "key":
        from activities.payloads.encryption import new_key

        print(new_key())
        return 0
    if options.command == "budget":
        from console.budget import Wish as BudgetWish
        from console.budget import budget

        if options.name is None and options.action != "show":
            print(f"budget: name the budget to {options.action}, as in tenant=acme.", file=sys.stderr)
            return 2
        return budget(BudgetWish(options.action, options.name, options.limits, options.team))
    if options.command == "fork":
        from console.fork import Wish, fork

        return fork(Wish(options.workflow_id, options.at, options.model, options.input, options.id))
    from console.show import show

    return show(options.workflow_id, as_mermaid=options.mermaid)


if __name__ == "__main__":
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read it has seen enough, as `head` has
        code = 0
    sys.stderr.flush()
    # The SDK's threads end a plain exit in a segmentation fault now and then.
    os._exit(code)
