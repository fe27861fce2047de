from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS
from deepfake_detect.drawing.gallery import Tile, cut_out, draw_gallery
from deepfake_detect.errors import ImageUnreadable

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
