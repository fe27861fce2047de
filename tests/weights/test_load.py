"""Test that bundles are saved whole, loaded strictly, and found by name, folder or repository."""

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import deepfake_detect
from deepfake_detect import Detector
from deepfake_detect.errors import HubUnavailable, UnknownWeights, WeightsCorrupted, WeightsMismatch
from deepfake_detect.models.registry import create_model, create_skeleton
from deepfake_detect.weights import bundle as bundle_room
from deepfake_detect.weights.bundle import find_bundle, list_pretrained
from deepfake_detect.weights.card import Card, Preprocessing
from deepfake_detect.weights.load import load_model, save_bundle
from tests.hub_server import HubServer, serving

CARD = Card(name="mine", version=1, architecture="meso4", preprocessing=Preprocessing(size_px=64))
PICTURE = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
PICTURES = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def model() -> torch.nn.Module:
    """A model whose batch norms have seen something."""
    model = create_model("meso4", seed=7)
    model.train()(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    return model.eval()


@pytest.fixture
def folder(model: torch.nn.Module, tmp_path: Path) -> Path:
    save_bundle(model, CARD, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def packaged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pretrained = tmp_path / "pretrained"
    for name in ("alpha@2", "alpha@10", "alpha@9", "beta-fakes@1"):
        shutil.copytree(folder, pretrained / name)
    for name in ("dd-yunet@1", "alpha@draft"):  # a face finder; not a version
        (pretrained / name).mkdir()
    shutil.copy(folder / "card.json", pretrained / "alpha@draft")
    monkeypatch.setattr(bundle_room, "PRETRAINED", pretrained)
    return pretrained


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    with serving(monkeypatch, tmp_path) as server:
        yield server


def rewrite(folder: Path, tensors: dict[str, torch.Tensor], **changes: object) -> None:
    """Store other tensors with a card that promises just these."""
    content = safetensors.torch.save(tensors)
    (folder / "model.safetensors").write_bytes(content)
    card = Card.from_json((folder / "card.json").read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    (folder / "card.json").write_text(dataclasses.replace(card, sha256=digest, **changes).to_json())


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


# Saving and loading


def test_what_is_saved_is_loaded_to_the_bit(model: torch.nn.Module, tmp_path: Path) -> None:
    with torch.no_grad():
        model.half().float()  # weights that float16 holds
        expected = model(PICTURES)
        card = save_bundle(model, CARD, tmp_path)
        loaded = load_model(tmp_path)
        assert torch.equal(loaded(PICTURES), expected)
    assert not loaded.training
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {torch.float32, torch.int64}
    assert card == Card.from_json((tmp_path / "card.json").read_bytes())
    assert card.library_version == deepfake_detect.__version__


def test_half_is_rounded_once_and_full_not_at_all(model: torch.nn.Module, tmp_path: Path) -> None:
    save_bundle(model, CARD, tmp_path / "half")
    save_bundle(model, CARD, tmp_path / "full", half=False)
    state, full = model.state_dict(), load_model(tmp_path / "full").state_dict()
    for key, tensor in load_model(tmp_path / "half").state_dict().items():
        assert torch.equal(full[key], state[key])
        assert torch.equal(tensor, state[key].half().float() if tensor.is_floating_point() else state[key])
    assert {tensor.dtype for tensor in stored(tmp_path / "half").values()} == {torch.float16, torch.int64}
    assert {tensor.dtype for tensor in stored(tmp_path / "full").values()} == {torch.float32, torch.int64}


def test_saving_the_same_model_twice_gives_the_same_bytes(model: torch.nn.Module, tmp_path: Path) -> None:
    first, second = save_bundle(model, CARD, tmp_path / "a"), save_bundle(model, CARD, tmp_path / "b")
    assert first == second
    again = save_bundle(load_model(tmp_path / "a"), first, tmp_path / "c")
    assert again.sha256 == first.sha256


def test_saving_and_loading_leave_model_and_random_state_alone(model: torch.nn.Module, tmp_path: Path) -> None:
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    random = torch.get_rng_state()
    save_bundle(model.to(memory_format=torch.channels_last), CARD, tmp_path)
    load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_saving_over_a_bundle_keeps_the_other_files(model: torch.nn.Module, folder: Path) -> None:
    (folder / "history.json").write_text("mine")
    (folder / "plots").mkdir()
    other = create_model("meso4", seed=8)
    save_bundle(other, dataclasses.replace(CARD, version=2), folder)
    assert find_bundle(folder).card.id == "mine@2"
    assert torch.equal(
        load_model(folder).state_dict()["head.hidden.weight"], stored(folder)["head.hidden.weight"].float()
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "card.json",
        "history.json",
        "model.safetensors",
        "plots",
    ]


@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_what_was_there(
    model: torch.nn.Module, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    target = folder if existing else tmp_path / "new"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*free some space") as caught:
        save_bundle(create_model("meso4", seed=8), CARD, target)
    assert caught.value.errno == errno.ENOSPC and str(target) in str(caught.value)
    if existing:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    else:
        assert not target.exists()


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_save_that_fails_at_a_rename_leaves_the_old_or_the_new_bundle(
    model: torch.nn.Module, folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    old, new = load_model(folder).state_dict(), create_model("meso4", seed=8).eval()
    real, calls = os.replace, []

    def crash(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == nth:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(new, dataclasses.replace(CARD, version=2), folder, half=False)
    expected = old if nth < 3 else new.state_dict()
    assert same(load_model(folder).state_dict(), expected)
    assert find_bundle(folder).card.version == (1 if nth < 3 else 2)
    waiting = ["model.safetensors.new"] if nth == 3 else []
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors", *waiting]
    monkeypatch.setattr(os, "replace", real)
    save_bundle(new, CARD, folder, half=False)  # and the next save leaves nothing behind
    assert same(load_model(folder).state_dict(), new.state_dict())
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]


KILLED = """
import os, signal, sys
from deepfake_detect.models.registry import create_model
from deepfake_detect.weights.load import save_bundle
from deepfake_detect.weights.bundle import find_bundle
folders, calls, replace = sys.argv[1:], [], os.replace
def kill_at(*paths):
    calls.append(paths)
    if len(calls) == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = kill_at
model = create_model("meso4", seed=8).eval()
for moment, folder in enumerate(folders, 1):
    child = os.fork()
    if not child:
        save_bundle(model, find_bundle(folder).card, folder, half=False)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_save_that_is_killed_at_a_rename_leaves_the_old_or_the_new_bundle(folder: Path, tmp_path: Path) -> None:
    old, new = load_model(folder).state_dict(), create_model("meso4", seed=8).state_dict()
    folders = [shutil.copytree(folder, tmp_path / str(moment)) for moment in (1, 2, 3)]
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", KILLED, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 3, done.stderr
    for moment, killed in enumerate(folders, 1):
        assert same(load_model(killed).state_dict(), old if moment < 3 else new)
        detector = Detector.from_pretrained(killed, backend="openvino")  # which reads the weights without torch
        assert detector.predict(PICTURE, faces="none").score is not None


def same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_a_folder_that_cannot_be_made_is_named(model: torch.nn.Module, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="bundle not saved") as caught:
        save_bundle(model, CARD, tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)


def test_numbers_beyond_float16_are_refused_by_name(model: torch.nn.Module, tmp_path: Path) -> None:
    model.state_dict()["head.hidden.weight"][0, 0] = 70_000.0
    with pytest.raises(WeightsMismatch, match=r"head\.hidden\.weight \(up to 7e\+04\); save with half=False"):
        save_bundle(model, CARD, tmp_path / "half")
    assert not (tmp_path / "half").exists()
    save_bundle(model, CARD, tmp_path / "full", half=False)
    assert load_model(tmp_path / "full").state_dict()["head.hidden.weight"][0, 0] == 70_000.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("half", [True, False])
def test_weights_that_are_no_numbers_are_refused(
    model: torch.nn.Module, tmp_path: Path, value: float, half: bool
) -> None:
    model.state_dict()["head.hidden.bias"][3] = value
    with pytest.raises(WeightsMismatch, match=r"head\.hidden\.bias of the model is not finite"):
        save_bundle(model, CARD, tmp_path, half=half)


def test_a_model_of_another_architecture_is_not_saved(model: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match="the model does not fit architecture 'cnn4'"):
        save_bundle(model, dataclasses.replace(CARD, architecture="cnn4"), tmp_path / "a")
    with pytest.raises(WeightsMismatch, match=r"missing: .*unexpected: module\."):
        save_bundle(torch.nn.DataParallel(model), CARD, tmp_path / "b")
    with pytest.raises(WeightsMismatch, match="no architecture called 'meso5'; did you mean 'meso4'"):
        save_bundle(model, dataclasses.replace(CARD, architecture="meso5"), tmp_path / "c")
    assert not list(tmp_path.iterdir())


# Damage


def flip(content: bytes) -> bytes:
    return content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]


@pytest.mark.parametrize(
    "damage", [flip, lambda content: content[:-100], lambda content: b"", lambda content: b"<html>404</html>"]
)
def test_damaged_weights_are_refused_with_both_hashes(folder: Path, damage: object) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    expected = json.loads((folder / "card.json").read_bytes())["sha256"]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsCorrupted, match=f"{path} .*sha256 {found}, its card expects {expected}; copy") as caught:
        load_model(find_bundle(folder))
    assert isinstance(caught.value, OSError)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        WeightsCorrupted, match=r"model\.safetensors cannot be read \(No such file or directory\); copy"
    ):
        load_model(folder)
    (folder / "model.safetensors").mkdir()
    with pytest.raises(WeightsCorrupted, match="Is a directory"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"pickle?", b"\xff" * 64])
def test_a_card_may_promise_what_is_no_safetensors_file(folder: Path, content: bytes) -> None:
    rewrite(folder, {})
    (folder / "model.safetensors").write_bytes(content)
    card = dataclasses.replace(CARD, sha256=hashlib.sha256(content).hexdigest())
    (folder / "card.json").write_text(card.to_json())
    with pytest.raises(WeightsCorrupted, match="not a safetensors file"):
        load_model(folder)


def test_a_card_without_a_hash_promises_nothing(folder: Path) -> None:
    (folder / "card.json").write_text(CARD.to_json())
    with pytest.raises(WeightsCorrupted, match="expects none"):
        load_model(folder)


def test_damage_in_the_package_and_in_the_cache_of_the_hub(packaged: Path, hub: HubServer, folder: Path) -> None:
    for path in (packaged / "beta-fakes@1" / "model.safetensors", folder / "model.safetensors"):
        path.write_bytes(flip(path.read_bytes()))
    with pytest.raises(WeightsCorrupted, match="pip install --force-reinstall deepfake-detect"):
        load_model(find_bundle("beta-fakes"))
    hub.commit("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    with pytest.raises(WeightsCorrupted, match="force_download=True"):
        load_model(find_bundle("owner/name"))


# What does not fit


def test_keys_and_shapes_must_fit(folder: Path) -> None:
    tensors = stored(folder)
    tensors["extra"] = tensors.pop("head.hidden.bias")
    tensors["head.hidden.weight"] = tensors["head.hidden.weight"][:, :5].contiguous()
    tensors["features.0.conv.weight"] = tensors["features.0.conv.weight"].to(torch.int64)
    rewrite(folder, tensors)
    with pytest.raises(WeightsMismatch) as caught:
        load_model(folder)
    message = str(caught.value)
    assert "1 missing: head.hidden.bias;" in message and "1 unexpected: extra;" in message
    assert "head.hidden.weight [16, 5] float16, expected [16, 1024] float32" in message
    assert "2 different: features.0.conv.weight [8, 3, 3, 3] int64" in message


def test_only_the_first_keys_are_listed(folder: Path) -> None:
    rewrite(folder, {})
    with pytest.raises(WeightsMismatch, match=r"missing: features[^ ]*, [^ ]+, [^ ]+, [^ ]+ and \d+ more; use"):
        load_model(folder)


def test_an_architecture_of_the_future(folder: Path) -> None:
    rewrite(folder, stored(folder), architecture="meso9")
    with pytest.raises(
        WeightsMismatch, match=r"card mine@1.*no architecture called 'meso9'.*--upgrade deepfake-detect"
    ):
        load_model(folder)


# Finding


def test_list_pretrained_sorts_by_number_and_leaves_out_what_is_no_bundle(packaged: Path) -> None:
    assert list_pretrained() == ["alpha@2", "alpha@9", "alpha@10", "beta-fakes@1"]


def test_every_packaged_bundle_is_listed_as_its_card_says() -> None:
    for name in list_pretrained():
        assert find_bundle(name).card.id == name


def test_packaged_weights_by_name_and_version(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alpha").mkdir()  # the package comes first
    assert find_bundle("alpha").folder == packaged / "alpha@10"
    assert find_bundle("alpha@9") == bundle_room.Bundle(card=find_bundle("alpha").card, folder=packaged / "alpha@9")
    with pytest.raises(WeightsMismatch, match=r"alpha is a folder without card\.json"):
        find_bundle(Path("alpha"))


def test_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("bundle", "./bundle", "bundle/", "~/bundle", str(folder), Path("bundle")):
        bundle = find_bundle(name)
        assert bundle.folder.resolve() == folder and bundle.card.name == "mine" and bundle.revision is None
    assert load_model("~/bundle").state_dict().keys() == load_model(folder).state_dict().keys()
    (tmp_path / "runs").mkdir()
    shutil.move(folder, "runs/best")
    assert find_bundle("runs/best").card.name == "mine"  # although owner/name on the Hub looks alike


def test_what_is_no_bundle_says_what_is_missing(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatch, match=r"is a file, expected a folder that holds card\.json and model\.safe"):
        find_bundle(folder / "model.safetensors")
    (folder / "card.json").unlink()
    with pytest.raises(WeightsMismatch, match=r"bundle is a folder without card\.json, expected"):
        find_bundle(folder)
    (folder / "card.json").write_text("{")
    with pytest.raises(WeightsMismatch, match=f"{folder / 'card.json'} is not JSON"):
        find_bundle(str(folder))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("alfa", r"no pretrained weights called 'alfa'; did you mean 'alpha'\?"),
        ("alpha@1", r"did you mean 'alpha@10'\?|did you mean 'alpha@9'\?|did you mean 'alpha@2'\?"),
        ("zzz", "known: alpha, beta-fakes"),
        ("", "no pretrained weights called ''"),
        ("./nowhere", r"no folder 'nowhere' \(looked in "),
        ("~/nowhere", "no folder '/.*/nowhere'"),
        ("/no/where", "no folder '/no/where'"),
        ("a/b/c", "no folder 'a/b/c'"),
        ("https://huggingface.co/owner/name", "'owner/name'"),
    ],
)
def test_unknown_names(packaged: Path, name: str, words: str) -> None:
    with pytest.raises(UnknownWeights, match=words) as caught:
        find_bundle(name)
    assert isinstance(caught.value, KeyError)


def test_an_unknown_path_is_never_a_name(packaged: Path, hub: HubServer) -> None:
    with pytest.raises(UnknownWeights, match="no folder 'alpha'"):
        find_bundle(Path("alpha"))
    with pytest.raises(UnknownWeights, match="no folder 'owner/name'"):
        find_bundle(Path("owner/name"))
    assert not hub.requests


# On the Hub


def test_from_the_hub(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    old = hub.commit("owner/name", files)
    save_bundle(create_model("meso4", seed=8), dataclasses.replace(CARD, version=2), folder)
    new = hub.commit("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    hub.repos["owner/name"].refs["v1"] = old
    assert find_bundle("owner/name").revision == new
    assert find_bundle("owner/name").card.version == 2
    for bundle in (
        find_bundle("owner/name@v1"),
        find_bundle("owner/name", revision="v1"),
        find_bundle(f"owner/name@{old}"),
    ):
        assert (bundle.revision, bundle.card.version) == (old, 1)
        load_model(bundle)
    elsewhere = find_bundle("owner/name", cache_dir=tmp_path / "elsewhere", force_download=True, token="hf_x")
    assert elsewhere.folder.is_relative_to(tmp_path / "elsewhere")
    assert hub.requests[-1].headers.get("authorization") is None  # the host of the large files
    assert any(request.headers.get("authorization") == "Bearer hf_x" for request in hub.requests)


def test_a_damaged_download_is_mended_by_force_download(hub: HubServer, folder: Path) -> None:
    hub.commit("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    digest, content = next(iter(hub.blobs.items()))
    hub.blobs[digest] = flip(content)
    with pytest.raises(WeightsCorrupted, match=f"expects {digest}; download it again with force_download=True"):
        load_model(find_bundle("owner/name"))
    hub.blobs[digest] = content
    with pytest.raises(WeightsCorrupted):  # the cache holds what it holds
        load_model(find_bundle("owner/name"))
    load_model(find_bundle("owner/name", force_download=True))
    load_model(find_bundle("owner/name", local_files_only=True))


def test_errors_of_the_hub_remember_that_a_folder_may_be_meant(hub: HubServer) -> None:
    with pytest.raises(UnknownWeights, match=r"no repository 'runs/best'.*nor is there a folder 'runs/best' in /"):
        find_bundle("runs/best")
    with pytest.raises(HubUnavailable, match=r"local_files_only.*nor is there a folder 'runs/best'"):
        find_bundle("runs/best", local_files_only=True)


def test_a_revision_is_given_once_and_of_a_repository(packaged: Path, folder: Path, hub: HubServer) -> None:
    for name in ("alpha", "alpha@9", folder):
        with pytest.raises(UnknownWeights, match="has no revision 'v1'"):
            find_bundle(name, revision="v1")
    with pytest.raises(UnknownWeights, match="give one of the two"):
        find_bundle("owner/name@v1", revision="v2")
    assert not hub.requests


@pytest.mark.parametrize("name", ["xception", "cnn6", "timm:mobilenetv2_100", "timm:vit_tiny_patch16_224"])
def test_loading_draws_no_weights_and_needs_no_memory_for_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_rng_state()
    skeleton = create_skeleton(name)
    assert torch.equal(torch.get_rng_state(), before)
    assert {value.device.type for value in skeleton.state_dict().values()} == {"meta"}
    built = create_model(name, seed=0).state_dict()
    assert {key: value.shape for key, value in skeleton.state_dict().items()} == {
        key: value.shape for key, value in built.items()
    }


def test_a_network_with_buffers_that_are_not_stored_is_built_in_full() -> None:
    skeleton = create_skeleton("timm:swin_tiny_patch4_window7_224")  # its relative positions are computed
    assert {value.device.type for value in skeleton.buffers()} == {"cpu"}


@pytest.mark.parametrize("name", list_pretrained())
def test_loaded_weights_are_whole(name: str) -> None:
    model = load_model(find_bundle(name))
    assert all(value.device.type == "cpu" and value.isfinite().all() for value in model.state_dict().values())
    assert not model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_weights_come_in_the_order_in_which_they_are_used() -> None:
    convolution = load_model(find_bundle("meso4-fakefaces")).state_dict()["features.0.conv.weight"]
    assert convolution.is_contiguous(memory_format=torch.channels_last)


# Forged weights: the sha256 is right, and what it promises is not a network


def forge(folder: Path, change: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Change the tensors of a bundle, and let its card promise the result."""
    tensors = {
        name: values.copy() for name, values in safetensors.numpy.load_file(folder / "model.safetensors").items()
    }
    change(tensors)
    promise(folder, safetensors.numpy.save(tensors))


def promise(folder: Path, content: bytes) -> None:
    """Write weights, and a card with their sha256."""
    (folder / "model.safetensors").write_bytes(content)
    card = Card.from_json((folder / "card.json").read_bytes())
    (folder / "card.json").write_text(dataclasses.replace(card, sha256=hashlib.sha256(content).hexdigest()).to_json())


FIRST = "features.0.conv.weight"
FORGERIES: dict[str, Callable[[dict[str, np.ndarray]], None]] = {
    "NaN": lambda t: t[FIRST].__setitem__(0, np.nan),
    "infinite": lambda t: t["features.0.norm.running_var"].__setitem__(3, np.inf),
    "missing bias": lambda t: t.pop("head.logit.bias") and None,
    "bias of one number": lambda t: t.update({"features.0.conv.bias": np.ones(1, "f2")}),
    "another rank": lambda t: t.update({FIRST: t[FIRST][None]}),
    "one too many": lambda t: t.update(evil=np.zeros(3, "f4")),
    "whole numbers": lambda t: t.update({FIRST: t[FIRST].astype(np.int64)}),
    "a counter of floats": lambda t: t.update({"features.0.norm.num_batches_tracked": np.array(1, "f4")}),
    "double": lambda t: t.update({FIRST: t[FIRST].astype(np.float64)}),
    "two outputs": lambda t: t.update(
        {name: np.concatenate([t[name]] * 2) for name in ("head.logit.weight", "head.logit.bias")}
    ),
    "empty": lambda t: t.clear(),
}


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("what", FORGERIES)
def test_forged_tensors_are_refused_by_name_on_every_engine(what: str, backend: str, folder: Path) -> None:
    forge(folder, FORGERIES[what])
    with pytest.raises(WeightsMismatch, match=r"model\.safetensors") as caught:
        Detector.from_pretrained(folder, backend=backend)  # type: ignore[arg-type]
    assert any(word in str(caught.value) for word in (FIRST, "features.0", "head.logit.bias", "evil"))


def header(content: bytes) -> dict[str, object]:
    return dict(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]))


def with_header(content: bytes, **changes: object) -> bytes:
    """Change what a safetensors file says of its first tensor."""
    length = 8 + int.from_bytes(content[:8], "little")
    table = header(content)
    table[FIRST] = {**table[FIRST], **changes}  # type: ignore[dict-item]
    text = json.dumps(table).encode()
    return len(text).to_bytes(8, "little") + text + content[length:]


LAYOUTS: dict[str, Callable[[bytes], bytes]] = {
    "negative offset": lambda c: with_header(c, data_offsets=[-8, 424]),
    "overlap": lambda c: with_header(c, data_offsets=[4, 436]),
    "negative shape": lambda c: with_header(c, shape=[-1, 3, 3, 3]),
    "unknown dtype": lambda c: with_header(c, dtype="F128"),
    "trailing bytes": lambda c: c + bytes(8),
    "cut": lambda c: c[:-2],
    "huge header": lambda c: (2**62).to_bytes(8, "little") + c[8:],
}


@pytest.mark.parametrize("backend", ["torch", "openvino"])
@pytest.mark.parametrize("what", LAYOUTS)
def test_forged_layouts_are_refused_on_every_engine(what: str, backend: str, folder: Path) -> None:
    promise(folder, LAYOUTS[what]((folder / "model.safetensors").read_bytes()))
    with pytest.raises(WeightsCorrupted, match="not a safetensors file"):
        Detector.from_pretrained(folder, backend=backend)  # type: ignore[arg-type]


def test_weights_that_are_a_pipe_are_not_waited_for(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    with pytest.raises(WeightsCorrupted, match="not a regular file"):
        load_model(folder)


def test_a_bundle_is_pickled_by_name_or_with_its_weights(folder: Path) -> None:
    packaged = find_bundle("meso4-fakefaces")
    content = pickle.dumps(packaged)
    assert len(content) < 10_000 and pickle.loads(content) == packaged
    values = pickle.loads(pickle.dumps(find_bundle(folder)))
    shutil.rmtree(folder)  # as on another machine
    assert same(load_model(values).state_dict(), load_model(values).state_dict())
    broken = dataclasses.replace(values, content=flip(values.content))
    with pytest.raises(WeightsCorrupted, match="sha256"):
        load_model(broken)
