"""Test that what is kept in a temporary folder is kept from other users."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from deepfake_detect.system.folders import private_temporary_folder, user_cache_folder


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
def test_a_temporary_folder_is_closed_to_others_and_found_again(temporary: Path) -> None:
    folder = private_temporary_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and folder.parent == temporary
    assert private_temporary_folder() == folder


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
@pytest.mark.parametrize("trap", ["open to all", "link"])
def test_a_folder_that_another_user_may_have_laid_out_is_not_used(temporary: Path, trap: str) -> None:
    name = temporary / f"deepfake-detect-{os.getuid()}"
    if trap == "link":
        (temporary / "elsewhere").mkdir(mode=0o700)
        name.symlink_to(temporary / "elsewhere")
    else:
        name.mkdir()
        name.chmod(0o777)
    folder = private_temporary_folder()
    assert folder != name and not os.listdir(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_cache_is_below_that_of_the_user(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: Path("~/.cache/deepfake-detect"))
    assert user_cache_folder().is_relative_to(temporary)  # "~" stands for nothing where the user is unknown
