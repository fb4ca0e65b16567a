"""What every JSON document of this application has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """A JSON object: camelCase outside, snake_case inside, nothing unknown, nothing changed once it is made.

    What is wrong with one is told without what was in it, for that may be a secret, and errors are logged.
    """

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    def json_bytes(self) -> bytes:
        """Return the document as UTF-8."""
        return self.model_dump_json(by_alias=True).encode()


class Nothing(Document):
    """The answer to a command that has none."""
