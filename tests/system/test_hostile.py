"""A provider that says whatever a provider must not say harms nobody: neither the calls it answers nor others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.conftest import Runs
from tests.hostile import SCENES, HostileProvider
from tests.provider import Provider, Text
from tests.system.hostile_team import judge_all, sing_far_away, sing_on
from tests.system.processes import Workers

DELAY_S = 2.0


async def test_whatever_a_provider_says_each_call_ends_as_it_should_and_a_canary_sings_on(
    workers: Workers, runs: Runs, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    module = ("--bare", "--module", "tests.system.hostile_team")
    with HostileProvider() as hostile, Provider(lambda _: Text("tweet")) as kind:
        urls: dict[str, Any] = {"HOSTILE_URL": hostile.url, "CANARY_URL": kind.url, "OPENAI_API_KEY": "any"}
        near = workers.start(*module, "--serve", "Judge", "--serve", "Canary", **urls)
        far = workers.start(*module, "--serve", "choreography", "--serve", "FarCanary", **urls)
        await near.serves()
        await far.serves()
        singing = [await runs.start(song, str(until)) for song in (sing_on, sing_far_away)]
        ends = await runs.execute(judge_all, list(SCENES))
        until.touch()
        turns, turns_far_away = [await song.result() for song in singing]

    wrong = {
        name: f"{end[:300]} after {hostile.asked[name]} requests"
        for (name, scene), end in zip(SCENES.items(), ends, strict=True)
        if not end.startswith(scene.ends) or hostile.asked[name] < scene.asked
    }
    assert not wrong
    asked = sum(scene.asked for scene in SCENES.values())
    assert hostile.asked.total() <= 1.1 * asked  # a call that a starved machine has lost is made again
    assert len(turns) > 5
    # A machine that has more to do than it has cores delays everybody.
    overload = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert max(turns) < max(turns_far_away) + DELAY_S * overload, (overload, turns, turns_far_away)
    assert near.is_running
