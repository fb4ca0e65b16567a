"""`python -m chat SERVICE …`: run some services in this process, or `all` of them. Settings: see `chat.settings`."""

from __future__ import annotations

import argparse
import gc
import sys

import uvicorn
from pydantic import ValidationError

from chat import limits, observe
from chat.deployments import SERVICES, process
from chat.settings import Settings


def main() -> int:
    """Serve until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chat", description="Run services of the chat in one process.")
    parser.add_argument("service", nargs="+", choices=("all", *SERVICES))
    names = parser.parse_args().service
    try:
        settings = Settings()
    except ValidationError as error:
        wrong = "; ".join(f"CHAT_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        print(f"error: the settings make no sense: {wrong}", file=sys.stderr)
        return 2
    observe.configure_logging()
    app = process(settings, tuple(SERVICES) if "all" in names else names)
    gc.freeze()  # or each full collection looks again at all that was imported: a fifth of a second without an answer
    gc.set_threshold(limits.GARBAGE_OBJECTS, 10, 10)
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # texts are short: it would take more memory and time than it saves
        ws_max_size=limits.FRAME_BYTES_MAX,
        timeout_graceful_shutdown=limits.DRAIN_SECONDS,
        timeout_keep_alive=limits.KEEP_ALIVE_SECONDS,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
