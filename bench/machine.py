"""What figures were measured on, and how fast that was at the moment: they mean little without."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from bench.sides import ROOT

import quorate
from quorate.errors import Misuse

CALIBRATION_STEPS = 300_000
SYNCS = 200
PACKAGES = {"wrk": "wrk", "nginx": "nginx-light", "node": "nodejs"}


def require(*tools: str) -> None:
    """Refuse to start without what is needed; raises Misuse."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise Misuse(f"{tool} is not installed", f"apt-get install {PACKAGES.get(tool, tool)}")


def machine(directory: Path) -> dict[str, Any]:
    """Say what this ran on, as far as it explains figures; `directory` is on the disk that is measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    mounts = [part for part in psutil.disk_partitions(all=True) if directory.is_relative_to(part.mountpoint)]
    disk = max(mounts, key=lambda part: len(part.mountpoint)).fstype
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "processor": f"{model}, {psutil.cpu_count()} cores, {memory} GiB",
        "system": f"{platform.system()} {platform.release()}, log on {disk}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "disk": f"4 KiB append + fdatasync takes {sync_microseconds(directory):.0f} us (p50)",
    }


def software(loop: str) -> dict[str, str]:
    """Say which version is measured, and on which event loop."""
    uvloop = "installed" if importlib.util.find_spec("uvloop") else "not installed"
    return {"quorate": f"{quorate.__version__} ({commit()})", "loop": f"{loop}, uvloop {uvloop}"}


def commit() -> str:
    """Return the commit that is measured, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "no repository") + (" with changes" if git("status", "-s") else "")


def sync_microseconds(directory: Path) -> float:
    """Return how long the disk takes to make 4 KiB durable, median: the floor of every ordered write."""
    taken = []
    with (directory / "syncs").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return median(taken) * 1e6


def calibration_ms() -> float:
    """Time a fixed piece of work, which tells how fast the machine is at the moment."""
    started = time.perf_counter()
    total = 0
    for step in range(CALIBRATION_STEPS):
        total += step & 7
    return (time.perf_counter() - started) * 1000


def steadiness(calibrations: Sequence[float]) -> str:
    """Say how steady the machine was over a run."""
    return f"{median(calibrations):.1f} ms, {min(calibrations):.1f} to {max(calibrations):.1f}"
