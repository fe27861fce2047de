"""Test that faces are found, cached, counted and chosen by the rule, and cropped in training as in use."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.datasets import face_cache
from deepfake_detect.datasets.crops import find_crops, write_crops
from deepfake_detect.datasets.face_cache import FaceStore, default_folder
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DatasetError, ImageUnreadable
from deepfake_detect.faces.crop import crop_face
from deepfake_detect.faces.finder import FaceFinder
from deepfake_detect.inputs import frames as video_room
from deepfake_detect.training.augment import Augmentation
from deepfake_detect.training.crop_dataset import SELF_BLEND, CropDataset, self_blended
from deepfake_detect.weights.card import Preprocessing
from tests.inputs.test_frames import write_pictures, write_video
from tests.small_world import PORTRAIT, empty_scene, group, portrait

WANTED = Preprocessing(size_px=48, margin=1.3)


@pytest.fixture
def store(tmp_path: Path) -> FaceStore:
    return FaceStore(tmp_path / "faces")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """One face, two faces, none, and no picture."""
    shutil.copy(PORTRAIT, tmp_path / "one.jpg")
    Image.fromarray(group(2)).save(tmp_path / "two.png")
    Image.fromarray(empty_scene()).save(tmp_path / "none.png")
    (tmp_path / "bad.png").write_text("no picture")
    names = ("one.jpg", "two.png", "none.png", "bad.png")
    return read_dataset([(tmp_path / name, index % 2) for index, name in enumerate(names)])


def test_crop_for_training_is_the_crop_in_use(store: FaceStore, samples: list[Sample]) -> None:
    pixels = portrait()
    (face,) = FaceFinder().find(pixels)
    expected = crop_face(pixels, face.box_xyxy, margin=1.3, size_px=48)
    crop, label = CropDataset(find_crops(samples, store).samples, store, preprocessing=WANTED)[0]
    np.testing.assert_array_equal(crop.numpy(), expected)
    assert label == 0.0


def test_the_census_counts_what_was_found(store: FaceStore, samples: list[Sample], tmp_path: Path) -> None:
    census = find_crops(samples, store)
    assert [s.name for s in census.samples] == [str(tmp_path / "one.jpg"), str(tmp_path / "two.png")]
    assert [s.label for s in census.samples] == [0, 1]
    assert [s.image.size_hw for s in census.samples] == [portrait().shape[:2], group(2).shape[:2]]
    assert census.no_face == (str(tmp_path / "none.png"),)
    assert census.several == (str(tmp_path / "two.png"),)
    ((name, message),) = census.unreadable
    assert name == str(tmp_path / "bad.png") and message.startswith("ImageUnreadable: ")
    text = str(census)
    assert text.startswith("2 faces, no face in 1 pictures (left out), several in 1 (the largest kept), 1 unreadable")
    assert "bad.png" in text


def test_the_rules_for_several_faces(store: FaceStore, samples: list[Sample]) -> None:
    kept, all_of_them = find_crops(samples, store), find_crops(samples, store, faces="all")
    assert [s.image.number for s in all_of_them.samples] == [0, 0, 1]
    assert [s.label for s in all_of_them.samples] == [0, 1, 1]
    alone, one, other = (s.group for s in all_of_them.samples)
    assert alone == "" != one == other  # a split must not part the faces of one picture
    assert [s.image for s in kept.samples] == [s.image for s in all_of_them.samples[:2]]
    assert [s.group for s in kept.samples] == ["", ""]
    assert len(find_crops(samples, store, faces="drop").samples) == 1
    with pytest.raises(ValueError, match="expected one of keep-largest, drop, all"):
        find_crops(samples, store, faces="first")  # type: ignore[arg-type]


def test_the_largest_face_is_taken(tmp_path: Path, store: FaceStore) -> None:
    picture = Image.open(PORTRAIT)
    canvas = Image.new("RGB", (712, 512), "grey")
    canvas.paste(picture.resize((200, 200)), (0, 0))
    canvas.paste(picture, (200, 0))
    canvas.save(tmp_path / "two.png")
    face, alone = store.load(tmp_path / "two.png"), FaceFinder().find(portrait())[0]
    assert face is not None
    width = face.box_xyxy[2] - face.box_xyxy[0]
    assert width == pytest.approx(alone.box_xyxy[2] - alone.box_xyxy[0], rel=0.15)


def count_looks(store: FaceStore, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    looks: list[int] = []
    find = store.finder.find
    monkeypatch.setattr(store.finder, "find", lambda *a, **k: looks.append(1) or find(*a, **k))
    return looks


def test_a_face_is_looked_for_once_whatever_its_file_is_called(
    store: FaceStore, samples: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = count_looks(store, monkeypatch)
    first = store.load(samples[0].image)
    shutil.copy(tmp_path / "one.jpg", tmp_path / "renamed.jpg")
    second = store.load(tmp_path / "renamed.jpg")
    assert len(looks) == 1
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert not list(store.folder.glob(".*"))
    for pixels in (portrait(), Image.fromarray(portrait()), portrait()):  # no file: the pixels are the key
        assert store.load(pixels) is not None
    assert len(looks) == 2


def test_another_picture_under_the_same_name_is_another(store: FaceStore, tmp_path: Path) -> None:
    Image.fromarray(portrait()).save(tmp_path / "x.png")
    assert store.load(tmp_path / "x.png") is not None
    Image.fromarray(empty_scene()).save(tmp_path / "x.png")
    assert store.load(tmp_path / "x.png") is None


def test_what_was_found_is_loaded_without_the_original(store: FaceStore, samples: list[Sample]) -> None:
    census = find_crops(samples[:1], store)
    Path(samples[0].image).unlink()
    assert CropDataset(census.samples, store, preprocessing=WANTED)[0][0].shape == (48, 48, 3)
    assert census.samples[0].open_picture().size_hw[0] > 48


def test_other_settings_are_kept_apart(tmp_path: Path) -> None:
    assert FaceStore(tmp_path, reach=1.5).folder != FaceStore(tmp_path, reach=1.8).folder
    assert FaceStore(tmp_path, finder=FaceFinder(threshold=0.9)).folder != FaceStore(tmp_path).folder


def test_the_default_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPFAKE_DETECT_CACHE", str(tmp_path / "own"))
    assert default_folder() == tmp_path / "own"
    monkeypatch.delenv("DEEPFAKE_DETECT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "deepfake-detect" / "faces"


def _find_all(folder: str, picture: str, queue: multiprocessing.Queue[bool]) -> None:
    store = FaceStore(folder)
    queue.put(all(store.load(picture) is not None for _ in range(3)))


def test_two_processes_may_keep_the_same_face_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_find_all, args=(str(tmp_path), str(PORTRAIT), queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=60), queue.get(timeout=60)] == [True, True]
    for worker in workers:
        worker.join()
    assert len(list(FaceStore(tmp_path).folder.iterdir())) == 1


def test_a_cut_off_write_leaves_nothing(store: FaceStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(face_cache.os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        store.load(PORTRAIT)
    monkeypatch.undo()
    assert not list(store.folder.glob("*.npz"))
    assert store.load(PORTRAIT) is not None


def test_a_damaged_file_is_looked_for_again_and_named_while_training(store: FaceStore, samples: list[Sample]) -> None:
    found = find_crops(samples[:1], store).samples
    path = found[0].image.path
    whole = path.read_bytes()
    for damaged in (b"", whole[:1000]):
        path.write_bytes(damaged)
        with pytest.raises(ImageUnreadable, match=r"one\.jpg: its face in .* is gone or damaged"):
            CropDataset(found, store, preprocessing=WANTED)[0]
        assert find_crops(samples[:1], store).samples == found
        assert path.read_bytes() == whole


def test_frames_of_a_video_are_decoded_in_one_pass(
    tmp_path: Path, store: FaceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "clip.avi")
    samples = read_dataset([(video, "fake")], frames=4)
    opened: list[Path] = []
    one = video_room._open
    monkeypatch.setattr(video_room, "_open", lambda path: opened.append(path) or one(path))
    assert len(find_crops(samples, store).no_face) == 4
    assert len(opened) == 1
    find_crops(samples, store)
    assert len(opened) == 1  # kept
    apart = [samples[2], Sample(image=portrait(), label=0), samples[0], samples[2]]
    census = find_crops(apart, FaceStore(tmp_path / "other"))
    assert len(opened) == 2 and census.unreadable == ()
    assert census.no_face == (apart[0].name, apart[2].name, apart[3].name)


def test_each_frame_of_a_video_keeps_its_own_faces(tmp_path: Path, store: FaceStore) -> None:
    face, nobody = portrait(), np.full_like(portrait(), 128)
    samples = read_dataset([(write_pictures(tmp_path / "clip.avi", [face, nobody]), "real")], frames=2)
    for _ in range(2):  # found, then kept
        census = find_crops(samples, store)
        assert [s.name for s in census.samples] == [samples[0].name]
        assert census.no_face == (samples[1].name,)


def test_crops_become_a_data_set(tmp_path: Path, store: FaceStore, samples: list[Sample]) -> None:
    shutil.copy(tmp_path / "one.jpg", tmp_path / "a b?c@d.jpg")
    images = [tmp_path / "a b?c@d.jpg", *(s.image for s in samples[1:])]
    named = [Sample(image=image, label=i % 2, group=f"g{i}", source="web") for i, image in enumerate(images)]
    census = find_crops(named, store)
    table = write_crops(census, store, tmp_path / "out")
    again = read_dataset(table)
    assert [(s.label, s.group, s.source) for s in again] == [(0, "g0", "web"), (1, "g1", "web")]
    assert Path(again[0].image).name == "000000-a-b-c-d.png"
    cut = again[0].open_picture().size_hw
    (face,) = FaceFinder().find(portrait())
    side = 1.3 * max(face.box_xyxy[2] - face.box_xyxy[0], face.box_xyxy[3] - face.box_xyxy[1])
    assert cut[0] == cut[1] == pytest.approx(side, abs=1.5)


def test_a_sample_without_a_face_is_refused_by_name(store: FaceStore, samples: list[Sample]) -> None:
    with pytest.raises(DatasetError, match=r"no face in .*none\.png"):
        CropDataset(samples, store, preprocessing=WANTED)[2]


def test_seed_decides_the_augmented_crop_and_the_self_blend(store: FaceStore, samples: list[Sample]) -> None:
    real = find_crops(samples[:1], store).samples
    every = [*real, *self_blended(real)]
    dataset = CropDataset(every, store, preprocessing=WANTED, augmentation=Augmentation())
    assert (dataset[0, 1][0] == dataset[0, 1][0]).all()
    assert (dataset[0, 1][0] != dataset[0, 2][0]).any()
    assert every[1].source == SELF_BLEND and dataset[1, 1][1] == 1.0
    assert (dataset[1, 1][0] != dataset[0, 1][0]).any()
