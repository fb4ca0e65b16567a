"""The rules of the house, as far as a program can see them; ruff, mypy and import-linter hold the others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import quorate
from quorate import registry

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quorate"
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
PURE = ("consensus", "errors", "limits", "protocols", "records", "types", "wire")
VAGUE_NAMES = {"common", "helpers", "manager", "misc", "util", "utils"}
PLACES = ("src", "tests", "bench", "apps", "docs", "requirements", ".ci")
TEXT = {".js", ".lua", ".md", ".py", ".svg", ".toml", ".txt"}
MADE = {".venv", "node_modules", "dist"}
"""Directories that programs fill."""
CONTRACT_BASES = {"NamedTuple", "Protocol"}

TESTED_ELSEWHERE = {
    "__main__.py": "one call, made by every test that starts `python -m quorate`",
    "errors.py": "shapes without behaviour: every test of a refusal meets them",
    "types.py": "nouns without behaviour: every test speaks them",
    "consensus/core.py": "a contract and its nouns",
    "consensus/paxos/messages.py": "shapes; their encoding is tested in tests/test_wire.py",
    "consensus/raft/messages.py": "shapes; their encoding is tested in tests/test_wire.py",
    "ops/child.py": "lives through tests/ops/test_supervisor.py, and has no life without a supervisor",
    "ops/commands.py": "each verb is run by tests/ops/test_cli.py, as a user runs it",
    "ops/options.py": "what the verbs share: each is run by tests/ops/test_cli.py, as a user runs it",
    "ops/sim_commands.py": "hands its options to the simulator: tests/sim/test_run.py",
    "ops/sidecar.py": "the composition of one replica: every test in tests/e2e runs three of them",
    "storage/memory.py": "has no behaviour beyond its contract: tests/contracts/test_stores.py",
    "transport/connection.py": "either end of it is tested in tests/transport/test_tcp.py",
}
"""Modules without a test file of their own name, each with the reason."""


def written(*places: str, pattern: str = "*") -> Iterator[Path]:
    """Yield the files below these places that somebody wrote."""
    found = (path for place in places for path in (ROOT / place).rglob(pattern))
    return (path for path in found if not MADE & set(path.relative_to(ROOT).parts))


def python_files(*places: str) -> list[Path]:
    return sorted(written(*places, pattern="*.py"))


def text_files() -> list[Path]:
    """Return every file that somebody wrote; what programs left behind is not among them."""
    places = [*ROOT.glob("*.*"), ROOT / "Makefile", *written(*PLACES)]
    return [path for path in places if path.is_file() and (path.suffix in TEXT or path.parent.name == ".ci")]


EVERYWHERE = python_files("src", "tests", "bench", "apps")
MODULES = [path for path in python_files("src") if path.name != "__init__.py"]
DOORS = [path for path in python_files("src") if path.name == "__init__.py"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# --- size and shape --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERYWHERE, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < FUNCTION_LINES_MAX, function.name


@pytest.mark.parametrize("path", DOORS, ids=name_of)
def test_a_door_sign_holds_contracts_and_no_logic(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), "a door sign says what the room does"
    for node in tree.body[1:]:
        if isinstance(node, ast.ClassDef):
            assert {base.id for base in node.bases if isinstance(base, ast.Name)} & CONTRACT_BASES, node.name
        elif isinstance(node, ast.Assign):
            assert path == SOURCE / "__init__.py", ast.unparse(node)
        else:
            assert isinstance(node, ast.Import | ast.ImportFrom), ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def test_no_file_is_named_for_nothing_in_particular() -> None:
    assert [name_of(path) for path in EVERYWHERE if VAGUE_NAMES & {path.stem, path.parent.name}] == []


# --- habits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EVERYWHERE, ids=name_of)
def test_no_error_is_swallowed(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"bare except in line {node.lineno}"
            assert not isinstance(node.body[0], ast.Pass), f"silent except in line {node.lineno}"


def test_nothing_is_left_for_later() -> None:
    assert files_that_say(r"\b(?:TODO|FIXME|XXX)\b") == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Neither homes and scratch directories, nor where packages were fetched from."""
    assert files_that_say(r"(?<![\w.])/(?:home|root|Users|tmp|work)/|--(?:extra-)?index-url|@ file:") == []


def files_that_say(pattern: str) -> list[str]:
    """Return the files in which the pattern is found, less this one, which has to say it."""
    others = (path for path in text_files() if path != Path(__file__))
    return [name_of(path) for path in others if re.search(pattern, path.read_text())]


@pytest.mark.parametrize("path", python_files("tests"), ids=name_of)
def test_tests_are_neither_skipped_nor_put_to_sleep(path: Path) -> None:
    """A sleep is the pause of a loop (a poll, or a client that thinks), never a guess how long something takes."""
    tree = tree_of(path)
    looping = {inner for loop in ast.walk(tree) if isinstance(loop, ast.While | ast.For) for inner in ast.walk(loop)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"skip", "skipif", "xfail", "importorskip"}, f"line {node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep"}:
            yields = ast.unparse(node.args[0]) == "0"
            assert yields or node in looping, f"sleep in line {node.lineno}"


# --- floors ----------------------------------------------------------------------------------------------------------


def pure_modules() -> list[Path]:
    return [path for path in MODULES if path.relative_to(SOURCE).with_suffix("").parts[0] in PURE]


@pytest.mark.parametrize("path", pure_modules(), ids=name_of)
def test_pure_floors_draw_from_no_generator_of_their_own(path: Path) -> None:
    """A core is given its generator and may name its type; import-linter sees to clocks, sockets and the rest."""
    for node in ast.walk(tree_of(path)):
        assert not (isinstance(node, ast.ImportFrom) and node.module == "random")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
            assert node.attr == "Random"
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in {"random.Random", "open", "print"}


@pytest.mark.parametrize("path", [*python_files("apps"), *sorted(written("apps", pattern="*.js"))], ids=name_of)
def test_apps_do_not_know_quorate(path: Path) -> None:
    assert not re.search(r"^\s*(?:import|from)\s+quorate|require\(.*quorate", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("table", ["CORES", "MESSAGES", "STORES", "TRANSPORTS"])
def test_every_name_in_the_registry_stands_for_something(table: str) -> None:
    entries: Mapping[str, str] = getattr(registry, table)
    assert all(registry.resolve(entries, name) is not None for name in entries)


def test_every_limit_has_one_value_and_a_use() -> None:
    limits = SOURCE / "limits.py"
    names = [node.targets[0].id for node in tree_of(limits).body if isinstance(node, ast.Assign)]  # type: ignore[attr-defined]
    assert sorted(names) == sorted(set(names))
    text = "".join(path.read_text() for path in python_files("src"))
    assert [name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2] == []


# --- tests mirror sources --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_has_tests_of_its_name(path: Path) -> None:
    inside = path.relative_to(SOURCE)
    mirror = ROOT / "tests" / inside.with_name(f"test_{inside.name}")
    excused = str(inside) in TESTED_ELSEWHERE
    assert mirror.exists() != excused, f"{name_of(mirror)} is {'there after all' if excused else 'missing'}"


# --- papers ----------------------------------------------------------------------------------------------------------


def test_the_changelog_tells_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{quorate.__version__}]" in changelog or "## [Unreleased]" in changelog


def test_the_lock_names_exact_versions() -> None:
    lines = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []
