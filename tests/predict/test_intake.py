"""Test that a picture is what it was when it was handed over, whatever becomes of its memory, file or object."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from deepfake_detect import Detector, ImageUnreadable
from deepfake_detect.inputs.image import Picture, open_image
from deepfake_detect.predict.intake import FRESH_S, take_over
from tests.small_world import small_detector

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30), (30, 200, 200), (90, 90, 90)]
TURNED = 6  # EXIF: the camera was held upright


def plain(colour: tuple[int, int, int], *, size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    return np.full((*size_hw, 3), colour, np.uint8)


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(plain(colour)).save(file, "PNG")
    return file.getvalue()


def colour_of(image: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in open_image(image).pixels[5, 5])


def array() -> Iterator[Any]:
    buffer = np.empty((40, 60, 3), np.uint8)
    for colour in COLOURS:
        buffer[:] = colour
        yield buffer


def array_view() -> Iterator[Any]:
    buffer = np.empty((40, 120, 3), np.uint8)
    for colour in COLOURS:
        buffer[:] = colour
        yield buffer[:, ::-2]


def tensor() -> Iterator[Any]:
    buffer = torch.empty(3, 40, 60, dtype=torch.uint8)
    for colour in COLOURS:
        buffer[:] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
        yield buffer


def byte_array() -> Iterator[Any]:
    buffer = bytearray()
    for colour in COLOURS:
        buffer[:] = png(colour)
        yield buffer


def memory_view() -> Iterator[Any]:
    buffer = bytearray(4096)
    for colour in COLOURS:
        content = png(colour)
        buffer[: len(content)] = content
        yield memoryview(buffer)


def memory_file() -> Iterator[Any]:
    file = io.BytesIO()
    for colour in COLOURS:
        file.seek(0)
        file.truncate()
        file.write(png(colour))
        yield file


def repainted() -> Iterator[Any]:
    canvas = Image.new("RGB", (60, 40))
    for colour in COLOURS:
        canvas.paste(colour, (0, 0, 60, 40))
        yield canvas


def picture() -> Iterator[Any]:
    buffer = np.empty((40, 60, 3), np.uint8)
    for colour in COLOURS:
        buffer[:] = colour
        yield Picture(pixels=buffer, size_hw=(40, 60), name="buffer")


def animated() -> Iterator[Any]:
    frames = [Image.fromarray(plain(colour)) for colour in COLOURS]
    file = io.BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    yield from ImageSequence.Iterator(Image.open(file))


def frames_by_seek() -> Iterator[Any]:
    frames = [Image.fromarray(plain(colour)) for colour in COLOURS]
    file = io.BytesIO()
    frames[0].save(file, "TIFF", save_all=True, append_images=frames[1:])
    opened = Image.open(file)
    for number in range(len(COLOURS)):
        opened.seek(number)
        yield opened


def undecoded_on_one_file() -> Iterator[Any]:
    file = io.BytesIO()
    for colour in COLOURS:
        file.seek(0)
        file.write(png(colour))
        yield Image.open(file)


def closed_files(folder: Path) -> Iterator[Any]:
    for number, colour in enumerate(COLOURS):
        path = folder / f"{number}.png"
        path.write_bytes(png(colour))
        with path.open("rb") as file:
            yield file


def closed_pil(folder: Path) -> Iterator[Any]:
    for number, colour in enumerate(COLOURS):
        path = folder / f"{number}.png"
        path.write_bytes(png(colour))
        with Image.open(path) as image:
            yield image


def one_path(folder: Path) -> Iterator[Any]:
    for colour in COLOURS:
        (folder / "frame.png").write_bytes(png(colour))
        yield folder / "frame.png"


def one_path_deleted(folder: Path) -> Iterator[Any]:
    for colour in COLOURS:
        path = folder / "frame.png"
        path.write_bytes(png(colour))
        yield str(path)
        path.unlink()


SOURCES: list[Callable[..., Iterator[Any]]] = [
    *(array, array_view, tensor, byte_array, memory_view, memory_file, repainted, picture, animated),
    *(frames_by_seek, undecoded_on_one_file, closed_files, closed_pil, one_path, one_path_deleted),
]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return small_detector()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("workers", [0, 3])
def test_a_source_may_reuse_what_it_hands_out(
    detector: Detector, source: Callable[..., Iterator[Any]], workers: int, tmp_path: Path
) -> None:
    folder = [tmp_path] if source in (closed_files, closed_pil, one_path, one_path_deleted) else []
    expected = [detector.predict(plain(colour), faces="none").logit for colour in COLOURS]
    assert len(set(expected)) == len(COLOURS)
    predictions = list(detector.predict_many(source(*folder), faces="none", workers=workers, batch_size=4))
    assert [prediction.logit for prediction in predictions] == pytest.approx(expected, abs=1e-5)
    if source not in (one_path, one_path_deleted):  # a prediction keeps the path, and memory stays bounded
        assert [colour_of(prediction.source) for prediction in predictions] == COLOURS


@pytest.mark.parametrize("source", [array, tensor, byte_array, memory_file, repainted, picture, memory_view])
def test_predict_keeps_the_picture_for_plots(detector: Detector, source: Callable[..., Iterator[Any]]) -> None:
    predictions = [detector.predict(image, faces="none") for image in source()]
    assert [colour_of(prediction.source) for prediction in predictions] == COLOURS


def test_one_file_or_image_may_stand_in_a_list_many_times(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(COLOURS[0]))
    file = io.BytesIO(png(COLOURS[0]))
    with Image.open(path) as image:
        images = [file, image] * 20
        predictions = list(detector.predict_many(images, faces="none", workers=4))
    assert len({prediction.logit for prediction in predictions}) <= 2  # of batches of one size or another
    assert {prediction.label for prediction in predictions} <= {"real", "fake"}


def test_pixels_change_after_the_call_but_not_in_the_copy() -> None:
    pixels = plain(COLOURS[0])
    taken = take_over(pixels)
    pixels[:] = 0
    assert colour_of(taken.image) == colour_of(taken.source) == COLOURS[0]
    floats = torch.full((3, 4, 4), 0.5, requires_grad=True)
    taken = take_over(floats)
    with torch.no_grad():
        floats.zero_()
    assert float(taken.image.max()) == 0.5 and not taken.image.requires_grad


def test_an_undecoded_image_is_read_and_not_decoded(tmp_path: Path) -> None:
    Image.fromarray(plain(COLOURS[1])).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        taken = take_over(image)
        assert image.tile, "decoding is the work of the threads"
        assert taken.name == str(tmp_path / "a.png")
        assert colour_of(taken.image) == colour_of(taken.source) == COLOURS[1]
        assert colour_of(image) == COLOURS[1]  # it is of use to the caller as before


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("changed", [None, 1, 3])
def test_the_orientation_counts_as_stored_or_as_the_caller_changed_it(opened: bool, changed: int | None) -> None:
    exif = Image.Exif()
    exif[0x112] = TURNED
    file = io.BytesIO()
    Image.fromarray(plain(COLOURS[0])).save(file, "JPEG", exif=exif)
    with Image.open(file) as image:
        if opened:
            image.load()
        if changed is not None:
            image.getexif()[0x112] = changed
        expected = open_image(image.copy() if changed is None else image)
        with Image.open(file) as another:
            if opened:
                another.load()
            if changed is not None:
                another.getexif()[0x112] = changed
            taken = open_image(take_over(another).image)
    assert taken.size_hw == expected.size_hw == ((60, 40) if changed is None else (40, 60))
    assert np.array_equal(taken.pixels, expected.pixels)


def test_a_reduced_draft_is_kept() -> None:
    file = io.BytesIO()
    Image.fromarray(plain(COLOURS[2], size_hw=(400, 640))).save(file, "JPEG")
    with Image.open(file) as image:
        image.draft("RGB", (160, 100))
        assert open_image(take_over(image).image).pixels.shape[:2] == (100, 160)


@pytest.mark.parametrize("size", [(40, 60), (40, 60, 4), (40, 60, 1)])
def test_every_kind_of_array_is_copied(size: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    assert np.array_equal(open_image(take_over(pixels).image).pixels, open_image(pixels).pixels)


def test_old_files_are_left_to_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(COLOURS[0]))
    assert isinstance(take_over(path, read_fresh=True).image, io.BytesIO)
    assert take_over(path, read_fresh=True).source == path
    assert take_over(path).image == path
    later = time.time() + FRESH_S + 1
    monkeypatch.setattr("deepfake_detect.predict.intake.time.time", lambda: later)
    assert take_over(path, read_fresh=True).image == path
    old = os.stat(__file__)
    (tmp_path / "latest").symlink_to(tmp_path, target_is_directory=True)
    with monkeypatch.context() as context:
        context.setattr("deepfake_detect.predict.intake.time.time", lambda: old.st_ctime + FRESH_S + 1)
        context.setattr("deepfake_detect.predict.intake._stat", lambda _: old)
        assert take_over(path, read_fresh=True).image == path
        assert isinstance(take_over(tmp_path / "latest/a.png", read_fresh=True).image, io.BytesIO)  # a new link
    for address in ("http://localhost/a.png", "data:image/png;base64,AAAA", "missing.png", "a\0b"):
        assert take_over(address, read_fresh=True).image == address


class Broken:
    """A file object that fails in a way of its own."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self) -> bytes:
        raise self.error


class Nameless:
    @property
    def name(self) -> str:
        raise RuntimeError("no name")

    def read(self) -> bytes:
        return png(COLOURS[0])


def closed_file() -> io.BytesIO:
    file = io.BytesIO(png(COLOURS[0]))
    file.close()
    return file


def closed_image() -> Image.Image:
    file = io.BytesIO(png(COLOURS[0]))
    with Image.open(file) as image:
        file.close()
    return image


ODD: list[Callable[[], Any]] = [
    closed_file,
    closed_image,
    lambda: Broken(ValueError("I/O operation on closed file")),
    lambda: Broken(RuntimeError("driver")),
    lambda: Broken(OSError("gone")),
    lambda: "http://[::1/x",
    lambda: "https://exa mple.org:port/x",
    lambda: np.matrix([[1, 2], [3, 4]]),
    lambda: np.array([object(), None]),
    lambda: np.zeros((0, 0, 3), np.uint8),
    lambda: np.ma.masked_array(np.zeros((4, 4, 3)), mask=True),
    lambda: np.zeros((4, 4, 3), np.complex64),
    lambda: np.zeros((4, 4), "datetime64[s]"),
    lambda: torch.zeros(3, 4, 4, device="meta"),
    lambda: torch.zeros(3, 4, 4).to_sparse(),
    lambda: torch.zeros(3, 4, 4, dtype=torch.complex64),
    lambda: torch.full((3, 4, 4), float("nan")),
    lambda: None,
    lambda: 7,
    lambda: {"bytes": None},
    lambda: [1, 2],
    lambda: "",
    lambda: "a\0b.jpg",
    lambda: b"",
    object,
]


@pytest.mark.parametrize("make", ODD)
@pytest.mark.filterwarnings("ignore:Sparse.*:UserWarning", "ignore:the matrix subclass:PendingDeprecationWarning")
def test_an_odd_picture_harms_no_other(detector: Detector, make: Callable[[], Any]) -> None:
    good = plain(COLOURS[0])
    for workers in (0, 2):
        images = (image for image in (good, make(), good))
        predictions = list(detector.predict_many(images, faces="none", on_error="yield", workers=workers))
        assert [prediction.label == "error" for prediction in predictions] == [False, True, False]
        assert isinstance(predictions[1].error, ImageUnreadable), predictions[1].error
    with pytest.raises(ImageUnreadable):
        detector.look(make())


def test_a_file_without_a_name_is_read(detector: Detector) -> None:
    assert detector.predict(Nameless(), faces="none").name == "<Nameless>"


def test_the_caller_s_files_stay_open_and_pillow_s_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(COLOURS[0]))
    with path.open("rb") as file:
        take_over(file)
        assert not file.closed
        image = Image.open(file)
        take_over(image)
        assert not file.closed
    take_over(Image.open(path))  # a file that stays open would be a ResourceWarning, and so an error here
