"""TOML files against msgspec shapes: every problem at once, each with its line and a way out.

msgspec stops at the first problem and knows no line numbers, so a table is walked here key by key and only single
values are given to `msgspec.convert`. The result is flat, `{"http.head_bytes_max": Sourced(8192, "quorate.toml:7")}`,
which makes layers of settings a plain `|`. What to give instead of a bad value is taken from the field's
`Meta(description)`.

Pure: text and tables in, values and problem lines out. It refuses unknown keys, missing keys, wrong types and ranges.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
import tomllib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

Path = tuple[str | int, ...]
"""Keys and array positions from the top of a document, as in ("routes", 0, "mode")."""

Origin = Callable[[Path], str]
"""Says where the value at a path came from, as `quorate.toml:3`."""


class Sourced(NamedTuple):
    """A value and where it came from."""

    value: Any
    origin: str


class Check:
    """Collects settings and problems over any number of tables of one shape."""

    def __init__(self, shape: type[Struct]) -> None:
        self.shape = shape
        self.problems: list[str] = []

    def text(self, text: str, name: str) -> dict[str, Sourced]:
        """Flatten a TOML document called `name`; raises tomllib.TOMLDecodeError when it is none."""
        table = tomllib.loads(text)
        lines = key_lines(text)
        return self.table(table, lambda path: f"{name}:{_nearest_line(lines, path)}")

    def table(self, table: Mapping[str, Any], origin: Origin) -> dict[str, Sourced]:
        """Flatten a table to dotted keys, leaving out what is refused."""
        return self._table(self.shape, table, (), origin)

    def word(self, key: str, text: str, origin: str) -> dict[str, Sourced]:
        """One setting given as a string, as in an environment variable; a list is split as a shell would."""
        kind = _field_type(self.shape, key)
        try:
            value = shlex.split(text) if get_origin(_bare(kind)) is list else text
            return {key: Sourced(msgspec.convert(value, kind, strict=False), origin)}
        except ValueError:
            self._refuse(key, text, origin, kind)
            return {}

    def _table(self, shape: type[Struct], table: Mapping[str, Any], at: Path, origin: Origin) -> dict[str, Sourced]:
        fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
        found: dict[str, Sourced] = {}
        for key, value in table.items():
            path = (*at, key)
            if key in fields:
                found |= self._value(fields[key].type, value, path, origin)
            else:
                self.problems.append(f"unknown key {dotted(path)} - {origin(path)} - {suggest(key, fields)}")
        self.problems += [
            f"{dotted((*at, key))} is missing - {origin(at)} - give {describe(field.type)}"
            for key, field in fields.items()
            if field.required and key not in table
        ]
        return found

    def _value(self, kind: Any, value: Any, path: Path, origin: Origin) -> dict[str, Sourced]:
        if _is_shape(kind) and isinstance(value, dict):
            return self._table(kind, value, path, origin)
        if _is_shape(item := _item_type(kind)) and isinstance(value, list) and all(isinstance(v, dict) for v in value):
            before = len(self.problems)
            for position, table in enumerate(value):
                self._table(item, table, (*path, position), origin)
            if len(self.problems) > before:
                return {}
        try:
            return {dotted(path): Sourced(msgspec.convert(value, kind), origin(path))}
        except msgspec.ValidationError:
            self._refuse(dotted(path), value, origin(path), kind)
            return {}

    def _refuse(self, key: str, value: object, origin: str, kind: Any) -> None:
        self.problems.append(f"{key} is {json.dumps(value, default=str)[:60]} - {origin} - give {describe(kind)}")


def defaults(config: Struct, prefix: str = "") -> dict[str, Sourced]:
    """The flat settings of a finished configuration, with origin `default`."""
    found: dict[str, Sourced] = {}
    for name in config.__struct_fields__:
        value = getattr(config, name)
        nested = isinstance(value, Struct)
        found |= defaults(value, f"{prefix}{name}.") if nested else {prefix + name: Sourced(value, "default")}
    return found


def nested(found: Mapping[str, Sourced]) -> dict[str, Any]:
    """Flat settings as tables within tables again, ready for `msgspec.convert`."""
    result: dict[str, Any] = {}
    for key, sourced in found.items():
        *tables, last = key.split(".")
        place = result
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = sourced.value
    return result


def dump(config: Struct) -> str:
    """`config` as a TOML document, one line per field; None is left out."""
    fields: dict[str, Any] = msgspec.to_builtins(config)
    return "".join(f"{key} = {_inline(value)}\n" for key, value in fields.items() if value is not None)


def suggest(name: str, known: Iterable[str]) -> str:
    """The way out of a mistyped name."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"


def describe(kind: Any) -> str:
    """What a value of this annotated type looks like, in words."""
    if _is_shape(kind):
        return "a table"
    for meta in getattr(kind, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    if get_origin(kind) in (Union, types.UnionType):
        return describe(get_args(kind)[0])
    return "tables" if _is_shape(_item_type(kind)) else "a string"


def dotted(path: Path) -> str:
    """A path as a reader of the file would say it: positions count from 1."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)


def key_lines(text: str) -> dict[Path, int]:
    """Line of every key and table, for messages only: what looks like a key inside a long string may mislead it."""
    lines: dict[Path, int] = {}
    table: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([\w.\-\"]+)\s*\]", line):
            table = tuple(header[2].replace('"', "").split("."))
            if header[1] == "[[":
                lines.setdefault(table, number)
                table = (*table, sum(1 for path in lines if path[:-1] == table and isinstance(path[-1], int)))
            lines.setdefault(table, number)
        elif key := re.match(r"\s*\"?([\w\-]+)\"?\s*[.=]", line):
            lines.setdefault((*table, key[1]), number)
    return lines


def _nearest_line(lines: Mapping[Path, int], path: Path) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _field_type(shape: type[Struct], key: str) -> Any:
    head, _, rest = key.partition(".")
    kind = next(field.type for field in msgspec.structs.fields(shape) if field.encode_name == head)
    return _field_type(kind, rest) if rest else kind


def _bare(kind: Any) -> Any:
    """The type without its annotations."""
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _item_type(kind: Any) -> Any:
    arguments = get_args(kind)
    return arguments[0] if get_origin(kind) is list and arguments else None


def _is_shape(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _inline(value: Any) -> str:
    """A TOML value on one line; JSON's strings, numbers and booleans are TOML's too, except for a raw DEL."""
    if isinstance(value, dict):
        items = (f"{_inline(key)} = {_inline(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
