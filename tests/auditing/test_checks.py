"""Test that the audit finds planted faults by name, and nothing in clean data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from deepfake_detect import AuditReport, audit
from deepfake_detect.auditing.checks import judge
from deepfake_detect.auditing.cues import Cues, collect_cues
from deepfake_detect.auditing.leaks import exact_duplicates, near_duplicates
from deepfake_detect.datasets.face_cache import FaceStore
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.errors import DatasetError
from deepfake_detect.predict.predictor import Predictor
from tests.small_world import CARD, PORTRAIT, empty_scene, group

COUNT = 120


def scene(random: np.random.Generator) -> Image.Image:
    """Draw coloured blots, unlike any other draw."""
    small = random.integers(0, 256, (5, 5, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC), float)
    return Image.fromarray(np.clip(pixels + random.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8))


Save = Callable[[Image.Image, Path, int], Path]


def plain(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".jpg")
    picture.save(path, quality=90)
    return path


def write(folder: Path, save: Save = plain, *, seed: int = 0, count: int = COUNT) -> list[Sample]:
    """Write pictures of nothing in particular, labelled by chance, each its own group."""
    random = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        label = int(random.integers(2))
        path = save(scene(random), folder / f"{number:03}", label)
        split = "train" if number < 0.8 * count else "val"
        samples.append(Sample(image=path, label=label, source="web", group=f"p{number}", split=split))
    return samples


def codes(report: AuditReport, severity: str | None = None) -> set[str]:
    return {finding.code for finding in report.findings if severity in (None, finding.severity)}


def look(samples: Any, **options: Any) -> AuditReport:
    return audit(samples, faces=False, **options)


@pytest.mark.parametrize("seed", range(6))
def test_it_stays_quiet_where_there_is_nothing(tmp_path: Path, seed: int) -> None:
    report = look(write(tmp_path, seed=seed), seed=seed)
    assert codes(report) == set()
    assert report.ok
    assert "Nothing was found that speaks against" in str(report)


def fakes_as_png(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".png" if label else ".jpg")
    picture.save(path)
    return path


def two_qualities(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".jpg")
    picture.save(path, quality=95 if label else 75)
    return path


def two_sizes(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".png")
    picture.resize((128, 128) if label else (100, 100)).save(path)
    return path


def soft_fakes(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".png")
    (picture.filter(ImageFilter.GaussianBlur(1)) if label else picture).save(path)
    return path


def warm_fakes(picture: Image.Image, stem: Path, label: int) -> Path:
    path = stem.with_suffix(".png")
    Image.fromarray((np.asarray(picture) * ((1, 0.5, 0.4) if label else (1, 1, 1))).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("save", "code", "severity"),
    [
        (fakes_as_png, "headers", "error"),
        (two_qualities, "headers", "error"),
        (two_sizes, "size", "error"),
        (soft_fakes, "sharpness", "warning"),
        (warm_fakes, "colour", "warning"),
    ],
)
def test_a_label_that_is_told_without_looking(tmp_path: Path, save: Save, code: str, severity: str) -> None:
    report = look(write(tmp_path, save))
    (found,) = [finding for finding in report.findings if finding.code == code]
    assert found.severity == severity
    auc, (low, high) = report.aucs[code]
    assert low > 0.9 and f"AUC of {auc:.2f} [{low:.2f}, {high:.2f}]" in found.title
    assert found.advice.startswith("A network may learn that instead")


def test_the_fact_that_tells_most_is_named_first(tmp_path: Path) -> None:
    report = look(write(tmp_path, fakes_as_png))
    assert report.findings[0].evidence.startswith("Each by itself: format 1.00, ")
    assert report.findings[0].evidence in str(report)
    sizes = look(write(tmp_path, two_sizes))
    (found,) = [finding for finding in sizes.findings if finding.code == "size"]
    assert "proportions 0.50" in found.evidence


def test_a_fact_that_tells_little_is_a_note() -> None:
    """A format that goes with the label in 64 of 100 pictures has an AUC of 0.64, give or take 0.02."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 3000).tolist()
    cues = [
        Cues(
            sample=Sample(image=f"{n}", label=one),
            headers=("PNG" if one == (random.random() < 0.64) else "JPEG", *(0,) * 8),
            size=(96.0, 96.0, 1.0),
        )
        for n, one in enumerate(label)
    ]
    report = judge([one.sample for one in cues], cues)
    assert report.aucs["headers"][0] == pytest.approx(0.64, abs=0.02)
    assert [(finding.code, finding.severity) for finding in report.findings] == [("headers", "note")]


def test_small_clean_sets_are_not_blamed() -> None:
    """Without regard to how few groups there are, about one in six would be."""
    drawn = [(count, seed) for count in (10, 20) for seed in range(20)]
    assert [one for one in drawn if codes(judged_facts(*one)) - {"few-groups"}] == []


def judged_facts(count: int, seed: int) -> AuditReport:
    random = np.random.default_rng(seed)
    cues = [
        Cues(
            sample=Sample(image=f"{number}", label=int(random.random() < 0.5) if number > 1 else number),
            headers=(*random.choice(["PNG", "JPEG", "WEBP"], 1), *random.integers(0, 3, 7).tolist(), random.random()),
            size=tuple((100 + 50 * random.random(3)).tolist()),
            sharpness=tuple(random.random(3).tolist()),
            colour=tuple(random.random(5).tolist()),
        )
        for number in range(count)
    ]
    return judge([one.sample for one in cues], cues, seed=seed)


@pytest.mark.parametrize(("count", "found"), [(16, set()), (20, {"headers"}), (40, {"headers"})])
def test_a_perfect_cue_is_named_from_nine_groups_of_each_class(count: int, found: set[str]) -> None:
    cues = [
        Cues(sample=Sample(image=f"{n}", label=one), headers=("PNG" if one else "JPEG", *(0,) * 8), size=(96, 96, 1))
        for n, one in enumerate(np.random.default_rng(0).permutation([0, 1] * (count // 2)).tolist())
    ]
    report = judge([one.sample for one in cues], cues)
    assert report.aucs["headers"][0] > 0.99
    assert codes(report, "error") == found


def test_a_source_that_is_the_label(tmp_path: Path) -> None:
    samples = [replace(sample, source="gan" if sample.label else "web") for sample in write(tmp_path)]
    assert codes(look(samples), "warning") == {"source"}


def test_a_picture_with_both_labels_is_an_error(tmp_path: Path) -> None:
    samples = write(tmp_path)
    report = look([*samples, replace(samples[3], label=1 - samples[3].label)])
    assert codes(report, "error") == {"duplicates-across-labels"}
    (finding,) = report.findings
    assert str(samples[3].image) in finding.examples[0]


def test_duplicates_are_named_right_where_some_pictures_have_no_thumbnail(tmp_path: Path) -> None:
    samples = write(tmp_path, count=2)
    scene(np.random.default_rng(5)).save(tmp_path / "first.jpg", quality=90)
    Image.open(tmp_path / "first.jpg").save(tmp_path / "second.jpg", quality=60)
    others = [replace(samples[0], image=tmp_path / name, group=name) for name in ("first.jpg", "second.jpg")]
    cues = collect_cues([*samples, *others])
    bare = [replace(cues[0], thumb=None, sha256="same"), replace(cues[1], thumb=None, sha256="same"), *cues[2:]]
    found = {finding.code: finding.examples for finding in judge([one.sample for one in bare], bare).findings}
    assert found["near-duplicates-across-groups"] == (f"{others[0].name}  =  {others[1].name}",)
    assert any(code.startswith("duplicates") for code in found)


def test_copies_of_one_picture_are_no_near_duplicates_as_well(tmp_path: Path) -> None:
    samples = write(tmp_path)
    report = look([*samples, samples[0], samples[0], samples[0]])
    assert [(finding.code, finding.title) for finding in report.findings] == [("duplicates", "3 pairs of duplicates")]


def test_a_copy_in_the_other_split_is_an_error(tmp_path: Path) -> None:
    samples = write(tmp_path)
    copy = replace(samples[0], split="val", group="another")
    assert codes(look([*samples, copy]), "error") == {"duplicates-across-splits"}


def test_a_recompressed_smaller_copy_is_found(tmp_path: Path) -> None:
    samples = write(tmp_path)
    Image.open(samples[0].image).resize((80, 80)).save(tmp_path / "copy.jpg", quality=50)
    copy = replace(samples[0], image=tmp_path / "copy.jpg", group="another")
    assert "near-duplicates-across-groups" in codes(look([*samples, copy]), "note")
    assert "near-duplicates-across-splits" in codes(look([*samples, replace(copy, split="val")]), "error")
    for label in (0, 1):
        together = replace(copy, group=str(samples[0].group), label=label)
        assert codes(look([*samples, together])) == {"small"}  # as frames of a video, or a fake and its original
    other = replace(copy, label=1 - copy.label)
    assert "near-duplicates-across-labels" in codes(look([*samples, other]), "note")
    Image.open(samples[0].image).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.jpg")
    assert codes(look([*samples, replace(copy, image=tmp_path / "mirrored.jpg")])) == set()


def test_a_person_on_both_sides_is_an_error(tmp_path: Path) -> None:
    samples = write(tmp_path)
    torn = [*samples[:-1], replace(samples[-1], group="p0")]
    report = look(torn)
    assert codes(report, "error") == {"group-across-splits"}
    assert report.findings[0].examples == ("p0: train, val",)


def in_class_folders(picture: Image.Image, stem: Path, label: int) -> Path:
    folder = stem.parent / "photos" / ("0_fake" if label else "1_real") / stem.name[:1]
    folder.mkdir(parents=True, exist_ok=True)
    return plain(picture, folder / stem.name, label)


def test_labels_that_contradict_their_folders(tmp_path: Path) -> None:
    samples = write(tmp_path, in_class_folders)
    assert codes(look(samples)) == codes(look(tmp_path / "photos")) == set()
    report = look([replace(sample, label=1 - sample.label) for sample in samples])
    assert codes(report, "error") == {"polarity"}
    assert "the label of 120 pictures contradicts" in report.findings[0].title
    report = look([replace(samples[0], label=1 - samples[0].label), *samples[1:]])
    assert codes(report, "warning") == {"polarity"}
    assert str(samples[0].image) in report.findings[0].examples[0]


def test_a_source_that_sounds_like_a_class_contradicts_nothing(tmp_path: Path) -> None:
    def below_a_source(picture: Image.Image, stem: Path, label: int) -> Path:
        folder = stem.parent / ("deepfake", "photos")[int(stem.name[-1]) % 2] / ("1_fake" if label else "0_real")
        folder.mkdir(parents=True, exist_ok=True)
        return plain(picture, folder / stem.name, label)

    assert codes(look(write(tmp_path, below_a_source))) == set()


def test_folders_of_one_name_contradict_nothing(tmp_path: Path) -> None:
    def in_originals(picture: Image.Image, stem: Path, label: int) -> Path:
        folder = stem.parent / stem.name[-1] / "originals"
        folder.mkdir(parents=True, exist_ok=True)
        return plain(picture, folder / stem.name, label)

    assert codes(look(write(tmp_path, in_originals))) == set()


class Oracle(Predictor):
    """Answers from a table, as a detector would."""

    card = CARD

    def __init__(self, scores: dict[Path, float | None]) -> None:
        self.scores = scores
        self.asked = 0

    def predict_many(self, images: list[Path], *, on_error: str) -> Iterator[SimpleNamespace]:
        assert on_error == "yield"
        for image in images:
            self.asked += 1
            yield SimpleNamespace(score=self.scores[image])


def test_a_detector_tells_that_labels_are_turned_round(tmp_path: Path) -> None:
    samples = write(tmp_path)
    right: dict[Path, float | None] = {s.image: 0.2 + 0.6 * s.label for s in samples}
    wrong: dict[Path, float | None] = {s.image: 0.8 - 0.6 * s.label for s in samples}
    chance: dict[Path, float | None] = {s.image: 0.5 for s in samples}
    nothing: dict[Path, float | None] = dict.fromkeys(right)
    assert codes(look(samples, predictor=Oracle(wrong)), "error") == {"flipped"}
    for scores in (right, chance, nothing):
        oracle = Oracle(scores)
        assert codes(look(samples, predictor=oracle)) == set()
        assert oracle.asked == COUNT


def test_a_part_of_many_pictures_may_do(tmp_path: Path) -> None:
    samples = write(tmp_path, fakes_as_png)
    report = look(samples, sample_limit=80)
    assert report.n == COUNT and report.counts == look(samples).counts
    assert "headers" in codes(report, "error") and codes(report, "note") == {"sampled"}
    assert report.findings[-1].title == "80 of 120 pictures were opened"


def test_classes_that_are_missing_or_few(tmp_path: Path) -> None:
    samples = write(tmp_path)
    reals = [sample for sample in samples if sample.label == 0]
    assert codes(look(reals), "error") == {"one-class"}
    few = [sample for sample in samples if sample.label == 1][:10]
    report = look([*reals, *few])
    assert codes(report, "warning") == {"imbalance"}
    assert codes(report, "note") == {"few-groups"}
    assert report.counts["classes"] == {"fake": 10, "real": len(reals)}


def test_unreadable_and_tiny_pictures_are_named(tmp_path: Path) -> None:
    samples = write(tmp_path)
    (tmp_path / "bad.jpg").write_text("no picture")
    scene(np.random.default_rng(9)).resize((40, 40)).save(tmp_path / "tiny.jpg", quality=90)
    report = look([*samples, *(Sample(image=tmp_path / n, label=0, split="train") for n in ("bad.jpg", "tiny.jpg"))])
    assert report.n == COUNT + 2
    assert codes(report) == {"unreadable", "small"}
    assert "bad.jpg" in report.findings[0].examples[0]


def test_faces_are_counted_where_asked_for(tmp_path: Path) -> None:
    Image.fromarray(group(2)).save(tmp_path / "two.png")
    Image.fromarray(empty_scene()).save(tmp_path / "none.png")
    pairs = [(tmp_path / "two.png", 0), (tmp_path / "none.png", 1), (PORTRAIT, 0)]
    report = audit(pairs, store=FaceStore(tmp_path / "faces"))
    titles = [finding.title for finding in report.findings]
    assert "no face was found in 1 pictures" in titles and "several faces were found in 1 pictures" in titles
    assert codes(report, "warning") == {"no-face", "several-faces"}  # of 3
    many = audit([*pairs, *[(PORTRAIT, 0)] * 4], store=FaceStore(tmp_path / "faces"))
    assert {"no-face", "several-faces"} <= codes(many, "note")  # of 7


def test_strict_refuses_and_shows_why(tmp_path: Path) -> None:
    samples = write(tmp_path, fakes_as_png)
    with pytest.raises(DatasetError, match=r"strict refuses them:[\s\S]*ERROR    the label is told with an AUC of"):
        look(samples, strict=True)
    assert look(write(tmp_path, seed=1), strict=True).ok


def test_pictures_in_memory_have_no_headers() -> None:
    random = np.random.default_rng(0)
    report = look([(scene(random), n % 2) for n in range(40)])
    assert np.isnan(report.aucs["headers"][0])
    assert report.to_dict()["aucs"]["headers"] == {"auc": None, "interval": [None, None]}
    assert codes(report, "error") == set()


def test_a_report_is_read_by_people_and_programs(tmp_path: Path) -> None:
    report = look(write(tmp_path, fakes_as_png))
    assert repr(report).startswith("AuditReport(120 pictures, 1 errors, ")
    for name in ("report.json", "report.txt", "report.html"):
        report.save(tmp_path / name)
    values = json.loads((tmp_path / "report.json").read_text())
    assert values == report.to_dict() and values["findings"][0]["code"] == "headers"
    assert (tmp_path / "report.txt").read_text() == f"{report}\n"
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "ERROR" in report._repr_html_()
    with pytest.raises(ValueError, match=r"expected \.json, \.txt or \.html"):
        report.save(tmp_path / "report.pdf")


def test_cues_are_those_of_the_file(tmp_path: Path) -> None:
    picture = scene(np.random.default_rng(0))
    exif = Image.Exif()
    exif[0x0131] = "GIMP 2.10"
    picture.save(tmp_path / "a.jpg", quality=80, exif=exif, progressive=True, subsampling="4:4:4")
    picture.save(tmp_path / "b.jpg", quality=80, subsampling="4:2:0")
    picture.save(tmp_path / "c.png", icc_profile=b"profile")
    first, second, third = collect_cues(read_dataset([(tmp_path / n, 0) for n in ("a.jpg", "b.jpg", "c.png")]))
    names = ("format", "mode", "progressive", "tables", "layers", "exif", "software", "icc", "bytes")
    named = [dict(zip(names, one.headers, strict=True)) for one in (first, second, third)]
    assert [one["format"] for one in named] == ["JPEG", "JPEG", "PNG"]
    assert [one["software"] for one in named] == ["GIMP 2.10", "", ""]
    assert [one["exif"] for one in named] == [True, False, False]
    assert [one["icc"] for one in named] == [False, False, True]
    assert [one["progressive"] for one in named] == [True, False, False]
    assert named[0]["tables"] == named[1]["tables"] != named[2]["tables"]
    assert named[0]["layers"] != named[1]["layers"]
    assert first.size == (96.0, 96.0, 1.0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
@pytest.mark.parametrize("block", [b"garbage", b"II*\0\x08\0\0\0\xff\xff\x01\x02", b"MM\0*\0\0\0\x08\0\x01\x011"])
def test_damaged_metadata_count_as_none(tmp_path: Path, block: bytes) -> None:
    scene(np.random.default_rng(0)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + block)
    (cues,) = collect_cues(read_dataset([(tmp_path / "a.jpg", 0)]))
    assert not cues.error and cues.headers[5:7] == (False, "")


def test_sharpness_is_that_of_the_middle(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1000, 600, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "large.png")
    Image.fromarray(pixels[308:692, 108:492]).save(tmp_path / "middle.png")
    large, middle = collect_cues(read_dataset([(tmp_path / n, 0) for n in ("large.png", "middle.png")]))
    assert large.sharpness == middle.sharpness
    grey = np.asarray(Image.fromarray(pixels[308:692, 108:492]).convert("L"), float)
    edges = np.abs(np.diff(grey, axis=1)).mean() + np.abs(np.diff(grey, axis=0)).mean()
    second = np.diff(grey, 2, axis=1)[1:-1] + np.diff(grey, 2, axis=0)[:, 1:-1]
    assert large.sharpness[:2] == pytest.approx((edges, np.median(np.abs(second))), rel=1e-4)


def test_near_duplicates_by_brute_force() -> None:
    assert exact_duplicates(["a", "b", "a", "", "", "a"]) == [(0, 2, 5)]
    random = np.random.default_rng(0)
    thumbs = [np.asarray(scene(random).convert("L").resize((32, 32))) for _ in range(40)]
    noisy = [np.clip(one + random.normal(0, 2, one.shape), 0, 255).astype(np.uint8) for one in thumbs[:5]]
    assert sorted(near_duplicates([*thumbs, *noisy])) == [(index, 40 + index) for index in range(5)]
    assert near_duplicates([np.full((32, 32), 7, np.uint8)] * 3) == []  # nothing to see in them
    assert near_duplicates([]) == []


def test_the_same_shades_with_other_details_are_no_duplicates() -> None:
    y, x = np.mgrid[:32, :32]
    smooth = (4 * x + 2 * y + 20).astype(np.uint8)
    detailed = np.where((x + y) % 2, smooth + 60, smooth - 20).astype(np.uint8)  # as bright, seen from afar
    assert near_duplicates([smooth, smooth.copy()]) == [(0, 1)]
    assert near_duplicates([smooth, detailed]) == []


def test_many_pictures_are_compared_in_time() -> None:
    random = np.random.default_rng(0)
    thumbs = list(random.integers(0, 256, (6000, 32, 32)).astype(np.uint8))
    began = time.process_time()
    assert near_duplicates(thumbs) == []
    assert time.process_time() - began < 20  # it takes 1; pair by pair in Python it would take minutes
