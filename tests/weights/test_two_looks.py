"""Test that a bundle with two looks is saved whole, loaded strictly, and sent and fetched with both its networks."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepfake_detect import Detector, WeightsCorrupted, WeightsMismatch
from deepfake_detect.cli.main import main
from deepfake_detect.models.registry import create_model
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.hub import upload_bundle
from deepfake_detect.weights.load import load_model, save_bundle
from tests.hub_server import serving
from tests.small_world import CARD, LOOK, PORTRAIT, small_model, small_texture, two_looks

TWO = replace(CARD, texture=LOOK)
FILES = ["card.json", "model.safetensors", "texture.safetensors"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(small_model(), TWO, tmp_path / "bundle", texture=small_texture(), half=False)
    return tmp_path / "bundle"


def looks(detector: Detector) -> object:
    (face,) = detector.predict(PORTRAIT).faces
    return face.looks, face.logit


def weights(folder: Path) -> list[torch.Tensor]:
    networks = [load_model(network) for network in find_bundle(folder).networks]
    return [value for network in networks for value in network.state_dict().values()]


def test_what_is_saved_is_loaded_to_the_bit(tmp_path: Path) -> None:
    detector = two_looks()
    card = detector.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    loaded = Detector.from_pretrained(tmp_path, device="cpu")
    assert loaded.card == card and card.texture is not None and len(card.texture.sha256) == 64
    assert looks(loaded) == looks(detector)
    kept = pickle.dumps(loaded)
    for path in tmp_path.iterdir():
        path.unlink()  # a pickle holds the bytes of both networks
    assert looks(pickle.loads(kept)) == looks(detector)


def test_one_look_in_place_of_two_leaves_no_network_behind(folder: Path) -> None:
    save_bundle(small_model(), CARD, folder)
    assert sorted(path.name for path in folder.iterdir()) == FILES[:2]
    assert Detector.from_pretrained(folder).texture_model is None


@pytest.mark.parametrize("damage", [lambda content: content[:-9] + b"x" + content[-8:], lambda content: b"", None])
def test_a_damaged_texture_network_is_refused(folder: Path, damage: object) -> None:
    path = folder / "texture.safetensors"
    if callable(damage):
        path.write_bytes(damage(path.read_bytes()))
    else:
        path.unlink()
    with pytest.raises(WeightsCorrupted, match=r"texture\.safetensors .*copy the folder again"):
        Detector.from_pretrained(folder)


def test_another_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    bundle = find_bundle(folder)
    assert bundle.card.texture is not None
    other = replace(bundle.card, texture=replace(bundle.card.texture, architecture="meso4"))
    (folder / "card.json").write_text(other.to_json())
    with pytest.raises(WeightsMismatch, match=r"texture\.safetensors does not fit architecture 'meso4'"):
        Detector.from_pretrained(folder)
    with pytest.raises(WeightsMismatch, match="the texture network does not fit architecture 'cnn4'"):
        save_bundle(small_model(), TWO, tmp_path / "new", texture=small_model())
    with pytest.raises(WeightsMismatch, match="has a texture look, expected its network"):
        save_bundle(small_model(), TWO, tmp_path / "new")
    with pytest.raises(WeightsMismatch, match="has no texture look, expected no network"):
        save_bundle(small_model(), CARD, tmp_path / "new", texture=small_texture())
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_save_that_fails_at_a_rename_leaves_the_old_or_the_new_bundle(
    folder: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    old = weights(folder)
    new = [create_model(name, seed=8).eval() for name in ("meso4", "cnn4")]
    real, calls = os.replace, []

    def crash(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == nth:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        save_bundle(new[0], TWO, folder, texture=new[1], half=False)
    expected = old if nth <= 3 else [value for network in new for value in network.state_dict().values()]
    assert all(map(torch.equal, weights(folder), expected))
    monkeypatch.setattr(os, "replace", real)
    save_bundle(new[0], TWO, folder, texture=new[1], half=False)
    assert sorted(path.name for path in folder.iterdir()) == FILES


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the Hub's client, with httpx2 beside httpx
def test_both_networks_go_to_the_hub_and_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    detector = two_looks()
    with serving(monkeypatch, tmp_path):
        detector.push_to_hub("owner/two")
        fetched = Detector.from_pretrained("owner/two", device="cpu")
    assert looks(fetched) == looks(detector)
    detector.save_pretrained(tmp_path / "sent")
    (tmp_path / "sent" / "texture.safetensors").unlink()
    with pytest.raises(WeightsMismatch, match=r"has no texture\.safetensors"):
        upload_bundle(tmp_path / "sent", "owner/two")


def test_the_command_line_copies_and_counts_both(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    main(["download", str(folder), "--to", str(tmp_path / "copy")], standalone_mode=False)
    size = sum((folder / name).stat().st_size for name in FILES[1:])
    assert f"small@0: {size / 1e6:.1f} MB" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "copy" / "small@0").iterdir()) == FILES


def test_openvino_runs_both(folder: Path) -> None:
    pytest.importorskip("openvino")
    fast, plain = (Detector.from_pretrained(folder, backend=backend) for backend in ("openvino", "torch"))
    for one, other in zip(looks(fast)[0].values(), looks(plain)[0].values(), strict=True):  # type: ignore[index]
        assert one == pytest.approx(other, abs=1e-3)
    assert fast.predict(PORTRAIT).backend == "openvino"
