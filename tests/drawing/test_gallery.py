"""Tests of galleries and contact sheets."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, cut_out, draw_gallery, draw_sheet
from deepfake_detect.errors import DeepfakeDetectError, ImageUnreadable
from tests.small_world import PORTRAIT, empty_scene, group, small_detector

RED, GREEN = (200, 30, 30), (30, 160, 30)


def picture(height: int = 300, width: int = 400) -> np.ndarray:
    """Give a green picture with a red square of 60 px at 200, 100."""
    pixels = np.full((height, width, 3), GREEN, np.uint8)
    pixels[100:160, 200:260] = RED
    return pixels


def tile(**changed: object) -> Tile:
    values = {
        "image": picture(),
        "box_xyxy": (200.0, 100.0, 260.0, 160.0),
        "caption": "fake 0.973",
        "colour": COLOURS["fake"],
        "note": "is real",
    }
    return Tile(**{**values, **changed})  # type: ignore[arg-type]


def of_colour(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(np.asarray(image).astype(int) - colour) < 12).all(axis=2)


def test_cut_out_is_the_face_with_a_margin() -> None:
    face = cut_out(picture(), box_xyxy=(200, 100, 260, 160), side_px=78)  # 1.3 times the box, not scaled
    red = np.argwhere(of_colour(face, RED))
    assert red.min(0).tolist() == [9, 9] and red.max(0).tolist() == [68, 68]
    assert of_colour(face, GREEN)[:8].all()


def test_face_at_the_edge_shows_no_border() -> None:
    for box in ((0, 0, 60, 60), (340, 240, 400, 300), (0, 0, 300, 300), (60, 0, 360, 300)):
        assert not of_colour(cut_out(picture(), box_xyxy=box, side_px=50), (236, 236, 236)).any()


def test_box_beyond_the_picture_is_filled_up() -> None:
    face = cut_out(picture(), box_xyxy=(-200, -200, 400, 500), side_px=70)
    assert of_colour(face, (236, 236, 236)).any() and of_colour(face, GREEN).any()
    assert cut_out(picture(1, 1), box_xyxy=None, side_px=9).size == (9, 9)


def test_without_a_box_the_whole_picture_is_shown() -> None:
    whole = cut_out(picture(300, 300), box_xyxy=None, side_px=100)  # a third of its size
    red = np.argwhere(of_colour(whole, RED))
    assert red.min(0) == pytest.approx((33, 67), abs=1) and red.max(0) == pytest.approx((52, 86), abs=1)


def test_faces_stand_in_rows_with_their_captions() -> None:
    tiles = [tile(), tile(colour=COLOURS["real"]), tile()]
    one, two = draw_gallery([("Hits", tiles)], columns=3), draw_gallery([("Hits", tiles)], columns=2)
    assert one.width > two.width and one.height < two.height
    strips = of_colour(one, COLOURS["fake"]).any(axis=0)
    third = one.width // 3
    assert strips[:third].any() and not strips[third + 20 : 2 * third - 20].any() and strips[2 * third :].any()
    assert of_colour(one, COLOURS["real"])[:, third : 2 * third].any()
    for changed in (tile(caption="fake 0.913"), tile(note="is fake"), tile(image=picture() // 2)):
        assert draw_gallery([("Hits", [changed])]) != draw_gallery([("Hits", [tile()])])


def test_no_face_of_a_kind_is_said() -> None:
    empty, full = draw_gallery([("Misses", [])]), draw_gallery([("Misses", [tile()])])
    assert empty.height < 80 < full.height and (np.asarray(empty) < 100).any()
    assert draw_gallery([]).height


def test_picture_that_is_gone_leaves_an_empty_tile(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable):
        cut_out(tmp_path / "gone.jpg", box_xyxy=None, side_px=9)
    shown = draw_gallery([("Hits", [tile(image=tmp_path / "gone.jpg"), tile()])], columns=2)
    assert of_colour(shown, (236, 236, 236))[:, : shown.width // 2].any() and of_colour(shown, RED).any()


def test_long_words_stay_on_their_tile() -> None:
    shown = draw_gallery([("Hits", [tile(note="x" * 400, caption="y" * 400)])], columns=1)
    white = (np.asarray(shown) == 255).all(axis=2)
    assert white[:, :12].all() and white[:, -12:].all()
    assert white[-45:, :15].all() and not white[-45:].all()  # not cut off in the middle of a letter


def test_a_name_has_a_line_of_its_own() -> None:
    plain, named = (draw_gallery([("", [tile(**more)])], columns=1) for more in ({}, {"name": "a.jpg"}))
    assert named.height == plain.height + 21
    ink = np.asarray(named.convert("L"))[-12 - 25 : -12] < 160
    assert ink.any() and not (np.asarray(plain.convert("L"))[-12:] < 160).any()
    assert draw_gallery([("", [tile(name="b.jpg")])], columns=1) != named


def test_frames_lie_where_the_faces_are_on_the_whole_picture() -> None:
    framed = tile(box_xyxy=None, frames=[((200.0, 100.0, 260.0, 160.0), COLOURS["fake"])])
    shown = draw_gallery([("", [framed])], columns=1, tile_px=200)  # half the size of the 400 x 300 picture
    square = shown.crop((12, 46, 212, 246))
    assert of_colour(square, (236, 236, 236))[:25].all() and of_colour(square, (236, 236, 236))[175:].all()
    frame = np.argwhere(of_colour(square, COLOURS["fake"]))
    assert frame.min(0).tolist() == [75, 100] and frame.max(0).tolist() == [105, 130]
    red = np.argwhere(of_colour(square, RED))
    assert (red.min(0) > frame.min(0)).all() and (red.max(0) < frame.max(0)).all()


def test_frames_of_a_large_jpeg_lie_on_its_faces_though_it_is_decoded_smaller(tmp_path: Path) -> None:
    Image.fromarray(picture()).resize((4000, 3000), Image.Resampling.NEAREST).save(tmp_path / "a.jpg", quality=95)
    framed = tile(image=tmp_path / "a.jpg", box_xyxy=None, frames=[((2000.0, 1000.0, 2600.0, 1600.0), (0, 0, 255))])
    square = draw_gallery([("", [framed])], columns=1, tile_px=200).crop((12, 46, 212, 246))
    red, blue = np.argwhere(of_colour(square, RED)), np.argwhere(of_colour(square, (0, 0, 255)))
    assert blue.min(0).tolist() == [75, 100] and blue.max(0).tolist() == [105, 130]
    assert (red.min(0) > blue.min(0)).all() and (red.max(0) < blue.max(0)).all()


def test_a_sheet_frames_every_face_and_names_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(group(3)).save(tmp_path / "three.png")
    Image.fromarray(empty_scene()).save(tmp_path / "scene.png")
    (tmp_path / "torn.jpg").write_bytes(b"no picture")
    paths = [PORTRAIT, tmp_path / "three.png", tmp_path / "scene.png", tmp_path / "torn.jpg"]
    tiles: list[tuple[str, list[Tile]]] = []

    def listen(sections: list[tuple[str, list[Tile]]], **options: int) -> Image.Image:
        tiles.extend(sections)
        return draw_gallery(sections, **options)

    monkeypatch.setattr("deepfake_detect.drawing.gallery.draw_gallery", listen)
    predictions = list(small_detector().predict_many(paths, on_error="yield"))
    sheet = draw_sheet(predictions, columns=4)
    ((title, shown),) = tiles
    assert title.startswith("4 pictures: ") and "1 no-face" in title and "1 error" in title
    assert [len(entry.frames) for entry in shown] == [1, 3, 0, 0]
    assert [entry.note.partition(":")[0] for entry in shown] == ["portrait.jpg", "three.png", "scene.png", "torn.jpg"]
    assert shown[0].caption == f"{predictions[0].label} {predictions[0].score:.3f}"
    assert (shown[2].caption, shown[3].caption) == ("no-face", "error")
    assert "not a picture" in shown[3].note or "cannot" in shown[3].note or "torn.jpg" in shown[3].note
    assert sheet.width == 12 + 4 * 252


def test_a_sheet_pulls_no_more_pictures_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    monkeypatch.setattr(
        "deepfake_detect.drawing.gallery.draw_gallery", lambda sections, **_: titles.append(sections[0][0])
    )
    pulled = 0

    def endless() -> Iterator[SimpleNamespace]:
        nonlocal pulled
        while True:
            pulled += 1
            yield SimpleNamespace(name="a", label="real", score=0.1, faces=(), source=picture())

    draw_sheet(endless(), count=3)
    assert pulled == 4
    draw_sheet([next(endless())], count=3)
    draw_sheet([])
    assert titles == ["the first 3 pictures: 3 real", "1 picture: 1 real", "0 pictures"]
    for wrong in ({"columns": 0}, {"count": 0}, {"tile_px": 1}):
        with pytest.raises(DeepfakeDetectError, match=f"{next(iter(wrong))} is"):
            draw_sheet([], **wrong)
