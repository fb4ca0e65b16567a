"""What the documents say must be so: names exist, tables are complete, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from quorate import errors
from quorate.config import AppConfig, HttpConfig, RouteConfig, RunConfig, SidecarConfig
from quorate.ops import admin
from quorate.protocols.requests import BadRequest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quorate"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "apps").rglob("*.md")])
PAPERS = [path for path in DOCUMENTS if path.name in {"ARCHITECTURE.md", "protocol.md"} or path.parent.name == "decisions"]

TERMS = (
    "applied ballot batch canvass catch-up chosen client command core deadline deliver digest driver effect entry "
    "event execute fingerprint front index learner lease membership no-op outcome peer persisted pipeline prefix "
    "preempted promise propose quorum read barrier replay replica request id sidecar slot stamp supervisor tick "
    "tombstone upstream vote window"
)
"""Words the sources use in one sense only; GLOSSARY says which."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def read(name: str) -> str:
    return (ROOT / name).read_text()


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of every table row."""
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


# --- every document --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", PAPERS, ids=name_of)
def test_named_parts_of_the_source_exist(path: Path) -> None:
    """A file is named as in `replica/apply.py`, a part of it as in `replica/apply.py: Applier.advance`."""
    named = re.findall(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)(?:: ([\w.]+))?`", path.read_text())
    for file, part in named:
        source = SOURCE / file
        if not source.exists():
            assert (ROOT / file).exists(), file
            continue
        if part:
            module = importlib.import_module("quorate." + file.removesuffix(".py").replace("/", "."))
            found: object = module
            for name in part.split("."):
                found = getattr(found, name)


def test_the_glossary_has_one_meaning_for_each_word() -> None:
    words = re.findall(r"^\*\*([^*]+)\*\*", read("GLOSSARY.md"), re.MULTILINE)
    assert len(words) == len(set(words))
    defined = {word.lower() for entry in words for word in re.split(r", | / ", entry)}
    assert [term for term in glossary_terms() if term not in defined] == []


def glossary_terms() -> list[str]:
    return TERMS.replace("read barrier", "read_barrier").replace("request id", "request_id").replace("_", " ").split(",")


# --- tables ----------------------------------------------------------------------------------------------------------


def problem_codes() -> set[tuple[int, str]]:
    """Return status and code of every problem document that the sources can make."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "problem" and len(node.args) >= 2:
                status, code = node.args[:2]
                if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                    found.add((int(str(status.value)), str(code.value)))
    return found


def test_every_problem_is_in_the_table() -> None:
    told = {(int(cells[0]), cells[1].strip("`")) for cells in table_rows(read("docs/http.md")) if cells[0].isdigit()}
    parser = {(status, code) for code in PARSER_CODES for status in [BadRequest(code, "").outcome.status]}
    assert told == problem_codes() | parser


@pytest.mark.parametrize("shape", [RunConfig, SidecarConfig, AppConfig, RouteConfig, HttpConfig])
def test_every_setting_and_its_default_is_in_the_table(shape: type[msgspec.Struct]) -> None:
    sections = re.split(r"^## ", read("docs/configuration.md"), flags=re.MULTILINE)
    section = next(section for section in sections if f"`{shape.__name__}`" in section)
    told = {cells[0].strip("`"): cells[1] for cells in table_rows(section) if cells[0].startswith("`")}
    assert told == {field.encode_name: shown_default(field) for field in msgspec.structs.fields(shape)}


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(value, msgspec.Struct):
        return "see below"
    return "none" if value is None else f"`{json.dumps(value)}`"
