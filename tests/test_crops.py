"""Are found faces kept, and are crops in training those in use?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.augment import Augmentation
from deepfake_detect.card import Preprocessing
from deepfake_detect.crops import SELF_BLEND, CropDataset, FaceStore, self_blended, with_faces
from deepfake_detect.data import read_csv
from deepfake_detect.errors import DatasetError
from deepfake_detect.faces import FaceFinder, crop_face

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
WANTED = Preprocessing(size_px=48, margin=1.3)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    Image.open(PORTRAIT).save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "b.png")
    (tmp_path / "data.csv").write_text(
        "file,label,source,generator,group,split,note\n"
        "a.png,real,web,camera,p1,train,old\n"
        "b.png,Fake,web,gan,p2,val,\n"
        "b.png,,content,camera,p3,train,\n"
    )
    return tmp_path / "data.csv"


def test_crop_for_training_is_the_crop_in_use(tmp_path: Path, table: Path) -> None:
    finder = FaceFinder()
    pixels = np.asarray(Image.open(PORTRAIT).convert("RGB"))
    (face,) = finder.find(pixels)
    expected = crop_face(pixels, face.box_xyxy, margin=1.3, size_px=48)
    dataset = CropDataset(read_csv(table)[:1], FaceStore(tmp_path / "faces"), preprocessing=WANTED)
    crop, label = dataset[0]
    np.testing.assert_array_equal(crop.numpy(), expected)
    assert label == 0.0


def test_the_largest_face_is_taken(tmp_path: Path) -> None:
    portrait = Image.open(PORTRAIT)
    canvas = Image.new("RGB", (712, 512), "grey")
    canvas.paste(portrait.resize((200, 200)), (0, 0))
    canvas.paste(portrait, (200, 0))
    canvas.save(tmp_path / "two.png")
    face, alone = FaceStore(tmp_path / "faces").load(tmp_path / "two.png"), FaceFinder().find(np.asarray(portrait))[0]
    assert face is not None
    width = face.box_xyxy[2] - face.box_xyxy[0]
    assert width == pytest.approx(alone.box_xyxy[2] - alone.box_xyxy[0], rel=0.15)


def test_face_is_looked_for_once(tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, calls = FaceStore(tmp_path / "faces"), []
    find = store.finder.find
    monkeypatch.setattr(store.finder, "find", lambda *a, **k: calls.append(1) or find(*a, **k))
    first = store.load(table.parent / "a.png")
    copy = table.parent / "renamed.png"
    copy.write_bytes((table.parent / "a.png").read_bytes())
    second = store.load(copy)
    assert len(calls) == 1
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert not list(store.folder.glob("*.partial"))


def test_other_settings_are_kept_apart(tmp_path: Path) -> None:
    assert FaceStore(tmp_path, reach=1.5).folder != FaceStore(tmp_path, reach=1.8).folder
    assert FaceStore(tmp_path, finder=FaceFinder(threshold=0.9)).folder != FaceStore(tmp_path).folder


def test_pictures_without_a_face_are_left_out_and_refused(tmp_path: Path, table: Path) -> None:
    store, samples = FaceStore(tmp_path / "faces"), read_csv(table)
    assert with_faces(samples, store) == samples[:1]
    with pytest.raises(DatasetError, match=r"no face in .*b\.png"):
        CropDataset(samples, store, preprocessing=WANTED)[1]


def test_seed_decides_the_augmented_crop_and_the_self_blend(tmp_path: Path, table: Path) -> None:
    real = read_csv(table)[:1]
    samples = [*real, *self_blended(real)]
    dataset = CropDataset(samples, FaceStore(tmp_path), preprocessing=WANTED, augmentation=Augmentation())
    assert (dataset[0, 1][0] == dataset[0, 1][0]).all()
    assert (dataset[0, 1][0] != dataset[0, 2][0]).any()
    assert samples[1].source == SELF_BLEND and dataset[1, 1][1] == 1.0
    assert (dataset[1, 1][0] != dataset[0, 1][0]).any()
