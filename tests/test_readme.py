"""What the README and the other pages show has to work as it stands there."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import console.__main__
import worker

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "llms.txt",
    "docker/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)


def blocks(language: str, page: str) -> list[str]:
    """Return a page's blocks of code in a language."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", (ROOT / page).read_text(), re.S | re.M)
    return [textwrap.dedent(block) for block in found]


EXAMPLES = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(blocks("python", page), 1)
]

COMMANDS = [
    pytest.param(command, id=f"{page}: {command[:50]}")
    for page in PAGES
    for block in blocks("sh", page)
    for line in block.replace("\\\n", " ").splitlines()
    if (command := re.sub(r"\s+# .*", "", line).strip())
]


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """All python blocks as modules in one folder, those that say `# my_team.py` first under that name."""
    folder = tmp_path_factory.mktemp("modules")
    made = {}
    for number, example in enumerate(EXAMPLES):
        block = str(example.values[0])
        named = re.match(r"# (\w+\.py)\n", block)
        path = folder / (named[1] if named else f"block_{number}.py")
        assert not path.exists(), f"two blocks are called {path.name}"
        path.write_text(block)
        made[str(example.id)] = path
    return made


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_has_no_undefined_name(example: str) -> None:
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--isolated",
        "--select",
        "E9,F821",
        "--output-format",
        "concise",
        "-",
    ]
    checked = subprocess.run(command, input=example, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 5


@pytest.mark.timeout(300)  # without a cache, mypy reads all that the examples import
def test_examples_have_no_type_errors(modules: dict[str, Path]) -> None:
    """With the two settings that docs/testing.md names, and strictly."""
    folder = next(iter(modules.values())).parent
    settings = "\n".join(block for block in blocks("toml", "docs/testing.md") if "[tool.mypy]" in block)
    (folder / "pyproject.toml").write_text(
        settings.replace("[tool.mypy]", '[tool.mypy]\nstrict = true\nfollow_imports = "silent"')
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--namespace-packages",
        "--explicit-package-bases",
        "--cache-dir",
        os.devnull,
    ]
    # What another block is about to define can't be imported from here.
    paths = [str(path) for page, path in modules.items() if "activities.translator" not in path.read_text()]
    checked = subprocess.run(
        [*command, *paths],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "MYPYPATH": f"{folder}:{ROOT}"},
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_examples_with_tests_pass(modules: dict[str, Path]) -> None:
    folder = next(iter(modules.values())).parent
    tests = [str(path) for path in modules.values() if path.name.startswith("test_")]
    assert tests
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", "--rootdir"]
    ran = subprocess.run(
        [*command, str(folder), *tests],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_what_is_typed_at_a_python_prompt_gives_what_is_shown() -> None:
    [shown] = blocks("pycon", "README.md")
    typed = "".join(line[4:] + "\n" for line in shown.splitlines() if line.startswith(">>> "))
    told = [line for line in shown.splitlines() if not line.startswith(">>> ")]
    ran = subprocess.run(
        [sys.executable, "-m", "asyncio"],
        cwd=ROOT,
        input=typed,
        capture_output=True,
        text=True,
        env={**os.environ, "MODEL": "scripted/examples/hello.toml"},
    )
    said = [line.replace(">>> ", "") for line in (ran.stdout + ran.stderr).splitlines()]
    assert [line for line in told if line not in said] == [], said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_one_that_there_is(command: str) -> None:
    words = shlex.split(command.replace("…", "x"))
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    match words:
        case ["python", "worker.py", *options]:
            with _complaining():
                worker.parser().parse_args(options)
        case ["python", "-m", "console", *options]:
            with _complaining():
                console.__main__.parser().parse_args(options)
        case ["make", target, *_] if "=" not in target:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text()


@contextlib.contextmanager
def _complaining() -> Iterator[None]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as end:
        pytest.fail(f"{end}: {said.getvalue()}")


@pytest.mark.parametrize("wrong", blocks("py", "llms.txt"))
def test_what_is_called_an_error_is_one(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, words = wrong.partition("\n")[0].removeprefix("# ").partition(": ")
    module = ModuleType("wrong")
    monkeypatch.setitem(sys.modules, "wrong", module)
    with pytest.raises(Exception, match=re.escape(words)) as raised:
        exec(wrong, vars(module))
    assert raised.typename == name


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_are_there(page: str) -> None:
    named = re.findall(
        r"`((?:activities|workflows|console|testing|tests|examples|docs)/[\w/]+(?:\.\w+)?)/?`", _text(page)
    )
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_picture_of_the_rooms_has_each_of_them() -> None:
    page = _text("docs/architecture.md")
    rooms = [path.parent for wing in ("activities", "workflows") for path in (ROOT / wing).glob("*/__init__.py")]
    assert rooms
    assert [
        room
        for room in rooms
        if f"`{room.name}/`" not in page or not re.search(rf"\b{room.name}\b.*-->|--> .*\b{room.name}\b", page)
    ] == []


def _text(page: str) -> str:
    return (ROOT / page).read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
        if "://" in link:
            continue
        path, _, part = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if part:
            there = target.read_text()
            anchors = {
                re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-") for line in there.splitlines()
            }
            assert part in anchors or f'id="{part}"' in there, f"{page} links to {link}"
