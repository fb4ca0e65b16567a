"""When a disk counts as low, and when as full."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.storage.room import Room, judged, room_at

MIB = 1024 * 1024
GIB = 1024 * MIB


@pytest.mark.parametrize(
    ("total", "low", "full"),
    [
        (96 * MIB, 24 * MIB, 12 * MIB),
        (256 * MIB, 64 * MIB, 16 * MIB),
        (20 * GIB, GIB, 16 * MIB),
        (1000 * GIB, 4 * GIB, 16 * MIB),
    ],
)
def test_the_reserve_goes_by_the_size_of_the_file_system(total: int, low: int, full: int) -> None:
    assert judged(low, 0, total) is Room.OK
    assert judged(low - 1, 0, total) is Room.LOW
    assert judged(full, 0, total) is Room.LOW
    assert judged(full - 1, 0, total) is Room.FULL


def test_pages_that_can_be_used_again_are_room() -> None:
    """So a log that filled the disk takes writes again once it is trimmed, although its file stays as it is."""
    assert judged(32 * MIB, 32 * MIB - 1, 256 * MIB) is Room.LOW
    assert judged(32 * MIB, 32 * MIB, 256 * MIB) is Room.OK


def test_without_any_room_on_the_disk_they_are_not_enough() -> None:
    assert judged(15 * MIB, 200 * MIB, 256 * MIB) is Room.FULL


def test_a_disk_is_asked(tmp_path: Path) -> None:
    assert room_at(tmp_path) in Room
    with pytest.raises(FileNotFoundError):
        room_at(tmp_path / "none")
