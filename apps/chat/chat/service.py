"""What a service is, and how services become one HTTP application.

Every application has `/healthz` (it runs), `/readyz` (it can work), `/metrics`, and its description at
`/openapi.json`. In the replicated deployment one application holds all services.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import JSONResponse, Response

from chat import observe, problems
from chat.bodies import Bounded
from chat.commands import AnyCommand
from chat.events import Handler, Topic
from chat.tokens import Tokens

Background = Callable[[], AbstractAsyncContextManager[None]]
"""Something that runs as long as the application does."""


@dataclass(frozen=True)
class Service:
    """One service: its endpoints, its commands, the topics whose events it takes, and what runs beside them."""

    name: str
    api: APIRouter
    commands: Sequence[AnyCommand] = ()
    topics: Mapping[Topic, Handler] = field(default_factory=dict)
    background: Sequence[Background] = ()


class _Application(FastAPI):
    """Describes refusals in the form that they have."""

    def openapi(self) -> dict[str, Any]:
        document = super().openapi()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = problems.Problem.model_json_schema()
        return document


def application(
    services: Sequence[Service], tokens: Tokens, background: Sequence[Background], is_ready: observe.Probe
) -> FastAPI:
    """Return an application of these services; `background` starts before theirs and ends after."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for one in (*background, *(one for service in services for one in service.background)):
                await stack.enter_async_context(one())
            yield

    title = "Chat: " + ", ".join(service.name for service in services)
    app = _Application(
        title=title, version="0.1.0", lifespan=life, docs_url=None, redoc_url=None, responses=problems.RESPONSES
    )
    app.state.tokens = tokens
    app.add_middleware(Bounded)
    problems.install(app)
    observe.install(app, is_ready)
    for service in services:
        app.include_router(service.api, tags=[service.name])
        app.add_api_route(f"/{service.name}-ms/healthcheck", _health, include_in_schema=False)
    return app


async def _health() -> Response:
    return JSONResponse({"status": "ok"})
