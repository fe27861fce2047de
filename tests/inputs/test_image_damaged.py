"""Pictures that are none, or no longer whole."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.image import open_image

RGB = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def encoded(image: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "photo.jpg: empty, 0 bytes"),
        (b"hello, this is no picture", 'photo.jpg: looks like text: "hello, this is no picture"'),
        (b"BMW is a maker of cars", 'looks like text: "BMW is'),  # the first letters of a BMP
        (b"<!doctype html><title>404", "looks like an HTML page"),
        (b"%PDF-1.4", "looks like a PDF"),
        (b"\0\0\0\x20ftypmp42" + bytes(40), "looks like an MP4"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "looks like a PostScript file"),
        (bytes(40), "starts with the bytes 00 00 00 00 00 00 00 00"),
        (encoded(RGB, "PNG")[:20], "PNG whose header is damaged or cut off"),
        (encoded(RGB, "JPEG")[:8], "JPEG whose header is damaged or cut off"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageUnreadable, match=found) as caught:
        open_image(path)
    assert "expected a picture: JPEG, PNG" in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_picture_is_refused(form: str, share: float) -> None:
    content = encoded(RGB, form)
    with pytest.raises(ImageUnreadable, match=form if form not in ("WEBP", "AVIF") else "damaged"):
        open_image(content[: int(len(content) * share)])


def test_truncated_picture_is_named_with_its_size(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(RGB, "JPEG")[:-300])
    found = r"photo\.jpg: damaged or truncated JPEG of 40 x 30 pixels \(Premature end of JPEG file\)"
    with pytest.raises(ImageUnreadable, match=found):
        open_image(path)
    with Image.open(path) as image, pytest.raises(ImageUnreadable, match=r"photo\.jpg: damaged or truncated PIL image"):
        open_image(image)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_give_a_picture_or_our_error(form: str) -> None:
    sound = encoded(RGB, form)
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(sound)
        for place in rng.integers(0, min(len(sound), 200), 3):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(ImageUnreadable, ImageTooLarge):
            assert open_image(bytes(damaged), max_pixels=10**6).pixels.shape[2] == 3
