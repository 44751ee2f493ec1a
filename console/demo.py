"""The demo: a dev server, a worker, a run of `build_project`, and the tests of what it built."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from activities.contract.names import SEARCH_ATTRIBUTES
from activities.workspace.git import program
from console.dev_server import DevServer, DevServerError
from console.narrator import Narrator
from console.team import ROOT, SCRIPTED_MODEL, Team, TeamError, how_to_go_on

SPEC = "Build textkit, a small library for plain text: slugify titles, wrap paragraphs, redact personal data."


def run_demo(spec: str | None, narrator: Narrator, *, kill: bool = False) -> int:
    """Run the demo; return 0 if the run ended well and the library's own tests pass.

    Args:
        spec: What to build. A scripted model builds textkit, whatever it says.
        narrator: Who says what happens.
        kill: Whether to kill the worker in the middle of the run.

    Raises:
        NoGit: What a team builds is kept by git, and there is none.
    """
    program()  # before anything starts
    # The process id keeps apart what two demos do that are started in the same second.
    folder = ROOT / ".demo" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    model = os.environ.get("MODEL") or SCRIPTED_MODEL
    narrator.waits_for("the dev server")
    try:
        with (
            DevServer.start(db_file=folder / "temporal.db", search_attributes=SEARCH_ATTRIBUTES) as server,
            Team(folder, server, model, narrator) as team,
        ):
            # Here, because it takes time, in which the worker starts.
            from console.build import Build

            build = Build(folder, server, team, model, narrator)
            code = asyncio.run(build.run(spec or SPEC, kill=kill))
            narrator.waits_for("worker and server to end")
        narrator.say(build.what_to_try_next())
    except (DevServerError, TeamError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        narrator.say(f"\nStopped. The run is kept; go on with it:\n  {how_to_go_on(folder, model)}")
        return 130
    return code
