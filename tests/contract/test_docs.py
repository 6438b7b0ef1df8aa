"""What the documentation shows is so: commands, options, settings, links, files, the tree."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from fti.app.settings import Settings, setting_names
from fti.store.store import Store
from tests.support.command import found, parse
from tests.support.command import tree as commands
from tests.support.service import assistant_over, filled_store, serving

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = ("app", "store", "pipelines", "fti", "tests", "configs", "docs", ".ci")
#: Programs that a shell block may call without our checking what follows.
FOREIGN = {"source", "pip", "env", "tail", "git", "docker", "opentelemetry-instrument"}
#: Options that every command takes; where they stand in a group they are parsed by the command.
COMMON = {"--help", "--json", "--store", "--config", "--set"}

each_page = pytest.mark.parametrize("page", PAGES, ids=[p.name for p in PAGES])


def fences(page: Path, *languages: str) -> list[str]:
    """The bodies of fenced blocks in these languages; ``""`` is a block that names none."""
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", page.read_text("utf-8"), re.S | re.M)
    return [body for language, body in blocks if language in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^ *```\w*\n.*?^ *```$", "", page.read_text("utf-8"), flags=re.S | re.M)


def inline(page: Path) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", prose(page))


def shell(block: str) -> Iterator[list[str]]:
    """The commands of a shell block, in words; pipes and ``&&`` separate, comments are dropped."""
    for line in block.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|(?![^'\"]*['\"]\s*$)", line):
            words = shlex.split(part, comments=True)
            if words:
                yield words


def checked(words: list[str]) -> str:
    """What is wrong with a shell command; empty where nothing is."""
    program, *rest = words
    if program == "accelerate":
        program, rest = "fti", rest[rest.index("fti)") + 1 :]  # behind $(which fti)
    if program == "fti":
        try:
            parse(rest)
        except Exception as error:  # typer's and click's errors share no public class
            return str(getattr(error, "message", error))
        return ""
    if program == "make":
        made = (ROOT / "Makefile").read_text("utf-8")
        targets = set(re.findall(r"^([a-z-]+):", made, re.M))
        variables = {f"$({word.partition('=')[0]})" for word in rest if "=" in word}
        if unread := [v for v in sorted(variables) if v not in made]:
            return f"no variable {unread}"
        asked = {word for word in rest if "=" not in word}
        return "" if asked <= targets else f"no target among {sorted(targets)}"
    if Path(program).name == "python" and rest[:1] == ["-m"]:
        return module_fault(rest[1], rest[2:])
    if program in FOREIGN or (Path(sys.executable).parent / Path(program).name).exists():
        return ""
    return "no such program"


def module_fault(name: str, options: list[str]) -> str:
    """Whether ``python -m NAME`` runs something of ours that takes these options."""
    if name == "pytest":
        paths = [o for o in options if o.startswith("tests")]
        return "" if all((ROOT / p).exists() for p in paths) else f"no such tests: {paths}"
    path = ROOT / name.removeprefix("fti.").replace(".", "/")
    files = [path.with_suffix(".py"), path / "__main__.py"]
    source = "".join(f.read_text("utf-8") for f in files if f.is_file())
    if not source:
        return f"no module {name}"
    named = [o.partition("=")[0] for o in options if o.startswith("--") and o != "--help"]
    missing = [o for o in named if f'"{o}"' not in source]
    return f"{name} takes no {missing}" if missing else ""


def test_the_readme_has_two_pages_of_short_lines() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 120] == []


@each_page
def test_every_shell_command_is_a_real_one_with_real_options(page: Path) -> None:
    faults = {
        " ".join(words): fault
        for block in fences(page, "sh")
        for words in shell(block)
        if (fault := checked(words))
    }
    assert faults == {}


def test_most_pages_show_commands() -> None:
    shown = sum(len(list(shell(b))) for page in PAGES for b in fences(page, "sh"))
    assert shown > 80


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("fti batch questions.csv --into x", "No such option"),
        ("fti brew coffee", "No such command"),
        ("make tea", "no target"),
        ("make bench SUGAR=2", "no variable"),
        ("python -m tests.bench.coffee --data x", "no module"),
        ("python -m tests.bench.precisions --sugar two", "takes no"),
        ("teapot --short", "no such program"),
    ],
)
def test_a_command_that_is_none_is_found(command: str, fault: str) -> None:
    assert fault in checked(shlex.split(command))


def test_every_scheduled_pipeline_parses() -> None:
    text = (ROOT / "docs" / "batch-and-streams.md").read_text("utf-8")
    scheduled = re.findall(r"fti (pipeline run [a-z.]+(?: --[a-z-]+)*)", text)
    assert len(scheduled) >= 6
    for command in scheduled:
        parse(shlex.split(command))


@each_page
def test_every_command_in_the_text_exists_and_takes_its_options(page: Path) -> None:
    for text in inline(page):
        words = text.split()
        if words[0] != "fti" or words[1:2] == ["COMMAND"] or len(words) == 1:
            continue
        command, rest = found(words[1:])
        assert command.name != "fti", f"{text!r}: no such command"
        if hasattr(command, "commands"):
            assert rest == [], f"{text!r}: {command.name} has no {rest}"
            continue
        taken = COMMON | {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert {w for w in rest if re.match(r"--?[a-z]", w)} <= taken, text


def test_the_table_of_commands_names_each_of_them() -> None:
    table = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    assert set(re.findall(r"^\| `fti ([a-z-]+)`", table, re.M)) == set(commands().commands)


@each_page
def test_every_setting_named_is_one(page: Path, tmp_path: Path) -> None:
    # The second is sentence-transformers', the third a score of an evaluation.
    known = {*setting_names(), "model.encode", "answers.f1.mean"}
    known |= {f"store.{part}" for part in vars(Store(tmp_path / "store"))}  # of a Python store
    for text in inline(page):
        name = text.partition("=")[0].partition(":")[0]
        if re.fullmatch(r"[a-z_]+(\.[a-z0-9_]+)+", name):
            section = name.partition(".")[0]
            if section in Settings.model_fields and not name.endswith(".py"):
                assert name in known, f"{page.name}: {name!r} is no setting"


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """How forges name the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@each_page
def test_every_file_named_exists(page: Path) -> None:
    for text in inline(page):
        name = text.partition(" ")[0]
        first, slash, _ = name.partition("/")
        if slash and first in TOP and re.fullmatch(r"[\w./-]+", name):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_readme_links_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", README.read_text("utf-8")))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}


def tree() -> set[str]:
    """The paths of the README's tree, by indentation; names on one line are siblings."""
    block = next(b for b in fences(README, "") if b.startswith("store/"))
    folders: list[str] = []
    paths = set()
    for line in filter(str.strip, block.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        del folders[depth:]
        paths |= {"/".join([*folders, name.rstrip("/")]) for name in names}
        folders.append(names[0].rstrip("/"))
    return paths


def test_the_tree_names_what_there_is_and_every_wing() -> None:
    shown = tree()
    assert [path for path in sorted(shown) if not (ROOT / path).exists()] == []
    wings = {
        path.parent.relative_to(ROOT).as_posix()
        for top in ("app", "pipelines", "store")
        for path in (ROOT / top).rglob("__init__.py")
    }
    inner = {"dataset/sources", "reading/readers", "service/routes"}
    missing = {
        w for w in wings - shown if "reading/readers/" not in w and not w.endswith(tuple(inner))
    }
    assert missing == set()


@each_page
def test_every_python_block_is_python(page: Path) -> None:
    for block in fences(page, "python"):
        ast.parse(block)


def test_the_client_of_the_page_on_serving_gets_its_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openai")
    from fti.app.service.api import create_app

    (block,) = fences(ROOT / "docs" / "serving.md", "python")
    assistant = assistant_over(filled_store(tmp_path / "store"))
    with structlog.testing.capture_logs(), serving(create_app(assistant, name="base")) as address:
        asked = block.replace("http://127.0.0.1:8000", address)
        asked = asked.replace("When is the office closed?", "When does the workshop open?")
        exec(compile(asked, "serving.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("The workshop opens at nine on Saturdays.")
    assert "url_citation" in printed
    assert "'handbook/hours.md'" in printed
