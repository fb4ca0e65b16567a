"""What operators see of a process: whether it lives and can work, its metrics, its log.

Logs are JSON, one object a line on standard error, with a request's identifier on every line that belongs to it.
Metrics name the route, never the path, so that there are only so many of them.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.typing import Processor

Probe = Callable[[], Awaitable[bool]]
log = structlog.get_logger()

REGISTRY = CollectorRegistry()
REQUEST_SECONDS = Histogram(
    "chat_http_request_seconds", "Time to answer a request.", ("route", "method", "status"), registry=REGISTRY
)
EVENTS = Counter(
    "chat_events_total", "Events handled, by topic and what became of them.", ("topic", "outcome"), registry=REGISTRY
)
COMMANDS = Counter(
    "chat_commands_total", "Commands applied, by name and status.", ("command", "status"), registry=REGISTRY
)


def configure_logging() -> None:
    """Have everything that is logged, libraries' records included, come out as JSON."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it has a line for each request to another service


def install(app: FastAPI, is_ready: Probe) -> None:
    """Give the application its probes and metrics, and have its requests measured and logged."""

    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz() -> Response:
        ready = await is_ready()
        return JSONResponse({"status": "ok" if ready else "waiting"}, 200 if ready else 503)

    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    for path, endpoint in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        app.add_api_route(path, endpoint, include_in_schema=False)
    app.add_middleware(Observed)


class Observed:
    """Middleware that times requests and logs those that fail."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        since, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=uuid.uuid4().hex):
            try:
                await self._app(scope, receive, told)
            finally:
                route = getattr(scope.get("route"), "path", "other")
                REQUEST_SECONDS.labels(route, scope["method"], status).observe(time.perf_counter() - since)
                if status >= 500:
                    log.warning("request failed", route=route, method=scope["method"], status=status)
