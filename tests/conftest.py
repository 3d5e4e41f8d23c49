"""Settings of the whole suite."""

from __future__ import annotations

from hypothesis import settings

# The same examples in every run; no limit per example, since machines differ.
settings.register_profile("rowcast", derandomize=True, deadline=None)
settings.load_profile("rowcast")
