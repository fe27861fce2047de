"""Class folders: the innermost class counts, and links neither multiply nor relabel pictures."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DatasetError

OUTER = ("progan", "deepfake", "photos", "human", "gan", "diffusion", "faceswap", "original", "real", "fake")


def touch(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"never opened")
    return folder


def known(folder: Path, samples: list[Sample]) -> dict[str, tuple[int, str]]:
    return {Path(sample.image).relative_to(folder).as_posix(): (sample.label, sample.source) for sample in samples}


@pytest.mark.parametrize(("real", "fake"), [("0_real", "1_fake"), ("real", "fake"), ("Original", "AI")])
def test_the_class_folder_decides_whatever_the_source_is_called(tmp_path: Path, real: str, fake: str) -> None:
    for outer in OUTER if "real" in real else OUTER[:-2]:
        touch(tmp_path, f"{outer}/{real}/a.jpg", f"train/{outer}/{fake}/deep/down/a.jpg")
    for sample in read_dataset(tmp_path):
        classes = [part for part in Path(sample.image).parts if part in (real, fake)]
        assert sample.label == int(classes[-1] == fake), sample.image


def test_a_class_without_its_opposite_beside_it_is_the_class_still(tmp_path: Path) -> None:
    touch(tmp_path, "photos/0_real/a.jpg", "photos/1_fake/a.jpg", "deepfake/0_real/b.jpg")
    assert known(tmp_path, read_dataset(tmp_path))["deepfake/0_real/b.jpg"] == (0, "deepfake")


def test_where_only_the_outer_level_has_both_classes_it_decides(tmp_path: Path) -> None:
    touch(tmp_path, "real/photos/a.jpg", "fake/photos/b.jpg", "fake/person 1/c.jpg")
    assert known(tmp_path, read_dataset(tmp_path)) == {
        "real/photos/a.jpg": (0, "photos"), "fake/photos/b.jpg": (1, "photos"), "fake/person 1/c.jpg": (1, "person 1"),
    }  # fmt: skip


def test_folders_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "real/photos/a.jpg", "fake/photos/b.jpg", "fake/gan/c.jpg")
    with pytest.raises(DatasetError, match=r"fake.photos: 'fake' and 'photos' contradict each other"):
        read_dataset(tmp_path)


def test_synonyms_below_one_plain_name_are_the_classes(tmp_path: Path) -> None:
    touch(tmp_path, "fake/original/a.jpg", "fake/tampered/b.jpg")
    assert known(tmp_path, read_dataset(tmp_path)) == {
        "fake/original/a.jpg": (0, "fake"), "fake/tampered/b.jpg": (1, "tampered"),
    }  # fmt: skip


def test_true_and_false_are_no_names_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "true/a.jpg", "false/b.jpg")
    with pytest.raises(DatasetError, match="cannot tell whether 'false' means real or fake"):
        read_dataset(tmp_path)
    assert [s.label for s in read_dataset(tmp_path, labels={"true": "real", "false": "fake"})] == [1, 0]


def test_numbered_folders_take_a_mapping_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "0/a.jpg", "1/b.jpg")
    assert [s.label for s in read_dataset(tmp_path)] == [0, 1]
    assert [s.label for s in read_dataset(tmp_path, labels={0: "fake", 1: "real"})] == [1, 0]


@pytest.mark.parametrize("link", ["real/up", "fake/up", "up", "fake/deep/up"])
@pytest.mark.parametrize("target", [".", "..", "real"])
def test_rings_of_links_add_nothing(tmp_path: Path, link: str, target: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = touch(tmp_path / "data", "real/a.jpg", "fake/deep/b.jpg")
    touch(tmp_path, "other/fake/c.jpg")
    (folder / link).symlink_to((folder / target).resolve(), target_is_directory=True)
    if target == "real" and link.startswith("fake"):
        with pytest.raises(DatasetError, match="are the same by a link, in two classes"):
            read_dataset(folder)
        return
    assert known(folder, read_dataset(folder)) == {"real/a.jpg": (0, ""), "fake/deep/b.jpg": (1, "deep")}
    assert "1 link(s) in" in caplog.text and "nothing is read twice" in caplog.text


def test_two_folders_that_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/x/a.jpg", "real/y/b.jpg", "fake/c.jpg")
    (tmp_path / "real/x/y").symlink_to(tmp_path / "real/y", target_is_directory=True)
    (tmp_path / "real/y/x").symlink_to(tmp_path / "real/x", target_is_directory=True)
    assert len(read_dataset(tmp_path)) == 3


def test_links_to_folders_elsewhere_are_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "store", "r/a.jpg", "f/b.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/real").symlink_to(tmp_path / "store/r", target_is_directory=True)
    (tmp_path / "data/fake").symlink_to(tmp_path / "store/f", target_is_directory=True)
    assert known(tmp_path, read_dataset(tmp_path / "data")) == {"data/real/a.jpg": (0, ""), "data/fake/b.jpg": (1, "")}
    assert not caplog.records


@pytest.mark.parametrize("hard", [False, True])
def test_one_file_by_two_names_is_read_once_and_not_in_two_classes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, hard: bool
) -> None:
    touch(tmp_path, "real/a.jpg", "fake/b.jpg")
    (tmp_path / "real/again.jpg").symlink_to(tmp_path / "real/a.jpg")
    with caplog.at_level(logging.WARNING):
        assert len(read_dataset(tmp_path)) == 2
    assert "again.jpg" in caplog.text
    if hard:
        (tmp_path / "fake/c.jpg").hardlink_to(tmp_path / "real/a.jpg")
    else:
        (tmp_path / "fake/c.jpg").symlink_to(tmp_path / "real/a.jpg")
    with pytest.raises(DatasetError, match="are the same by a link, in two classes"):
        read_dataset(tmp_path)


def test_one_folder_as_both_classes_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "store", "a.jpg")
    (tmp_path / "data").mkdir()
    for name in ("real", "fake"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store", target_is_directory=True)
    with pytest.raises(DatasetError, match="are the same by a link, in two classes"):
        read_dataset(tmp_path / "data")


def test_pictures_outside_class_folders_name_a_table_beside_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "data.csv")
    with pytest.raises(DatasetError, match=r"a\.jpg outside any class folder.*to read the table data\.csv in it, pass"):
        read_dataset(tmp_path)


def test_numbers_below_a_class_are_persons_and_below_a_source_are_classes(tmp_path: Path) -> None:
    touch(tmp_path, "persons/0_real/0/a.jpg", "persons/0_real/1/b.jpg", "persons/1_fake/1/c.jpg")
    touch(tmp_path, "deepfake/0/d.jpg", "deepfake/1/e.jpg", "gan/0/f.jpg", "gan/1/g.jpg", "gan/2/h.jpg")
    by_name = {Path(sample.image).stem: sample.label for sample in read_dataset(tmp_path)}
    assert by_name == {"a": 0, "b": 0, "c": 1, "d": 0, "e": 1, "f": 1, "g": 1, "h": 1}


def test_a_link_to_itself_is_left_aside(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg", "fake/b.jpg")
    (tmp_path / "real/loop").symlink_to("loop")
    assert len(read_dataset(tmp_path)) == 2


def test_synonyms_without_their_opposite_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "ai/photo/a.jpg", "ai/art/b.jpg")
    with pytest.raises(DatasetError, match="'ai' and 'photo' contradict each other"):
        read_dataset(tmp_path)
