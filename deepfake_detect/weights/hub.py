"""Download bundles of weights from the Hugging Face Hub, and upload them.

The client reads ``HF_HOME``, ``HF_HUB_CACHE``, ``HF_HUB_OFFLINE``, ``HF_ENDPOINT`` and ``HF_TOKEN`` by itself; nothing
here overrides them.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from deepfake_detect._version import __version__
from deepfake_detect.errors import DeepfakeDetectError, HubUnavailable, InvalidOption, UnknownWeights, WeightsMismatch
from deepfake_detect.weights.card import CARD_FILE, LIBRARY, TEXTURE_FILE, WEIGHTS_FILE
from deepfake_detect.weights.card_check import parse_card

README_FILE = "README.md"

_log = logging.getLogger("deepfake_detect")
_CREDENTIALS = "token=..., the variable HF_TOKEN or the command `hf auth login`"
_HTTP_MODULES = ("httpx", "httpx2", "requests")  # which of them, depends on the client's version
_CLIENT_MODULES = ("huggingface_hub", "hf_xet", *_HTTP_MODULES)
_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def download_bundle(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> tuple[Path, str]:
    """Download the card and the weights of a repository to the cache of the Hub's client.

    The files are of one commit, even if another one is pushed meanwhile. Files in the cache are not downloaded again,
    and are used without a check while the Hub cannot be reached.

    Args:
        repo_id: ``owner/name``.
        revision: Branch, tag, pull request (``refs/pr/1``) or commit; None takes the branch ``main``.
        cache_dir: Cache folder to use in place of the client's.
        force_download: Download files even if they are in the cache.
        token: Token to use in place of ``HF_TOKEN`` or the saved one; False sends none.
        local_files_only: Use the cache only.

    Returns:
        The folder in the cache that holds the files, and the commit (40 hexadecimal digits).

    Raises:
        UnknownWeights: No such repository or revision, or a private one.
        WeightsMismatch: The repository lacks one of the files, or its card is not JSON.
        HubUnavailable: No network, access refused, or no space on the disk.
        InvalidOption: Both ``force_download`` and ``local_files_only``.
    """
    request = _Request(
        repo_id=repo_id,
        revision=revision,
        cache_dir=cache_dir,
        force_download=force_download,
        token=token,
        local_files_only=local_files_only,
    )
    card = request.fetch(CARD_FILE, revision=revision)
    commit = card.parent.name  # the client's cache has one folder for each commit
    request.fetch(WEIGHTS_FILE, revision=commit)
    if _has_two_looks(card):
        request.fetch(TEXTURE_FILE, revision=commit)
    return card.parent, commit


def download_file(
    repo_id: str,
    filename: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    force_download: bool = False,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """Download one file of a repository, such as a face finder, to the cache of the Hub's client.

    Args:
        repo_id: ``owner/name``.
        filename: Path within the repository.
        revision: Branch, tag, pull request (``refs/pr/1``) or commit; None takes the branch ``main``.
        cache_dir: Cache folder to use in place of the client's.
        force_download: Download files even if they are in the cache.
        token: Token to use in place of ``HF_TOKEN`` or the saved one; False sends none.
        local_files_only: Use the cache only.

    Returns:
        The file in the cache.

    Raises:
        UnknownWeights: No such repository or revision, or a private one.
        WeightsMismatch: The repository has no such file.
        HubUnavailable: No network, access refused, or no space on the disk.
        InvalidOption: Both ``force_download`` and ``local_files_only``.
    """
    request = _Request(
        repo_id=repo_id,
        revision=revision,
        cache_dir=cache_dir,
        force_download=force_download,
        token=token,
        local_files_only=local_files_only,
    )
    return request.fetch(filename, revision=revision)


def upload_bundle(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    token: str | bool | None = None,
) -> str:
    """Upload a bundle in one commit, and create the repository or the branch if there is none.

    Args:
        folder: Folder with ``card.json``, ``model.safetensors`` and perhaps ``texture.safetensors`` and ``README.md``;
            nothing else is uploaded.
        repo_id: ``owner/name``.
        private: Visibility of a new repository; None takes the default of the owner on the Hub.
        revision: Branch; None takes ``main``.
        create_pr: Propose the commit instead of making it; ``revision`` must be None.
        commit_message: First line of the commit's message.
        token: Token to use in place of ``HF_TOKEN`` or the saved one; it must allow writing.

    Returns:
        The address of the commit, or of the pull request.

    Raises:
        WeightsMismatch: The folder is no bundle.
        HubUnavailable: No network, access refused, or ``private=True`` for a repository that is public already.
        UnknownWeights: There is no such repository, and it cannot be created.
        InvalidOption: Both ``create_pr`` and ``revision``.
    """
    if create_pr and revision is not None:
        raise InvalidOption(
            f"create_pr=True proposes to 'main' and cannot go with revision={revision!r}; give only one"
        )
    files = _files_to_send(Path(folder))
    api = huggingface_hub.HfApi(token=_clean(token), library_name=LIBRARY, library_version=__version__)
    with _client_errors(_Request(repo_id=repo_id, revision=revision, token=token, sending=True)):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repo_id).private:
            raise HubUnavailable(
                f"{repo_id} exists already and is public, but private=True was passed; nothing was sent: "
                f"make it private at {api.endpoint}/{repo_id}/settings, or choose another name"
            )
        if revision is not None and not revision.startswith("refs/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id,
            [huggingface_hub.CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in files],
            commit_message=commit_message or f"Upload with {LIBRARY} {__version__}",
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def _has_two_looks(card: Path) -> bool:
    values = parse_card(card.read_bytes(), where=str(card))
    return isinstance(values, dict) and values.get("texture") is not None


def _files_to_send(folder: Path) -> list[Path]:
    has_two = (folder / CARD_FILE).is_file() and _has_two_looks(folder / CARD_FILE)
    needed = (CARD_FILE, WEIGHTS_FILE, TEXTURE_FILE) if has_two else (CARD_FILE, WEIGHTS_FILE)
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise WeightsMismatch(
            f"{folder} is no bundle, it has no {' and no '.join(missing)}; write one with Detector.save_pretrained"
        )
    return [folder / name for name in (*needed, README_FILE) if (folder / name).is_file()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """The options of a download or upload, which are passed to the client and named in error messages."""

    repo_id: str
    revision: str | None = None
    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    token: str | bool | None = None
    local_files_only: bool = False
    sending: bool = False

    def __post_init__(self) -> None:
        if self.force_download and self.local_files_only:
            raise InvalidOption("force_download=True and local_files_only=True contradict one another; give only one")

    def fetch(self, filename: str, *, revision: str | None) -> Path:
        with _client_errors(self, filename):
            try:
                path = huggingface_hub.hf_hub_download(
                    self.repo_id,
                    filename,
                    revision=revision,
                    library_name=LIBRARY,
                    library_version=__version__,
                    cache_dir=None if self.cache_dir is None else Path(os.path.expanduser(self.cache_dir)),
                    force_download=self.force_download,
                    token=_clean(self.token),
                    local_files_only=self.local_files_only,
                )
            except Exception as error:
                cached = self.find_cached(filename, revision) if _module(error) in _HTTP_MODULES else None
                if cached is None or self.force_download:
                    raise
                _log.warning("%s is taken from the cache, since the Hub cannot be reached: %s", self.repo_id, error)
                return cached
            return self._in_cache(Path(path))

    def _in_cache(self, path: Path) -> Path:
        """Refuse a file that an endpoint has led out of the cache by its ``ETag``, which names the file."""
        if path.resolve().is_relative_to(Path(os.path.expanduser(self.cache)).resolve()):
            return path
        target = path.resolve()
        path.unlink()
        raise HubUnavailable(
            f"{constants.ENDPOINT} answered with an ETag that leads out of the cache, to {target}; "
            "nothing was loaded: remove that file, and set HF_ENDPOINT to a server that you trust"
        )

    def find_cached(self, filename: str, revision: str | None) -> Path | None:
        """Look for a file in the cache: the client does so when a connection is refused, but not when it breaks."""
        cache_dir = None if self.cache_dir is None else Path(self.cache_dir)
        path = huggingface_hub.try_to_load_from_cache(self.repo_id, filename, cache_dir=cache_dir, revision=revision)
        return Path(path) if isinstance(path, str) else None

    @property
    def cache(self) -> str:
        return str(self.cache_dir or constants.HF_HUB_CACHE)

    def command(self, filename: str) -> str:
        """Return a command that downloads the file, to be run once while there is a network."""
        revision = "" if self.revision is None else f", revision={self.revision!r}"
        cache_dir = "" if self.cache_dir is None else f", cache_dir={str(self.cache_dir)!r}"
        options = revision + cache_dir
        if filename in (CARD_FILE, WEIGHTS_FILE, TEXTURE_FILE):
            act = f"from deepfake_detect import Detector; Detector.from_pretrained({self.repo_id!r}{options})"
        else:
            act = f"import huggingface_hub as hub; hub.hf_hub_download({self.repo_id!r}, {filename!r}{options})"
        return f'python -c "{act}"'


def _clean(token: str | bool | None) -> str | bool | None:
    return token.strip() if isinstance(token, str) else token  # the client would print one that ends in a newline


@contextmanager
def _client_errors(request: _Request, filename: str = "") -> Iterator[None]:
    """Turn the errors of the Hub's client into ours."""
    try:
        yield
    except DeepfakeDetectError:
        raise
    except Exception as error:
        if _module(error) not in _CLIENT_MODULES and not isinstance(error, (OSError, ValueError, RuntimeError)):
            raise
        raise _as_ours(_root(error), request, filename) from error


def _module(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _root(error: BaseException) -> BaseException:
    """Unwrap general errors of the client ("an error happened while ...") to their cause."""
    while error.__cause__ is not None and _is_general(error):
        error = error.__cause__
    return error


def _is_general(error: BaseException) -> bool:
    if isinstance(error, errors.HfHubHTTPError):
        return isinstance(error, errors.LocalEntryNotFoundError)  # before huggingface_hub 1.0
    return isinstance(error, (errors.LocalEntryNotFoundError, ValueError, RuntimeError))


def _as_ours(error: BaseException, request: _Request, filename: str) -> DeepfakeDetectError:
    repo_id, text = request.repo_id, " ".join(str(error).split()) or type(error).__name__
    match error:
        case errors.GatedRepoError():
            return HubUnavailable(
                f"{repo_id} is gated and the Hub refuses access; ask for it at {constants.ENDPOINT}/{repo_id}, then "
                f"log in with {_CREDENTIALS}"
            )
        case errors.RepositoryNotFoundError():
            return UnknownWeights(
                f"no repository {repo_id!r} at {constants.ENDPOINT}, or it is private; check the name, or log in with "
                f"{_CREDENTIALS}"
            )
        case errors.RevisionNotFoundError():
            return UnknownWeights(
                f"{repo_id} has no revision {request.revision or 'main'!r}; expected a branch, tag or commit of "
                f"{constants.ENDPOINT}/{repo_id}/commits/main"
            )
        case errors.LocalEntryNotFoundError():
            return HubUnavailable(_unreachable(error, text, request, filename))
        case errors.EntryNotFoundError():
            return WeightsMismatch(
                f"{repo_id} (revision {request.revision or 'main'}) has no {filename}; bundles of this library hold "
                f"{CARD_FILE} and {WEIGHTS_FILE}, as Detector.push_to_hub writes them"
            )
        case errors.HFValidationError():
            return UnknownWeights(f"{repo_id!r} is no repository of the Hub, expected 'owner/name': {text}")
        case errors.LocalTokenNotFoundError():
            return HubUnavailable(f"{repo_id} needs a token (token=True), but no token is saved; use {_CREDENTIALS}")
        case errors.HfHubHTTPError():
            verb, remedy = "take" if request.sending else "give", _remedy(error.response.status_code)
            return HubUnavailable(f"the Hub does not {verb} {repo_id}: {text}; {remedy}")
        case OSError(errno=int()) if not isinstance(error, ConnectionError):
            return HubUnavailable(_disk(error, request))
    return HubUnavailable(_unreachable(error, text, request, filename))


def _remedy(status: int) -> str:
    if status in (401, 403):
        return f"log in with a token that is allowed to: {_CREDENTIALS}"
    if status == 429 or status >= 500:
        return "try again later"
    return "check the name, HF_ENDPOINT and, where something was pushed, its README.md"


def _disk(error: OSError, request: _Request) -> str:
    if request.sending:
        return f"the bundle cannot be read ({error}); save it again, then push it again"
    problem = "no disk space is left" if error.errno in _DISK_FULL else f"a file cannot be read or written ({error})"
    return f"{problem} in the cache {request.cache}; free some, or choose another place with cache_dir=... or HF_HOME"


def _unreachable(error: BaseException, text: str, request: _Request, filename: str) -> str:
    offline = isinstance(error, errors.OfflineModeIsEnabled) and constants.HF_HUB_OFFLINE
    if request.sending:
        problem = "HF_HUB_OFFLINE is set; unset it" if offline else f"{text}; check network, proxy and HF_ENDPOINT"
        return f"{request.repo_id} was not pushed: {problem}, then push again"
    command = request.command(filename)
    if offline:
        problem, fix = "HF_HUB_OFFLINE is set", f"run once with a network: HF_HUB_OFFLINE=0 {command}"
    elif request.local_files_only:
        problem, fix = "local_files_only=True was passed", f"run once without it: {command}"
    else:
        problem, fix = (
            f"the Hub cannot be reached ({text})",
            f"check network, proxy and HF_ENDPOINT, then run: {command}",
        )
    return f"{problem}, and {request.repo_id} is not complete in the cache {request.cache}; {fix}"
