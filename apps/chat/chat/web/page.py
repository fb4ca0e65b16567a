"""The page: files that its build leaves. Their names under `/assets` change with what is in them; the page's don't."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from chat.problems import Refused

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'self'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""What the browser is to refuse, whatever may get into the page."""


def page(directory: Path) -> APIRouter:
    """Return the way to the files in `directory`."""
    api = APIRouter()
    assets = StaticFiles(directory=directory / "assets", check_dir=False)

    @api.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index() -> Response:
        if not (directory / "index.html").is_file():
            raise Refused(503, "not_built", "The page is not built", "Run `make chat`, which builds it.")
        return FileResponse(directory / "index.html", headers={**HEADERS, "Cache-Control": "no-cache"})

    @api.api_route("/assets/{path:path}", methods=["GET", "HEAD"], include_in_schema=False)
    async def asset(path: str, request: Request) -> Response:
        response = await assets.get_response(path, request.scope)
        response.headers.update({**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"})
        return response

    return api
