"""Test that the recipes of the packaged weights run.

A handful of pictures goes the whole way: copies are forged, networks trained one after the other, a small one with the
scores of a large one as labels, calibrated and packaged. That says nothing about quality.
"""

import csv
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image, ImageFilter

from deepfake_detect import Card, Detector, create_model, find_faces
from deepfake_detect.datasets.face_cache import Surroundings
from deepfake_detect.datasets.read import Sample, read_dataset
from deepfake_detect.evaluation.scored import Row
from deepfake_detect.predict.preprocess import to_batch
from deepfake_detect.training.crop_dataset import self_blended
from deepfake_detect.weights.card import Preprocessing
from tests.small_world import PORTRAIT, small_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the recipes are no part of the wheel

from recipes import ship, verdict  # noqa: E402
from recipes.content import figures, temperature_of  # noqa: E402
from recipes.forged_copies import coarsely, level, upsample, write_forged_copies  # noqa: E402
from recipes.measure import wilson  # noqa: E402
from recipes.mobile import Taught, unfold_norms  # noqa: E402
from recipes.plans import MOBILE, NEW, PLANS, XCEPTION  # noqa: E402
from recipes.subgroups import by_person, facts_of, words_of  # noqa: E402
from recipes.train import FORGED_COPIES, Bench, shuffle_labels  # noqa: E402
from recipes.training_pictures import FAMILIES, FOLDS, IN_FOLDS, PLAIN_OUT, TrainingPictures  # noqa: E402
from recipes.whole import HELD_OUT, LEARNED, photographs, write_copies  # noqa: E402

SOURCES = sorted(
    {*(source for sources in FAMILIES.values() for source in sources), *FORGED_COPIES, "mebeauty", "utkface"}
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give a data set of every source, starting weights that were never trained, and a place to train."""
    folder = tmp_path_factory.mktemp("bench")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPFAKE_DETECT_CACHE", str(folder / "faces"))
        write_pictures(folder / "data")
        (folder / "models").mkdir()
        for file, architecture in ((XCEPTION, "xception"), (MOBILE, "timm:mobilenetv2_100")):
            state = {
                name: value.contiguous() for name, value in create_model(architecture, seed=1).state_dict().items()
            }
            safetensors.torch.save_file(state, folder / "models" / file)
        made = Bench(data=folder / "data", weights=folder / "models", runs=folder / "runs", short=True)
        for source, way in ((s, w) for s in FORGED_COPIES for w in ("autoencoder", "levelled")):  # as if there were one
            reals = [s for s in read_dataset(folder / "data") if s.source == source and s.label == 0][:1]
            write_forged_copies("upsample", reals, made.runs / "forged-copies" / f"{way}-{source}", size_px=192)
            relabel(made.runs / "forged-copies" / f"{way}-{source}" / "manifest.csv", way)
        yield made


def write_pictures(folder: Path) -> None:
    rows = [["file", "label", "source", "generator", "group", "split", "note"]]
    random = np.random.default_rng(0)
    shown = {"real": Image.open(PORTRAIT), "fake": Image.open(PORTRAIT.with_name("portrait_fake.jpg"))}
    folder.mkdir()
    for split, source, label in ((s, o, w) for s in ("train", "val", "test") for o in SOURCES for w in shown):
        for number in range(2 if split == "train" else 1):
            name = f"{split}-{source}-{label}-{number}.jpg"
            name = f"30_1_2_{name}" if source == "utkface" else name
            left, top = (int(value) for value in random.integers(80, 130, 2))
            shown[label].crop((left, 0, left + 300, 300 + top)).resize((150, 200)).save(folder / name, quality=80)
            note = "group=male-african" if source == "mebeauty" else ""
            rows.append([name, label, source, label, name, split, note])
    with (folder / "manifest.csv").open("w", newline="") as table:
        csv.writer(table).writerows(rows)


def relabel(table: Path, way: str) -> None:
    table.write_text(table.read_text().replace("upsample", way))


def test_one_command_forges_copies_trains_a_network_and_ends_there(bench: Bench) -> None:
    folder = bench.train("xception-fakefaces")
    assert (folder / "finished").exists()
    before = (folder / "model.safetensors").read_bytes()
    assert bench.train("xception-fakefaces") == folder
    assert (folder / "model.safetensors").read_bytes() == before
    assert len(list((bench.runs / "forged-copies").glob("upsample-*/fake/*.jpg"))) == len(FORGED_COPIES) * 2


def test_a_small_network_learns_from_a_large_one_and_ships(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.train("mobile-fakefaces")
    words = [
        "ship",
        str(run),
        "--data",
        str(bench.data),
        "--to",
        str(tmp_path),
        "--version",
        "1",
        "--recipe",
        "train it",
    ]
    monkeypatch.setattr(ship, "ALARMS", 0.1)  # so few photographs promise no less
    monkeypatch.setattr(sys, "argv", [*words, "--limit", "everything"])
    ship.main()
    detector = Detector.from_pretrained(tmp_path / "mobile-fakefaces@1")
    card = detector.card
    assert card.recipe == "train it"
    assert card.limits == ("everything",)
    assert card.uncertain is not None and card.uncertain[0] < card.threshold == 0.5 < card.uncertain[1]
    assert set(card.metrics["test"]) == {*SOURCES, "all"}
    assert len(card.golden) == 4
    assert detector.predict(PORTRAIT).score == pytest.approx(0.5, abs=0.5)

    monkeypatch.setattr(sys, "argv", ["verdict", "shipped", str(tmp_path / card.id), "--data", str(bench.data),
                                      "--out", str(tmp_path)])  # fmt: skip
    verdict.main()
    values = json.loads((tmp_path / f"{card.id}.json").read_text())
    assert set(FAMILIES) <= set(values)
    assert set(values["delivered"]) == {"clean", *verdict.ROBUST}
    assert set(values["thirds of dfdc"]) == {"brightness", "side", "sharpness", "turn"}
    assert values["alarms"]["n"] == values["all"]["n"] / 2


def test_every_plan_starts_from_something_there() -> None:
    for plan in PLANS.values():
        assert plan.start in {*PLANS, XCEPTION, MOBILE, NEW}
        assert plan.teacher in {*PLANS, ""}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_left_out_is_nowhere_in_the_diet(bench: Bench, family: str) -> None:
    plan = PLANS[f"without-{family}"]
    chosen = plan.pictures.training(bench.data, bench.forged_copies(plan.pictures.forged_by))
    assert not [s for s in chosen if s.label == 1 and s.source in FAMILIES[family]]
    assert not [s for s in chosen if s.source in PLAIN_OUT[family]]
    assert {s.source for s in chosen} >= {
        "self-blend",
        "levelled",
        *(set(SOURCES) - {*FAMILIES[family], *PLAIN_OUT[family]}),
    }
    assert {Path(s.image).name.removeprefix("30_1_2_").split("-")[0] for s in chosen if s.source in SOURCES} == {
        "train"
    }


def test_no_fake_is_in_the_diet_of_the_made_up(bench: Bench) -> None:
    pictures = PLANS["made-up"].pictures
    chosen = pictures.training(bench.data, bench.forged_copies(pictures.forged_by))
    assert {s.source for s in chosen if s.label == 1} == {"self-blend", "levelled"}
    assert not [s for s in chosen if s.source in {*PLAIN_OUT["video-swap"], "inswapper"}]


def test_each_picture_of_a_fold_is_left_out_once_and_never_seen_by_what_it_starts_from(bench: Bench) -> None:
    known = read_dataset(bench.data)
    left = [TrainingPictures(fold=number).in_fold(known, left_out=True) for number in range(FOLDS)]
    names = [s.name for part in left for s in part]
    assert sorted(names) == sorted(s.name for s in known if s.source in IN_FOLDS)
    for number, part in enumerate(left):
        plan = PLANS[f"fold-{number}"]
        groups = {s.group for s in part}
        assert not [
            s
            for s in plan.pictures.training(bench.data, bench.forged_copies(plan.pictures.forged_by))
            if s.group in groups
        ]
        while plan.start in PLANS:
            plan = PLANS[plan.start]
            assert not [
                s
                for s in plan.pictures.training(bench.data, bench.forged_copies(plan.pictures.forged_by))
                if s.source in IN_FOLDS
            ]


def test_shuffled_labels_say_nothing_and_keep_their_number() -> None:
    samples = [Sample(image=str(n), label=int(n < 300)) for n in range(1000)]
    shuffled = shuffle_labels(samples)
    assert sum(s.label for s in shuffled) == 300
    assert abs(np.corrcoef([s.label for s in samples], [s.label for s in shuffled])[0, 1]) < 0.1


def test_a_taught_label_is_half_what_it_is_and_half_what_the_teacher_says(bench: Bench) -> None:
    samples = read_dataset(bench.data)[:4]
    crops = bench.crops([*samples, *self_blended(samples)], small_card(64))
    teacher = small_model()
    taught = Taught(crops, teacher=teacher, preprocessing=Preprocessing(size_px=64))
    for index, sample in enumerate(crops.samples):
        pixels, label = taught[index, 5]
        said = float(
            teacher(to_batch([crops[index, 5][0].numpy()], preprocessing=crops.preprocessing)).sigmoid().detach()
        )
        expected = 1.0 if sample.source == "self-blend" else (sample.label + said) / 2
        assert label == pytest.approx(expected, abs=0.01)  # the teacher speaks bfloat16
        assert torch.equal(pixels, crops[index, 5][0])


def test_unfolded_norms_change_nothing_in_use_and_fit_the_pictures(bench: Bench) -> None:
    model = create_model("timm:mobilenetv2_100", seed=0)
    crops = bench.crops(read_dataset(bench.data)[:16], small_card(64))
    for norm in [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]:
        norm.running_var += norm.num_features / 100  # as if it were any other network
    batch = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = model.eval()(batch)
        unfold_norms(model, crops, count=16)
        assert model.eval()(batch) == pytest.approx(before, abs=1e-4)


def small_card(size_px: int) -> Card:
    return Card(name="small", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=size_px))


def test_the_grid_of_an_up_sampler_is_faint_and_periodic() -> None:
    y, x = np.mgrid[:128, :128]
    smooth = np.stack([x + 40, y + 40, (x + y) // 2 + 40], 2).astype(np.uint8)
    random, peaks = np.random.default_rng(3), []
    for _ in range(8):
        forged = upsample(random, smooth).astype(float)
        assert np.abs(forged - smooth).mean() < 12
        spectrum = np.abs(np.fft.fft2((forged - smooth).mean(2)[16:-16, 16:-16]))
        peaks.append(max(spectrum[48, 0], spectrum[0, 48], spectrum[48, 48]) / np.median(spectrum))
    assert np.median(peaks) > 5


def test_a_levelled_forgery_is_as_sharp_and_as_coloured_as_its_photograph() -> None:
    photograph = np.asarray(Image.open(PORTRAIT))[:256, 100:356]
    soft = Image.fromarray(photograph).filter(ImageFilter.GaussianBlur(0.6))
    soft = np.clip(np.asarray(soft) * np.array([1.0, 0.9, 0.8]) + 5, 0, 255).astype(np.uint8)
    wanted, softer = sharpness(photograph), sharpness(soft)
    assert softer < 0.6 * wanted
    assert sharpness(level(photograph, soft, degree=1)) == pytest.approx(wanted, rel=0.15)
    assert sharpness(level(photograph, soft, degree=0)) < 0.8 * wanted < 1.2 * wanted
    assert sharpness(level(photograph, soft, degree=2)) > 1.3 * wanted
    assert level(photograph, soft, degree=1).mean((0, 1)) == pytest.approx(photograph.mean((0, 1)), abs=1.5)


def sharpness(pixels: np.ndarray) -> float:
    grey = pixels.astype(float).mean(-1)
    return float((np.diff(grey, axis=0)[:, 1:] ** 2 + np.diff(grey, axis=1)[1:] ** 2).mean())


def test_a_coarse_reconstruction_keeps_the_fine_detail_of_the_picture() -> None:
    photograph = np.asarray(Image.open(PORTRAIT))[:128, 160:288]
    grey = torch.nn.Conv2d(3, 3, 1, bias=False)  # a decoder that forgets all colour
    torch.nn.init.constant_(grey.weight, 1 / 3)
    forged = coarsely(grey, photograph, shrink=2)
    assert forged.shape == photograph.shape
    fine = [p - box(p) for p in (photograph.astype(float), forged.astype(float))]
    assert np.corrcoef(fine[0].ravel(), fine[1].ravel())[0, 1] > 0.8
    spread = [box(p.astype(float)).std(-1).mean() for p in (photograph, forged)]
    assert spread[1] < 0.2 * spread[0]


def box(pixels: np.ndarray) -> np.ndarray:
    height, width = (side // 4 for side in pixels.shape[:2])
    means = pixels.reshape(height, 4, width, 4, 3).mean((1, 3))
    return np.kron(means, np.ones((4, 4, 1)))


def test_what_the_data_say_of_a_person() -> None:
    portrait = Sample(image="a/30_1_2_x.jpg", label=0, source="utkface")
    assert words_of(portrait) == ["utkface female", "utkface Asian", "utkface 18 to 59"]
    assert words_of(Sample(image="b", label=0, source="mebeauty", note="group=male-african")) == [
        "mebeauty male",
        "mebeauty african",
    ]
    rows = [Row(name=str(n), label="real", predicted="fake" if n < 2 else "real", score=0.1, image=n) for n in range(8)]
    samples = [Sample(image=n, label=0, source="mebeauty", note="group=female-asian") for n in range(8)]
    assert by_person(rows, samples)["mebeauty asian"] == {"n": 8, "real called fake": 0.25}


def test_a_darker_turned_and_blurred_face_measures_so() -> None:
    found = find_faces(PORTRAIT)[0]
    pixels = np.asarray(Image.open(PORTRAIT))
    face = Surroundings(pixels=pixels, box_xyxy=found.box_xyxy, landmarks_xy=found.landmarks_xy)
    plain = facts_of(face)
    dark = facts_of(replace(face, pixels=face.pixels // 2))
    assert dark["brightness"] == pytest.approx(plain["brightness"] / 2, abs=1)
    soft = np.asarray(Image.fromarray(face.pixels).filter(ImageFilter.GaussianBlur(3)))
    assert facts_of(replace(face, pixels=soft))["sharpness"] < plain["sharpness"] - 1
    points = face.landmarks_xy.copy()
    points[2] += (points[1] - points[0]) / 2
    assert facts_of(replace(face, landmarks_xy=points))["turn"] > plain["turn"] + 0.3


def test_wilson_interval_is_the_closed_form() -> None:
    low, high = wilson(5, 100)
    assert (low, high) == pytest.approx((0.02154, 0.11175), abs=2e-4)
    assert wilson(0, 50)[0] == pytest.approx(0)


def test_figures_of_content_classes() -> None:
    logits = torch.eye(4)[[0, 1, 2, 3, 3]] * 5
    values = figures(logits, torch.tensor([0, 1, 2, 3, 0]))
    assert values["accuracy"] == 0.8
    assert values["confusion"]["animal"] == {"animal": 1, "face": 0, "vehicle": 0, "other": 1}
    random = np.random.default_rng(0)
    sharp = torch.from_numpy(random.normal(0, 1, (4000, 4)))
    label = torch.tensor([random.choice(4, p=row) for row in sharp.softmax(1).numpy()])
    assert temperature_of(sharp * 3, label) == pytest.approx(3, rel=0.12)
    assert math.isfinite(temperature_of(sharp, label))


def test_a_photograph_of_things_and_its_forged_copy_differ_in_pixels_alone(tmp_path: Path) -> None:
    rows = ["file,label,source,generator,group,split,note"]
    for split in ("train", "val", "test"):
        Image.open(PORTRAIT).resize((170, 120)).save(tmp_path / f"{split}.jpg")
        rows.append(f"{split}.jpg,,content,camera,{split},{split},class=vehicles")
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    things = photographs(tmp_path, "train", "val", "test")
    samples = read_dataset(write_copies(things, tmp_path / "copies", dict.fromkeys([*LEARNED, *HELD_OUT], upsample)))
    assert {sample.source for sample in samples if sample.split == "test"} == {*LEARNED, *HELD_OUT}
    assert len([sample for sample in samples if sample.split != "test"]) == 4
    fakes = {(s.group, s.source): Path(s.image) for s in samples if s.label == 1}
    for sample in (sample for sample in samples if sample.label == 0):
        fake = Image.open(fakes[sample.group, sample.source])
        with Image.open(sample.image) as real, fake:
            assert (real.size, real.layer, real.quantization) == (fake.size, fake.layer, fake.quantization)
            assert np.abs(np.asarray(real, float) - np.asarray(fake)).mean() > 0.1
