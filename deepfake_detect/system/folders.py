"""Choose the folders for what is kept between runs: the user's cache folder, or a private temporary one."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

import platformdirs

_NAME = "deepfake-detect"


def user_cache_folder() -> Path:
    """Return the package's folder below the user's cache folder; a `private_temporary_folder` without a home."""
    folder = platformdirs.user_cache_path(_NAME, appauthor=False)
    return folder if folder.is_absolute() else private_temporary_folder()  # "~" stays where the user is unknown


def private_temporary_folder() -> Path:
    """Return a folder below the temporary one that belongs to this user, and that no other user can read or write.

    The same one each time, unless somebody else has taken its name: then a new one.
    """
    if not hasattr(os, "getuid"):  # on Windows the temporary folder itself belongs to the user
        return Path(tempfile.gettempdir(), _NAME)
    folder = Path(tempfile.gettempdir(), f"{_NAME}-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder if _is_private(folder.lstat()) else Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))


def _is_private(status: os.stat_result) -> bool:
    """Tell whether this is a folder, no link, of this user's that is closed to all others."""
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
