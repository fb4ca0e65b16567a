"""The gateway before small services that say who they are and what they were sent."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from deploy.gateway import SERVICES, Gateway
from deploy.process import free_port

ROUTES = {
    "/auth-ms/auth/login": "auth",
    "/register": "auth",
    "/login": "auth",
    "/users": "auth",
    "/users-ms/users/7": "users",
    "/notifications-ms/notifications": "notifications",
    "/messages-ms/conversations": "messages",
    "/autoreply-ms/settings": "autoreply",
    "/scripts-ms/scripts": "scripts",
    "/web-ms/people": "web",
    "/": "web",
    "/assets/page.js": "web",
    "/users/7": "web",
}


def _service(name: str, port: int) -> uvicorn.Server:
    async def tell(request: Request) -> Response:
        await request.body()
        return JSONResponse({"service": name, "port": port, "path": request.url.path, "headers": dict(request.headers)})

    async def echo(socket: WebSocket) -> None:
        await socket.accept(subprotocol="chat")
        with contextlib.suppress(Exception):
            while True:
                await socket.send_text(f"{name} {await socket.receive_text()}")

    anything = Route("/{path:path}", tell, methods=["GET", "POST"])
    app = Starlette(routes=[WebSocketRoute("/ws", echo), anything])
    return uvicorn.Server(
        uvicorn.Config(app, port=port, log_level="error", lifespan="off", ws="websockets-sansio", proxy_headers=False)
    )


@contextlib.asynccontextmanager
async def _services(instances: dict[str, list[int]]) -> AsyncIterator[None]:
    servers = [_service(name, port) for name, ports in instances.items() for port in ports]
    tasks = [asyncio.create_task(server.serve()) for server in servers]
    async with asyncio.timeout(10):
        while not all(server.started for server in servers):
            await asyncio.sleep(0.02)
    try:
        yield
    finally:
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


@contextlib.asynccontextmanager
async def _gateway(directory: Path, **started: int) -> AsyncIterator[tuple[httpx2.AsyncClient, dict[str, list[int]]]]:
    """Start a gateway, and as many instances of each service; of all others there is none behind the address."""
    instances = {service: [free_port() for _ in range(started.get(service, 1))] for service in SERVICES}
    async with (
        _services({service: instances[service] for service in started}),
        Gateway(directory, instances) as gateway,
        httpx2.AsyncClient(base_url=gateway.url) as client,
    ):
        yield client, instances


async def test_each_path_reaches_its_service(directory: Path) -> None:
    async with _gateway(directory, **dict.fromkeys(SERVICES, 1)) as (client, _):
        found = {path: (await client.get(path)).json() for path in ROUTES}
    assert {path: answer["service"] for path, answer in found.items()} == ROUTES
    assert all(answer["path"] == path for path, answer in found.items())


async def test_what_a_client_says_of_itself_is_not_passed_on(directory: Path) -> None:
    lies = {"X-Forwarded-For": "8.8.8.8", "Service-Key": "stolen", "Authorization": "Bearer token"}
    async with _gateway(directory, users=1) as (client, _):
        headers: dict[str, Any] = (await client.get("/users-ms/users", headers=lies)).json()["headers"]
        assert headers["host"] == client.base_url.netloc.decode()
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["authorization"] == "Bearer token"
    assert not headers.get("service-key")


async def test_sockets_pass_through(directory: Path) -> None:
    async with (
        _gateway(directory, web=1) as (client, _),
        connect(f"ws://{client.base_url.netloc.decode()}/ws", subprotocols=[Subprotocol("chat")]) as socket,
    ):
        assert socket.subprotocol == "chat"
        await socket.send("hello")
        assert await socket.recv() == "web hello"


async def test_instances_take_turns(directory: Path) -> None:
    async with _gateway(directory, web=2) as (client, instances):
        seen = {(await client.get("/")).json()["port"] for _ in range(20)}
    assert seen == set(instances["web"])


async def test_a_service_that_is_away_is_reported_and_leaves_the_others_alone(directory: Path) -> None:
    async with _gateway(directory, web=1) as (client, _):
        away = await client.get("/scripts-ms/scripts")
        there = await client.get("/")
    assert (away.status_code, away.json()["code"], away.headers["Retry-After"]) == (503, "unavailable", "1")
    assert away.headers["Content-Type"] == "application/problem+json"
    assert there.status_code == 200


async def test_a_body_may_have_one_mebibyte(directory: Path) -> None:
    async with _gateway(directory, users=1) as (client, _):
        fits = await client.post("/users-ms/users", content=b"x" * 1024 * 1024)
        larger = await client.post("/users-ms/users", content=b"x" * (1024 * 1024 + 1))
    assert fits.status_code == 200
    assert (larger.status_code, larger.json()["code"]) == (413, "too_large")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/openapi.json", "/docs", "/commands/x"])
async def test_what_operators_ask_is_not_for_everybody(directory: Path, path: str) -> None:
    async with _gateway(directory, web=1) as (client, _):
        answer = await client.get(path)
    assert (answer.status_code, json.loads(answer.text)["code"]) == (404, "not_found")


def test_a_service_that_is_unknown_or_missing_is_named(directory: Path) -> None:
    with pytest.raises(ValueError, match="missing: router, web"):
        Gateway(directory, {service: [1] for service in (*SERVICES[:-1], "router")})
