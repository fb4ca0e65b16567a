"""Every problem of a TOML document at once, with its line and a way out."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from quorate.strict_toml import Check, Sourced, defaults, describe, dump, key_lines, nested, suggest

Size = Annotated[int, Meta(ge=1, le=9, description="a whole number from 1 to 9")]


class Door(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: Size = 1


class House(Struct, frozen=True, forbid_unknown_fields=True):
    size: Size = 3
    words: Annotated[list[str], Meta(description="a list of strings")] = []
    main: Door = Door("front")
    doors: list[Door] = []
    note: str | None = None


def problems_of(text: str) -> list[str]:
    check = Check(House)
    check.text(text, "house.toml")
    return check.problems


def test_a_good_document_becomes_flat_settings_with_their_lines() -> None:
    check = Check(House)
    found = check.text('size = 4\n\n[main]\nname = "back"\n\n[[doors]]\nname = "a"\n', "house.toml")
    assert check.problems == []
    assert found["size"] == Sourced(4, "house.toml:1")
    assert found["main.name"] == Sourced("back", "house.toml:4")
    assert found["doors"] == Sourced([Door("a")], "house.toml:6")


def test_settings_flatten_and_nest_again() -> None:
    house = House(size=2, doors=[Door("a", 3)])
    assert msgspec.convert(nested(defaults(house)), House) == house


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("siez = 3", "unknown key siez - house.toml:1 - did you mean size?"),
        ("colour = 3", "unknown key colour - house.toml:1 - known are size, words, main, doors, note"),
        ("\nsize = 0", "size is 0 - house.toml:2 - give a whole number from 1 to 9"),
        ('size = "3"', 'size is "3" - house.toml:1 - give a whole number from 1 to 9'),
        ("size = true", "size is true - house.toml:1 - give a whole number from 1 to 9"),
        ("note = 1", "note is 1 - house.toml:1 - give a string"),
        ("main = 1", "main is 1 - house.toml:1 - give a table"),
        ("doors = 1", "doors is 1 - house.toml:1 - give tables"),
        ("[main]\nsize = 2", "main.name is missing - house.toml:1 - give a string"),
        (
            '[[doors]]\nname = "a"\n[[doors]]\nname = "b"\nsiz = 1',
            "unknown key doors.2.siz - house.toml:5 - did you mean size?",
        ),
        ('doors = [{name = "a", size = 10}]', "doors.1.size is 10 - house.toml:1 - give a whole number from 1 to 9"),
    ],
)
def test_a_problem_is_one_line_with_place_and_way_out(text: str, problem: str) -> None:
    assert problems_of(text) == [problem]


def test_all_problems_are_told_at_once() -> None:
    assert len(problems_of("siez = 3\nsize = 0\n[main]\nsize = 10")) == 4


def test_a_word_is_parsed_to_the_type_of_its_key() -> None:
    check = Check(House)
    assert check.word("size", "7", "env SIZE") == {"size": Sourced(7, "env SIZE")}
    assert check.word("words", "python 'my app.py'", "env") == {"words": Sourced(["python", "my app.py"], "env")}
    assert check.word("main.size", "2", "env") == {"main.size": Sourced(2, "env")}
    assert check.problems == []
    assert check.word("size", "many", "env SIZE") == {}
    assert check.word("words", "an 'open quote", "env WORDS") == {}
    assert check.problems == [
        'size is "many" - env SIZE - give a whole number from 1 to 9',
        'words is "an \'open quote" - env WORDS - give a list of strings',
    ]


@given(st.text(), st.lists(st.text()), st.integers(1, 9))
def test_what_is_dumped_is_read_back(note: str, words: list[str], size: int) -> None:
    house = House(size, words, Door(note, size), [Door(word) for word in words], note)
    check = Check(House)
    found = check.text(dump(house), "house.toml")
    assert check.problems == []
    assert msgspec.convert(nested(found), House) == house


def test_none_is_left_out_of_a_dump() -> None:
    assert "note" not in dump(House())


def test_key_lines_knows_tables_arrays_and_quoted_keys() -> None:
    lines = key_lines('a = 1\n[t]\n"b" = 2\n[[r]]\nc = 3\n[[r]]\nc = 4\n')
    assert lines == {("a",): 1, ("t",): 2, ("t", "b"): 3} | {
        ("r",): 4,
        ("r", 0): 4,
        ("r", 0, "c"): 5,
        ("r", 1): 6,
        ("r", 1, "c"): 7,
    }


def test_suggest_names_the_nearest_or_all() -> None:
    assert suggest("prot", ["port", "replicas"]) == "did you mean port?"
    assert suggest("zzz", ["port", "replicas"]) == "known are port, replicas"


def test_describe_says_what_to_give() -> None:
    assert describe(Size | None) == "a whole number from 1 to 9"
    assert describe(Door) == "a table"
