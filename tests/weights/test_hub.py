import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest

import deepfake_detect
from deepfake_detect.errors import DeepfakeDetectError, HubUnavailable, UnknownWeights, WeightsMismatch
from deepfake_detect.weights.hub import download_bundle, download_file, upload_bundle
from tests.hub_server import LARGE, HubHandler, HubServer, serving

# The Hub's client sends files in a way that its HTTP library wants to see go.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "owner/name"
CARD = b'{"version": 1}'
WEIGHTS = bytes(range(256)) * 400  # the tests below look at bytes only
ONE = {"card.json": CARD, "model.safetensors": WEIGHTS}
TWO = {"card.json": b'{"version": 2}', "model.safetensors": WEIGHTS[::-1]}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serving(monkeypatch, tmp_path) as server:
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_downloads_both_files_of_a_commit_and_says_which(hub: HubServer, tmp_path: Path) -> None:
    commit = hub.commit(REPO, {**ONE, "huge.bin": b"x"})
    folder, found = download_bundle(REPO)
    assert (contents(folder), found) == (ONE, commit)
    assert folder.is_relative_to(tmp_path / "cache")
    agent = hub.requests[0].headers["user-agent"]
    assert agent.startswith(f"deepfake-detect/{deepfake_detect.__version__}; hf_hub/")


def test_an_etag_that_leads_out_of_the_cache_is_refused(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hub.commit(REPO, ONE)
    answer = HubHandler.answer

    def forged(self: HubHandler, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        answer(self, status, content, {**(headers or {}), "ETag": '"../../../evil"'})

    monkeypatch.setattr(HubHandler, "answer", forged)
    with pytest.raises(HubUnavailable, match=r"ETag that leads out of the cache, to .*evil; nothing was loaded"):
        download_bundle(REPO)
    assert not list(tmp_path.glob("cache/**/card.json"))


def test_a_second_load_fetches_nothing(hub: HubServer) -> None:
    hub.commit(REPO, ONE)
    first = download_bundle(REPO)
    hub.requests.clear()
    assert download_bundle(REPO) == first
    assert [request.method for request in hub.requests] == ["HEAD"]  # has main moved?
    hub.requests.clear()
    assert download_bundle(REPO, revision=first[1]) == first
    assert not hub.requests


def test_a_new_commit_is_fetched(hub: HubServer) -> None:
    hub.commit(REPO, ONE)
    download_bundle(REPO)
    commit = hub.commit(REPO, TWO)
    folder, found = download_bundle(REPO)
    assert (contents(folder), found) == (TWO, commit)


def test_a_push_in_between_does_not_mix_two_commits(hub: HubServer) -> None:
    commit = hub.commit(REPO, ONE)

    def push(request: object) -> None:
        if hub.count("GET", "card.json") and len(hub.repos[REPO].commits) == 1:
            hub.commit(REPO, TWO)

    hub.on_answer = push
    folder, found = download_bundle(REPO)
    assert len(hub.repos[REPO].commits) == 2
    assert (contents(folder), found) == (ONE, commit)


@pytest.mark.parametrize("kind", ["branch", "tag", "commit", "pull request"])
def test_revisions(hub: HubServer, kind: str) -> None:
    old = hub.commit(REPO, ONE)
    hub.repos[REPO].refs["v1.0"] = old
    hub.commit(REPO, TWO, ref="next/try")
    hub.commit(REPO, TWO, ref="refs/pr/1")
    revision, expected = {
        "branch": ("next/try", TWO),
        "tag": ("v1.0", ONE),
        "commit": (old, ONE),
        "pull request": ("refs/pr/1", TWO),
    }[kind]
    hub.commit(REPO, {"card.json": b"main has moved on"})
    folder, _ = download_bundle(REPO, revision=revision)
    assert contents(folder) == expected


def test_local_files_only_asks_nobody(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, ONE)
    with pytest.raises(HubUnavailable, match=r"local_files_only=True.*from_pretrained\('owner/name'\)"):
        download_bundle(REPO, local_files_only=True)
    assert not hub.requests
    first = download_bundle(REPO)
    hub.commit(REPO, TWO)
    hub.requests.clear()
    assert download_bundle(REPO, local_files_only=True) == first
    assert not hub.requests


def test_force_download_fetches_again_what_the_cache_holds(hub: HubServer) -> None:
    hub.commit(REPO, ONE)
    folder, _ = download_bundle(REPO)
    (folder / "model.safetensors").write_bytes(b"damaged in the cache")
    assert contents(download_bundle(REPO)[0]) != ONE
    assert contents(download_bundle(REPO, force_download=True)[0]) == ONE


def test_force_download_and_local_files_only_contradict(hub: HubServer) -> None:
    with pytest.raises(ValueError, match="contradict"):
        download_bundle(REPO, force_download=True, local_files_only=True)


def test_force_download_tells_why_it_failed(hub: HubServer) -> None:
    hub.commit(REPO, ONE)
    download_bundle(REPO)
    hub.fail("HEAD", "card.json", 503)
    with pytest.raises(HubUnavailable, match="503"):
        download_bundle(REPO, force_download=True)


@pytest.mark.parametrize("given", ["argument", "argument with a newline", "HF_TOKEN"])
def test_the_token_is_sent_to_the_hub_and_to_nobody_else(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    hub.commit(REPO, ONE)
    hub.repos[REPO].readable_with = "hf_secret"
    if given == "HF_TOKEN":
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
    token = {"argument": "hf_secret", "argument with a newline": "hf_secret\n"}.get(given)
    download_bundle(REPO, token=token)
    for request in hub.requests:
        blob = request.path.startswith("/blobs/")
        assert request.headers.get("authorization") == (None if blob else "Bearer hf_secret")


def test_token_false_sends_none(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit(REPO, ONE)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download_bundle(REPO, token=False)
    assert all("authorization" not in request.headers for request in hub.requests)


def test_token_true_without_one_says_how_to_log_in(hub: HubServer) -> None:
    with pytest.raises(HubUnavailable, match="hf auth login"):
        download_bundle(REPO, token=True)


def test_cache_dir_is_honoured(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, ONE)
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(HubUnavailable, match=f"cache {elsewhere}.*cache_dir='{elsewhere}'"):
        download_bundle(REPO, cache_dir=elsewhere, local_files_only=True)
    assert download_bundle(REPO, cache_dir=elsewhere)[0].is_relative_to(elsewhere)
    assert not (tmp_path / "cache").exists()


def test_a_connection_cut_on_the_way_is_taken_up_where_it_broke(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1024)  # 10 MB is longer than these weights
    hub.commit(REPO, ONE)
    digest = next(iter(hub.blobs))
    hub.fail("GET", digest, "cut")
    folder, _ = download_bundle(REPO)
    assert contents(folder) == ONE
    ranges = [request.headers.get("range") for request in hub.requests if digest in request.path]
    assert ranges == [None, f"bytes={len(WEIGHTS) // 2}-"]


def test_a_download_that_never_ends_leaves_nothing_that_looks_whole(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, ONE)
    hub.fail("GET", next(iter(hub.blobs)), "drop", times=100)
    with pytest.raises(HubUnavailable, match="cannot be reached"):
        download_bundle(REPO)
    with pytest.raises(HubUnavailable, match="local_files_only"):
        download_bundle(REPO, local_files_only=True)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))
    hub.faults.clear()
    assert contents(download_bundle(REPO)[0]) == ONE


def test_a_full_disk_is_named_with_the_cache_and_leaves_nothing(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit(REPO, ONE)
    real = huggingface_hub.file_download.http_get

    def fill(url: str, temp_file: object, **options: object) -> None:
        real(url, temp_file, **options)
        if "/blobs/" in url:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", fill)
    with pytest.raises(HubUnavailable, match=f"no disk space is left in the cache {tmp_path / 'cache'}"):
        download_bundle(REPO)
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_cache_that_cannot_be_written_is_named(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, ONE)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(HubUnavailable, match=f"in the cache {tmp_path / 'cache'}"):
        download_bundle(REPO)


@pytest.mark.parametrize("act", ["gone", "drop", "portal", 500, 503, 429])
def test_no_hub_and_an_empty_cache(hub: HubServer, act: str | int) -> None:
    hub.commit(REPO, ONE)
    if act == "gone":
        hub.stop()
    else:
        hub.fail("HEAD", "card.json", act, times=100)
    with pytest.raises(HubUnavailable) as caught:
        download_bundle(REPO)
    expected = f"{act}" if isinstance(act, int) else "Detector.from_pretrained('owner/name')"
    assert expected in str(caught.value) and REPO in str(caught.value)
    assert isinstance(caught.value, OSError)


def test_a_hub_that_does_not_answer(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.commit(REPO, ONE)
    hub.fail("HEAD", "card.json", "hang", times=100)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_ETAG_TIMEOUT", 0.05)
    monkeypatch.setattr(huggingface_hub.file_download, "_ETAG_RETRY_TIMEOUT", 0.05, raising=False)
    with pytest.raises(HubUnavailable, match="timed out"):
        download_bundle(REPO)


@pytest.mark.parametrize("act", ["gone", "drop", "portal", 503])
def test_no_hub_but_a_cache(hub: HubServer, act: str | int) -> None:
    hub.commit(REPO, ONE)
    first = download_bundle(REPO)
    if act == "gone":
        hub.stop()
    else:
        hub.fail("HEAD", "card.json", act, times=100)
    assert download_bundle(REPO) == first


@pytest.mark.parametrize(
    ("refusal", "error", "words"),
    [
        ((401, "GatedRepo", "Access is restricted"), HubUnavailable, "gated.*HF_TOKEN.*hf auth login"),
        ((403, "GatedRepo", "Access is restricted"), HubUnavailable, "ask for it at http.*/owner/name"),
        ((401, "RepoNotFound", "Invalid username or password."), UnknownWeights, "or it is private.*hf auth login"),
        ((404, "RepoNotFound", "Repository not found"), UnknownWeights, "no repository 'owner/name'"),
        ((403, "", "Access to this resource is disabled."), HubUnavailable, "disabled"),
        ((401, "", "Invalid credentials in Authorization header"), HubUnavailable, "401.*hf auth login"),
        ((403, "", "Token lacks the scope"), HubUnavailable, "403.*HF_TOKEN"),
    ],
)
def test_refusals(hub: HubServer, refusal: tuple[int, str, str], error: type[DeepfakeDetectError], words: str) -> None:
    hub.commit(REPO, ONE)
    hub.repos[REPO].refusal = refusal
    with pytest.raises(error, match=words) as caught:
        download_bundle(REPO)
    assert type(caught.value) is error


def test_what_is_not_there_is_named(hub: HubServer) -> None:
    hub.commit(REPO, {"model.safetensors": WEIGHTS})
    with pytest.raises(WeightsMismatch, match=r"owner/name .*has no card\.json"):
        download_bundle(REPO)
    hub.commit("owner/half", {"card.json": CARD})
    with pytest.raises(WeightsMismatch, match=r"has no model\.safetensors"):
        download_bundle("owner/half")
    with pytest.raises(UnknownWeights, match="owner/name has no revision 'v9'"):
        download_bundle(REPO, revision="v9")
    with pytest.raises(UnknownWeights, match="no repository 'owner/other'"):
        download_bundle("owner/other")
    assert not any("/blobs/" in request.path for request in hub.requests)  # no weights before there is a card


@pytest.mark.parametrize("repo_id", ["a--b/c", "owner/name.git", "-x/y"])
def test_names_that_no_repository_can_have(hub: HubServer, repo_id: str) -> None:
    with pytest.raises(UnknownWeights, match="expected 'owner/name'"):
        download_bundle(repo_id)
    assert not hub.requests


def test_download_file(hub: HubServer) -> None:
    commit = hub.commit(REPO, {"onnx/finder.onnx": b"network"})
    path = download_file(REPO, "onnx/finder.onnx", revision=commit)
    assert path.read_bytes() == b"network" and path.name == "finder.onnx"
    with pytest.raises(WeightsMismatch, match=r"has no other\.onnx"):
        download_file(REPO, "other.onnx")
    with pytest.raises(HubUnavailable, match=r"hf_hub_download\('owner/name', 'third.onnx'\)"):
        download_file(REPO, "third.onnx", local_files_only=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    page = b"---\nlicense: other\n---\n# Name\n"
    for name, content in {**ONE, "README.md": page, "secret.txt": b"mine", "optimizer.safetensors": b"x"}.items():
        (folder / name).write_bytes(content)
    return folder


def test_what_is_pushed_comes_back(hub: HubServer, bundle: Path) -> None:
    address = upload_bundle(bundle, REPO, private=True, commit_message="First", token="hf_writer")
    repo = hub.repos[REPO]
    assert repo.private
    assert set(repo.commits[repo.refs["main"]]) == {".gitattributes", "card.json", "model.safetensors", "README.md"}
    assert address == f"{hub.url}/{REPO}/commit/{repo.refs['main']}"
    assert len(repo.commits) == 2  # the first is the empty repository's: all files came in one
    assert contents(download_bundle(REPO)[0]) == ONE
    sent = [request for request in hub.requests if "/api/" in request.path and request.method == "POST"]
    assert all(request.headers["authorization"] == "Bearer hf_writer" for request in sent)
    assert "deepfake-detect/" in sent[0].headers["user-agent"]


def test_pushing_again_and_to_a_branch(hub: HubServer, bundle: Path) -> None:
    upload_bundle(bundle, REPO)
    first = hub.repos[REPO].refs["main"]
    (bundle / "card.json").write_bytes(TWO["card.json"])
    upload_bundle(bundle, REPO, revision="next")
    assert hub.repos[REPO].refs["main"] == first
    assert hub.repos[REPO].commits[hub.repos[REPO].refs["next"]]["card.json"] == TWO["card.json"]
    upload_bundle(bundle, REPO)
    assert hub.repos[REPO].commits[hub.repos[REPO].refs["main"]]["card.json"] == TWO["card.json"]


def test_a_pull_request_to_a_repository_of_someone_else(hub: HubServer, bundle: Path) -> None:
    hub.commit(REPO, TWO)
    hub.repos[REPO].writable_with = "theirs"
    address = upload_bundle(bundle, REPO, create_pr=True, token="mine")
    assert address == f"{hub.url}/{REPO}/discussions/1"
    assert contents(download_bundle(REPO)[0]) == TWO
    assert contents(download_bundle(REPO, revision="refs/pr/1")[0]) == ONE
    with pytest.raises(ValueError, match="create_pr"):
        upload_bundle(bundle, REPO, create_pr=True, revision="next")


def test_private_is_not_pushed_into_the_open(hub: HubServer, bundle: Path) -> None:
    hub.commit(REPO, {"x": b""})
    with pytest.raises(HubUnavailable, match=r"is public.*nothing was sent"):
        upload_bundle(bundle, REPO, private=True)
    assert len(hub.repos[REPO].commits) == 1
    upload_bundle(bundle, REPO)


def test_pushes_that_fail(hub: HubServer, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.fail("POST", "/api/repos/create", 401)
    with pytest.raises(HubUnavailable, match=r"401.*hf auth login"):
        upload_bundle(bundle, REPO)
    hub.commit("owner/locked", {"x": b""})
    hub.repos["owner/locked"].refusal = (403, "", "You need write access")
    with pytest.raises(HubUnavailable, match=r"403.*write access.*HF_TOKEN"):
        upload_bundle(bundle, "owner/locked")
    hub.fail("PUT", "", 403)
    with pytest.raises(HubUnavailable, match="403"):
        upload_bundle(bundle, REPO)
    (bundle / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(HubUnavailable, match="does not take owner/name: Bad request"):
        upload_bundle(bundle, REPO)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnavailable, match="was not pushed: HF_HUB_OFFLINE is set"):
        upload_bundle(bundle, REPO)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    hub.stop()
    with pytest.raises(HubUnavailable, match=r"was not pushed.*check network"):
        upload_bundle(bundle, REPO)


@pytest.mark.parametrize("name", ["card.json", "model.safetensors"])
def test_half_a_bundle_is_not_pushed(hub: HubServer, bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(WeightsMismatch, match=f"has no {name}"):
        upload_bundle(bundle, REPO)
    assert not hub.requests


def in_new_process(**variables: str) -> str:
    """Download in a process of its own, since the client reads the environment when it is imported."""
    code = (
        "import time; time.sleep = lambda seconds: None\n"
        "from deepfake_detect.errors import DeepfakeDetectError\n"
        "from deepfake_detect.weights.hub import download_bundle\n"
        "try: print(download_bundle('owner/name')[0])\n"
        "except DeepfakeDetectError as error: print(type(error).__name__, error)\n"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(sys.path), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_environment_is_honoured(hub: HubServer, tmp_path: Path) -> None:
    hub.commit(REPO, ONE)
    hub.repos[REPO].readable_with = "hf_secret"
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    offline = in_new_process(**home, HF_HUB_OFFLINE="1")
    assert offline.startswith("HubUnavailable HF_HUB_OFFLINE is set") and "HF_HUB_OFFLINE=0 python -c" in offline
    assert not hub.requests
    folder = Path(in_new_process(**home, HF_TOKEN="hf_secret"))
    assert folder.is_relative_to(tmp_path / "home" / "hub") and contents(folder) == ONE
    hub.requests.clear()
    cache = {"HF_HOME": str(tmp_path / "elsewhere"), "HF_HUB_CACHE": str(tmp_path / "home" / "hub")}
    assert Path(in_new_process(**cache, HF_HUB_OFFLINE="1")) == folder
    assert not hub.requests


def test_the_server_speaks_of_large_files_as_the_hub_does(hub: HubServer) -> None:
    """Otherwise the tests above would prove nothing about redirects and tags."""
    hub.commit(REPO, ONE)
    for name, content in ONE.items():
        url = huggingface_hub.hf_hub_url(REPO, name)
        facts = huggingface_hub.get_hf_file_metadata(url)
        assert facts.size == len(content)
        assert facts.location.startswith(hub.blob_url if name.endswith(LARGE) else hub.url)
    assert json.loads(CARD) == {"version": 1}
