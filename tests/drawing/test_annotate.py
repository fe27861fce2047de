import numpy as np
import pytest
from PIL import Image

from deepfake_detect.drawing.annotate import COLOURS, Box, draw_banner, draw_faces

ORANGE, BLUE = COLOURS["fake"], COLOURS["real"]
GROUND = 90


def ground(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GROUND, np.uint8)


def drawn(image: Image.Image) -> np.ndarray:
    return (np.asarray(image) != GROUND).any(axis=2)


def of_colour(image: Image.Image, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.asarray(image) == colour).all(axis=2)


def one_face(height: int, width: int, box: Box, caption: str = "fake 0.973") -> Image.Image:
    return draw_faces(ground(height, width), boxes=[box], captions=[caption], colours=[ORANGE])


def test_box_stands_where_the_face_is_and_the_face_is_left_alone() -> None:
    image = one_face(600, 800, (200, 150, 400, 450))
    assert image.size == (800, 600)
    orange = of_colour(image, ORANGE)
    assert orange[150:451, 200].all() and orange[150:451, 400].all()
    assert orange[150, 200:401].all() and orange[450, 200:401].all()
    assert not drawn(image)[160:440, 210:390].any()
    assert not drawn(image)[452:].any()


@pytest.mark.parametrize(("box", "above"), [((200, 150, 400, 450), True), ((200, 0, 400, 450), False)])
def test_caption_stands_above_or_where_there_is_room(box: Box, above: bool) -> None:
    rows = np.flatnonzero(of_colour(one_face(600, 800, box), (0, 0, 0)).any(axis=1))  # the letters' ink
    assert (rows.min() < box[1] - 5) == above
    assert (rows.max() > box[3] + 5) != above


def test_caption_is_the_text_that_was_asked_for() -> None:
    one, two = (np.asarray(one_face(600, 800, (200, 150, 400, 450), text)) for text in ("fake 0.973", "fake 0.913"))
    differing = np.argwhere((one != two).any(axis=2))
    assert len(differing) and differing[:, 0].max() < 150


def test_captions_hide_no_other_face() -> None:
    boxes: list[Box] = [(300, 200, 380, 300), (385, 130, 465, 230)]  # the first one's caption would cover the second
    pair = {"boxes": boxes, "captions": ["real 0.031", "fake 0.973"], "colours": [BLUE, ORANGE]}
    image = draw_faces(ground(600, 800), **pair)  # type: ignore[arg-type]
    assert not drawn(image)[140:220, 395:455].any()
    assert not drawn(image)[210:290, 310:370].any()


@pytest.mark.parametrize("side", [1, 7, 100, 479])
def test_small_picture_is_enlarged_by_a_whole_factor(side: int) -> None:
    image = one_face(side, side, (0, 0, side, side))
    assert image.width == image.height and image.width % side == 0 and 480 <= image.width < 2 * 480
    assert draw_banner(ground(side, side), text="no face found").size == image.size


def test_box_is_enlarged_with_the_picture() -> None:
    orange = of_colour(one_face(100, 100, (20, 30, 60, 80)), ORANGE)
    assert orange[150:400, 100].all() and orange[400, 100:300].all()


def test_lines_and_letters_grow_with_the_picture() -> None:
    heights = []
    for scale in (1, 4):
        image = one_face(600 * scale, 800 * scale, (200 * scale, 150 * scale, 400 * scale, 450 * scale))
        heights.append(np.flatnonzero(drawn(image)[:, 250 * scale]).min() / scale)
    assert heights[0] == pytest.approx(heights[1], abs=3)


@pytest.mark.parametrize(("height", "width"), [(1, 900), (900, 1), (3, 3), (20, 700), (700, 20)])
def test_odd_shapes_and_boxes_outside_are_drawn(height: int, width: int) -> None:
    for box in ((-50, -50, 2000, 2000), (-9, -9, -5, -5), (5000, 5000, 5001, 5001), (2, 2, 1, 1)):
        assert of_colour(one_face(height, width, box), ORANGE).any()
    assert draw_banner(ground(height, width), text="no face found").size


def test_banner_lies_along_the_lower_edge() -> None:
    image = draw_banner(ground(600, 800), text="no face found")
    rows = np.flatnonzero(drawn(image).any(axis=1))
    assert rows.min() > 540 and rows.max() == 599
    assert of_colour(image, (255, 255, 255)).sum() > 100
    assert not np.array_equal(image, draw_banner(ground(600, 800), text="no face fount"))


def test_pixels_of_the_caller_are_left_alone() -> None:
    pixels = ground(600, 800)
    draw_faces(pixels, boxes=[(9, 9, 99, 99)], captions=["fake"], colours=[ORANGE])
    draw_banner(pixels, text="no face found")
    assert (pixels == GROUND).all()


def test_colours_differ_in_lightness() -> None:
    lightness = sorted(np.dot(colour, (0.2126, 0.7152, 0.0722)) for colour in COLOURS.values())
    assert lightness[-1] - lightness[-2] > 40  # fake against all else, even in a grey print
