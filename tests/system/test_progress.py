"""Test that a bar is shown on a terminal only, and leaves no thread behind."""

from __future__ import annotations

import io
import sys
import threading

import pytest

from deepfake_detect.system.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO(), None])
def test_a_bar_needs_a_terminal(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO | None) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    before = threading.active_count()
    assert list(progress_bar([1, 2, 3], title="faces")) == [1, 2, 3]
    with progress_bar(total=3) as bar:
        bar.update()
    assert threading.active_count() == before
    if stream is not None:
        assert ("faces" in stream.getvalue() and "0/3" in stream.getvalue()) == isinstance(stream, Terminal)
