"""Test that the training of the flagship draws, crops and masks pictures as described, and resumes exactly."""

import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))  # the recipes are no part of the wheel

from deepfake_detect.datasets.read import Sample  # noqa: E402
from deepfake_detect.faces.finder import FaceFinder  # noqa: E402
from recipes.drawings import DRAWINGS  # noqa: E402
from recipes.face_table import KeptFace, append, find_face, read_table  # noqa: E402
from recipes.flagship import STATE, Plan, Stage, Training  # noqa: E402
from recipes.flagship_figures import caught  # noqa: E402
from recipes.forge import Sitter, blend, lay_over, morph, part_mask, part_swap  # noqa: E402
from recipes.mixture import FAKES, REALS, Mixture  # noqa: E402
from recipes.texture import TextureTraining, is_native, patches  # noqa: E402
from recipes.views import forged_mask, plain_view, random_view, travel  # noqa: E402
from tests.small_world import PORTRAIT  # noqa: E402

FIVE = ((80.0, 90.0), (120.0, 90.0), (100.0, 115.0), (85.0, 140.0), (115.0, 140.0))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pictures") / "one.png"
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (25, 25, 3), np.uint8))
    coarse.resize((200, 220), Image.Resampling.BICUBIC).save(file)
    return file


def face(picture: Path, *, label: int = 0, source: str = "dfdc", number: int = 0, **more: str) -> KeptFace:
    told = {"name": f"data/{source}/{label}-{number}", "generator": "", "group": f"{source}:{number}", "split": "train"}
    where = {"pixels": str(picture), "box_xyxy": (60.0, 60.0, 140.0, 170.0), "landmarks_xy": FIVE}
    return KeptFace(**{**told, **where, "label": label, "source": source, **more})  # type: ignore[arg-type]


def faces(picture: Path) -> list[KeptFace]:
    plain = [name for name in FAKES if name != "self-blend"]
    kept = [face(picture, label=1, source=name, number=n, note="parts=0101") for name in plain for n in range(3)]
    return kept + [face(picture, source=name, number=n) for name in REALS for n in range(3)]


def test_the_table_gives_back_what_was_written_and_no_half_line(picture: Path, tmp_path: Path) -> None:
    table = tmp_path / "faces.jsonl"
    append(table, asdict(face(picture)))
    append(table, {"name": "no face"})
    with table.open("a") as half:
        half.write('{"name": "half a li')
    (found,) = read_table(table)
    assert found.name == "data/dfdc/0-0"
    assert found.load().shape == (220, 200, 3)


def test_the_face_of_a_large_picture_is_cut_out_with_its_surroundings(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    shown = Image.open(PORTRAIT)
    shown.resize((shown.width * 2, shown.height * 2)).save(large)
    entry = find_face(Sample(image=large, label=0, source="mebeauty"), "data/large.png", tmp_path, FaceFinder())
    pixels = np.load(entry["pixels"])
    left, top, right, bottom = entry["box_xyxy"]
    assert 0 <= left < right <= pixels.shape[1]
    assert 0 <= top < bottom <= pixels.shape[0]
    (x, y), whole = entry["landmarks_xy"][2], np.asarray(Image.open(large))
    nose = pixels[round(y), round(x)]
    assert (whole == nose).all(-1).any()


def test_half_of_a_draw_is_fake_and_sources_come_in_proportion(picture: Path) -> None:
    mixture = Mixture(faces(picture))
    pairs = mixture.draw(4000, np.random.default_rng(0))
    assert all(fake.label == 1 and real.label == 0 for fake, real in pairs)
    count = Counter(fake.source for fake, _ in pairs)
    for source, share in FAKES.items():
        assert count[source] / 4000 == pytest.approx(share / sum(FAKES.values()), abs=0.02)


def test_groups_count_alike_however_many_pictures_they_have(picture: Path) -> None:
    many = [replace(face(picture, label=1, number=0), name=f"data/{n}") for n in range(50)]
    mixture = Mixture([*many, face(picture, label=1, number=1), face(picture, number=0), face(picture, number=1)])
    groups = Counter(fake.group for fake, _ in mixture.draw(1000, np.random.default_rng(0)) if fake.source == "dfdc")
    assert groups["dfdc:0"] / groups.total() == pytest.approx(0.5, abs=0.06)


def test_the_original_of_a_fake_stands_beside_it(picture: Path) -> None:
    for fake, real in Mixture(faces(picture)).draw(500, np.random.default_rng(1)):
        if fake.source in REALS:
            assert real.group == fake.group


def test_a_mixture_of_one_class_is_refused(picture: Path) -> None:
    with pytest.raises(ValueError, match="find faces first"):
        Mixture([face(picture, label=1)])


@pytest.mark.parametrize(
    ("source", "inside", "outside"), [("dfdc", (115, 100), (5, 5)), ("inswapper", (115, 100), (210, 190))]
)
def test_of_a_swap_the_face_is_forged(
    picture: Path, source: str, inside: tuple[int, int], outside: tuple[int, int]
) -> None:
    mask = forged_mask(face(picture, label=1, source=source), (220, 200))
    assert mask[inside] == 255
    assert mask[outside] == 0


def test_of_a_collage_the_parts_are_forged_that_the_bits_name(picture: Path) -> None:
    mask = forged_mask(face(picture, label=1, source="ciplab", note="difficulty=easy;parts=0001;qsum=1"), (220, 200))
    assert mask[140, 100] == 255  # the mouth
    assert mask[90, 80] == mask[90, 120] == mask[105, 100] == 0


def test_of_a_generated_picture_all_is_forged_and_of_a_real_one_nothing(picture: Path) -> None:
    assert forged_mask(face(picture, label=1, source="tpdne"), (220, 200)).min() == 255
    assert forged_mask(face(picture), (220, 200)).max() == 0


def test_the_map_lies_where_the_mask_does(picture: Path, tmp_path: Path) -> None:
    drawn = np.zeros((220, 200), np.uint8)
    drawn[60:170, 60:100] = 255  # the left half of the face
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    view = plain_view(face(picture, label=1, mask=str(tmp_path / "mask.png")), size_px=128, margin=1.0)
    assert view.pixels.shape == (128, 128, 3)
    assert view.forged.shape == (8, 8)
    assert view.forged[:, 2:3].mean() > 0.9
    assert view.forged[:, 5:].mean() < 0.1


def test_the_same_seed_shows_the_same_and_mirrors_mask_and_picture_together(picture: Path, tmp_path: Path) -> None:
    white = np.zeros((220, 200, 3), np.uint8)
    white[:, :100] = 255
    Image.fromarray(white).save(tmp_path / "half.png")
    Image.fromarray(white[..., 0]).save(tmp_path / "mask.png")
    half = face(tmp_path / "half.png", label=1, mask=str(tmp_path / "mask.png"))
    for seed in range(6):
        view, again = (random_view(half, size_px=64, margin=1.3, seed=seed) for _ in range(2))
        assert np.array_equal(view.pixels, again.pixels)
        bright_left = view.pixels[:, :16].mean() > view.pixels[:, -16:].mean()
        forged_left = view.forged[:, 0].mean() > view.forged[:, -1].mean()
        assert bright_left == forged_left


def test_a_self_blend_is_made_while_it_is_looked_at(picture: Path) -> None:
    view = random_view(face(picture, label=1, source="self-blend"), size_px=64, margin=1.3, seed=3)
    assert 0 < view.forged.max() <= 1


def test_both_classes_travel_alike(picture: Path) -> None:
    pixels = np.asarray(Image.open(picture))
    ways = [travel(pixels, np.random.default_rng(seed)).shape for seed in range(30)]
    assert ways == [travel(pixels, np.random.default_rng(seed)).shape for seed in range(30)]
    assert len(set(ways)) > 5


def short(samples: int) -> Plan:
    return Plan(stages=(Stage(size_px=64, samples=samples, lr=1e-3),), epoch_samples=8, batch=4)


def test_a_training_goes_on_as_if_it_had_never_stopped(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepfake_detect.models.xception._CHANNELS", 32)  # a narrow network takes a tenth of the time

    torch.set_num_threads(1)
    (tmp_path / "faces").mkdir()
    for entry in faces(picture):
        append(tmp_path / "faces" / "faces.jsonl", asdict(entry))
    Training(short(16), tmp_path / "whole", start=None).run(tmp_path / "faces")
    Training(short(8), tmp_path / "parted", start=None).run(tmp_path / "faces")
    Training(short(16), tmp_path / "parted", start=None).run(tmp_path / "faces")
    whole, parted = (safetensors.torch.load_file(tmp_path / name / STATE) for name in ("whole", "parted"))
    assert whole.keys() == parted.keys()
    assert all(torch.equal(whole[name], parted[name]) for name in whole)

    cooled = Training(short(8), tmp_path / "cooled", start=tmp_path / "whole" / STATE)
    assert torch.equal(cooled.model.state_dict()["net.conv1.weight"], whole["average.net.conv1.weight"])


def test_stages_follow_one_another_and_the_last_falls() -> None:
    plan = Plan(
        stages=(Stage(size_px=128, samples=32_000, lr=4e-4), Stage(size_px=160, samples=100, lr=2e-4, falls=True))
    )
    assert plan.rate_at(0) < plan.rate_at(3200) < plan.rate_at(20_000) == 4e-4
    place = plan.stage_at(32_050)
    assert place is not None
    assert place[0].size_px == 160
    assert plan.rate_at(32_050) == pytest.approx(1e-4)
    assert plan.stage_at(32_100) is None


def test_what_is_caught_is_counted_at_two_false_alarms_in_a_hundred() -> None:
    y = np.array([0] * 100 + [1] * 4)
    logits = np.array([*range(100), 97.5, 98.5, 200, 5])
    assert caught(y, logits) == 0.75  # two real pictures lie above 97


@pytest.fixture(scope="module")
def sitter(picture: Path) -> Sitter:
    across, down = np.meshgrid(np.linspace(70, 130, 9), np.linspace(70, 160, 8))
    points = np.stack([across.ravel(), down.ravel()], 1)[:68].astype(np.float32)
    points[36:42], points[42:48] = points[36:42] * 0 + (80, 90), points[42:48] * 0 + (120, 90)
    points[36:42, 0] += np.arange(6)
    points[42:48, 0] += np.arange(6)
    return Sitter(face=face(picture), pixels=np.asarray(Image.open(picture)), points=points)


def test_patches_of_a_pair_lie_at_one_place_and_are_coded_alike(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    np.save(tmp_path / "one.npy", noise)
    box = {"pixels": str(tmp_path / "one.npy"), "name": "more/one", "source": "decoder"}
    both = [replace(face(tmp_path, label=label), box_xyxy=(60.0, 60.0, 340.0, 350.0), **box) for label in (1, 0)]
    assert all(is_native(one) for one in both)
    assert not is_native(replace(both[0], name="data/one"))
    assert not is_native(replace(both[0], box_xyxy=(60.0, 60.0, 180.0, 350.0)))
    alike = []
    for seed in range(20):
        fake, real = patches((both[0], both[1]), seed, forger=lambda pixels, _: 255 - pixels)
        assert fake.pixels.shape == real.pixels.shape == (128, 128, 3)
        alike.append(float(np.corrcoef(fake.pixels.ravel(), real.pixels.ravel())[0, 1]))
    forged = np.array(alike) < -0.1  # made of the photograph by the inverting forger, then encoded
    assert 1 <= forged.sum() <= 9
    assert np.allclose(np.array(alike)[~forged], 1)  # the same picture twice


def test_patches_are_not_learned_from_self_blends() -> None:
    assert "self-blend" not in TextureTraining.fakes


def test_what_is_laid_over_changes_nothing_outside_its_mask(sitter: Sitter) -> None:
    for seed in range(8):
        forged, mask = lay_over(sitter, 255 - sitter.pixels, np.random.default_rng(seed))
        assert np.array_equal(forged[mask == 0], sitter.pixels[mask == 0])
        assert (forged[mask > 200] != sitter.pixels[mask > 200]).any()


def test_swapped_parts_lie_within_their_mask(sitter: Sitter) -> None:
    donor = replace(sitter, pixels=np.ascontiguousarray(sitter.pixels[::-1]))
    made = [part_swap(sitter, donor, np.random.default_rng(seed)) for seed in range(12)]
    assert any(made)
    for forged, mask in filter(None, made):
        away = np.abs(forged.astype(int) - sitter.pixels).max(-1)
        assert away[mask == 0].mean() < 3
        assert 0 < (mask > 128).mean() < 0.5


def test_a_morph_of_a_face_with_itself_is_that_face(sitter: Sitter) -> None:
    made = morph(sitter, sitter, np.random.default_rng(0))
    assert made is not None
    assert np.abs(made[0].astype(int) - sitter.pixels)[mask_inside(made[1])].mean() < 4


def mask_inside(mask: np.ndarray) -> np.ndarray:
    return mask > 0


def test_a_part_is_drawn_over_the_landmarks(sitter: Sitter) -> None:
    drawn = [part_mask(sitter, np.random.default_rng(seed)) for seed in range(10)]
    assert all(0 < (mask > 0).mean() < 0.6 for mask in drawn)


def test_half_a_share_lies_half_way(sitter: Sitter) -> None:
    full = np.full(sitter.pixels.shape[:2], 255, np.uint8)
    assert (blend(sitter.pixels * 0, sitter.pixels * 0 + 100, full, share=0.5) == 50).all()


@pytest.mark.parametrize("style", DRAWINGS)
def test_a_drawing_has_the_size_of_its_photograph_and_fewer_shades(style: str, sitter: Sitter) -> None:
    drawn = [DRAWINGS[style](sitter.pixels, sitter.points, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0].shape == sitter.pixels.shape and drawn[0].dtype == np.uint8
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert np.abs(drawn[0].astype(int) - sitter.pixels).mean() > 2
