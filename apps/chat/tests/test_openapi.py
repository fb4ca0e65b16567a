"""What /openapi.json describes holds: Schemathesis finds no 5xx, and no status, type or shape that isn't described.

All services in one process are asked by a user, by a service and by a stranger; then each service's own page, with a
users service beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx2
import pytest

from chat.deployments import SERVICES, process
from deploy.process import free_port
from tests.conftest import SERVICE_KEY, served, settings, signed_in

CONFIG = Path(__file__).with_name("schemathesis.toml")
USER = signed_in(1)
SERVICE = {"Service-Key": SERVICE_KEY}
STRANGER: Mapping[str, str] = {}
FOR_SERVICES = "^/users-ms/|^/autoreply-ms/|^/messages-ms/inbox"
"""Paths that take the key; beside which a bad token is nothing to refuse."""
CALLERS = {
    "user": (USER, ()),
    "service": (SERVICE, ("--include-path-regex", FOR_SERVICES, "--exclude-checks", "ignored_auth")),
    "stranger": (STRANGER, ("--phases", "fuzzing")),
}
ADA = {"username": "ada", "password": "correct horse battery"}


@contextlib.asynccontextmanager
async def serving(directory: Path, *names: str, users_url: str | None = None) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve these services, which find each other in one process, and the users service there or elsewhere."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    own = settings(
        database_url=f"sqlite:///{directory / names[0]}.db",
        sources_url=f"file:{directory / 'sources'}",
        users_url=users_url or url,
        messages_url=url,
        scripts_url=url,
    )
    async with served(process(own, names), port) as client:
        yield client


async def found(client: httpx2.AsyncClient, headers: Mapping[str, str], directory: Path, *options: str) -> str:
    """Return what Schemathesis reports, or nothing if it finds no fault."""
    bearing = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    program = (sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run")
    running = await asyncio.create_subprocess_exec(
        *program,
        *bearing,
        *options,
        str(client.base_url.join("/openapi.json")),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    report, _ = await running.communicate()
    return report.decode() if running.returncode else ""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("caller", CALLERS)
async def test_all_services_answer_as_they_are_described(tmp_path: Path, caller: str) -> None:
    headers, options = CALLERS[caller]
    async with serving(tmp_path, *SERVICES) as client:
        assert (await client.post("/register", json=ADA)).json()["id"] == 1
        report = await found(client, headers, tmp_path, *options)
        assert not report, report


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_answers_as_its_own_page_describes(tmp_path: Path, service: str) -> None:
    names = (service, "notifications") if service == "auth" else (service,)  # logins are told within the process
    async with serving(tmp_path, "users") as users, serving(tmp_path, *names, users_url=str(users.base_url)) as client:
        report = await found(client, USER, tmp_path, "--phases", "fuzzing", "--max-examples", "3")
        assert not report, report
