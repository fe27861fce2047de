"""Programs that drive the demo in a browser: those that drive the exported page."""

from __future__ import annotations

from tests.export.conftest import chromium, node

__all__ = ["chromium", "node"]
