"""Properties are tried on many bytes, and never judged by the clock of a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("protocols", max_examples=300, deadline=None)
settings.load_profile("protocols")
