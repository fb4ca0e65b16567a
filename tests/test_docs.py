"""What the documents say must be so: names exist, tables are complete, links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from tests.replica.parts import MemoryOrdering

from quorate import errors
from quorate.config import (
    AppConfig,
    HttpConfig,
    RouteConfig,
    RunConfig,
    SidecarConfig,
    SnapshotConfig,
    TlsConfig,
)
from quorate.errors import QuorateError
from quorate.ops.admin import COUNTERS, GAUGES, Admin, commit_latency
from quorate.ops.members import Members
from quorate.ops.view import _STATES
from quorate.protocols.requests import _REFUSALS
from quorate.replica.recovery import State

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "quorate"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "apps").glob("*/*.md")])

TERMS = (
    "acquaintance, agreed time, applied, apply, ballot, base, batch, broken, call, candidate, canvass, capture, "
    "catch-up, change, channel, checkpoint, choose, chunk, claim, client, cluster, command, commit, contradiction, "
    "core, damaged, deliver, digest, dismissed, driver, effect, engine, epoch, event, execute, fingerprint, follower, "
    "founder, frame, front, golden conversation, greeting, hand over, history, index, invariant, lag, lane, leader, "
    "learner, life, log, manifest, member, membership, misbehaviour, misuse, mode, model, neighbour, no-op, offer, "
    "office, outcome, peer, persisted, pipeline, planted bug, point, prefix, preempted, problem, promise, propose, "
    "proposer, quorum, read barrier, ready, record, repair, replay, replica, reply, request, request id, rescue, "
    "restore, room, round, salvage, seed, service, session, sidecar, slot, snapshot, stamp, state driver, state "
    "transfer, supervisor, term, tick, tombstone, total order, trim, upstream, void, vote, voter, vouch, window"
)
"""Words that the sources use in one sense only."""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def rows(document: str) -> list[list[str]]:
    """Return the cells of every row of the document's tables, the ruled lines left out."""
    lines = (ROOT / document).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if re.match(r"\|(?!---)", line)]


def first_cells(document: str) -> set[str]:
    """Return all words set as code in the first column of the document's tables."""
    return {word for cells in rows(document) for word in re.findall(r"`([^`]+)`", cells[0])}


# --- every document --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_named_parts_of_the_source_exist(path: Path) -> None:
    """A file is named as in `replica/apply.py`, a part of it as in `replica/apply.py: Applier.advance`."""
    for file, part in re.findall(r"`((?:[\w-]+/)*\w+\.py)(?:: ([\w.]+))?`", path.read_text()):
        beside = [SOURCE / file, ROOT / file, path.parent / file]
        assert any(place.exists() for place in beside), file
        if part:
            found: object = importlib.import_module("quorate." + file.removesuffix(".py").replace("/", "."))
            for name in part.split("."):
                found = getattr(found, name)


def test_the_glossary_has_one_meaning_for_each_word() -> None:
    words = [word for cells in rows("GLOSSARY.md") for word in cells[0].split(", ") if word != "word"]
    assert sorted(words) == sorted(set(words))
    assert [term for term in TERMS.split(", ") if term not in words] == []


# --- tables ----------------------------------------------------------------------------------------------------------


def problems() -> set[tuple[int, str]]:
    """Return status and code of every problem document that the sources can make."""
    found = {(status, code) for code, (status, _) in _REFUSALS.items()}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name(id="problem"),
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(code)), *_],
                ):
                    found.add((status, code))
    return found


def test_every_problem_is_in_the_table_of_its_door() -> None:
    told = {(int(cells[0]), cells[1].strip("`")) for cells in rows("docs/http.md") if cells[0].isdecimal()}
    assert told == problems()


SHAPES = [RunConfig, SnapshotConfig, RouteConfig, HttpConfig, SidecarConfig, AppConfig, TlsConfig]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_setting_is_in_the_table_with_its_default(shape: type[msgspec.Struct]) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    section = next(part for part in text.split("\n## ") if f"`{shape.__name__}`\n" in part)
    told = re.findall(r"^\| `(\w+)` \| (.+?) \|", section, re.MULTILINE)
    assert told == [(field.name, shown_default(field)) for field in msgspec.structs.fields(shape)]


def shown_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required"
    default = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    if isinstance(default, msgspec.Struct):
        return "see below"
    return "none" if default is None else f"`{json.dumps(default)}`"


def test_every_metric_is_in_the_table() -> None:
    status = dict.fromkeys([*GAUGES, *COUNTERS], 0) | {"state": "ready", "role": "leader", "refused": {"overloaded": 1}}
    registry = CollectorRegistry()
    commit_latency(registry)
    Admin(lambda: status, Members(MemoryOrdering()), registry)
    endings = {"counter": "_total", "info": "_info"}
    names = {metric.name + endings.get(metric.type, "") for metric in registry.collect()}
    assert {word for word in first_cells("docs/operations.md") if word.startswith("quorate_")} == names


def test_every_exit_code_is_in_the_table() -> None:
    families = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QuorateError)]
    codes = {str(kind.exit_code) for kind in families}
    assert {cells[0] for cells in rows("docs/operations.md") if cells[0].isdecimal()} == codes | {"0", "130"}


def test_every_state_is_in_the_table() -> None:
    assert set(get_args(State)) | set(_STATES) <= first_cells("docs/operations.md")
