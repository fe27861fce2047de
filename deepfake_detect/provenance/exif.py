"""Describe the origin of a picture by its EXIF: camera, software, dates, place, and the size it was taken at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from deepfake_detect.provenance.blocks import Block
from deepfake_detect.provenance.findings import Findings, MetadataFinding, found_in
from deepfake_detect.provenance.generators import Text, describe_signature
from deepfake_detect.provenance.software import describe_software, find_generator
from deepfake_detect.provenance.tiff_tags import Tags

DESCRIPTION, MAKE, MODEL, SOFTWARE, MODIFIED, ARTIST = 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B
TAKEN, DIGITISED, COMMENT, WIDTH, HEIGHT, LENS = 0x9003, 0x9004, 0x9286, 0xA002, 0xA003, 0xA434
_EXPOSURE = {0x829A: "exposure time", 0x829D: "aperture", 0x8827: "sensitivity", 0x920A: "focal length"}
_MAKER_NOTE = 0x927C
_DATES = {"taken": ("exif", TAKEN), "digitised": ("exif", DIGITISED), "modified": ("0", MODIFIED)}

CLOCK_SLACK: Final = timedelta(hours=26)
"""How far GPS time, which is UTC, may be from local time, with a margin for a clock that is a little wrong."""

_ANYBODY = "that it is true: anybody can write or remove this field"


def exif_texts(tags: Tags, block: Block) -> Iterator[Text]:
    """Yield the fields that generators are known to write texts into."""
    fields = {"ImageDescription": DESCRIPTION, "Make": MAKE, "Model": MODEL}
    for name, number in fields.items():
        if text := tags.text("0", number):
            yield Text(key=name, text=text, block=block)
    if comment := decode_comment(tags.raw("exif", COMMENT)):
        yield Text(key="UserComment", text=comment, block=block)


def decode_comment(raw: bytes) -> str:
    """Return the text of a UserComment, whose first eight bytes name its character set.

    Example:
        >>> decode_comment(b"UNICODE" + bytes(1) + "Steps: 20".encode("utf-16-be"))
        'Steps: 20'
    """
    charset, text = raw[:8], raw[8:]
    if not charset.startswith(b"UNICODE"):
        return (text if charset[:5] in (b"ASCII", bytes(5)) else raw).decode("utf-8", "replace").strip("\0 ")
    little = text[:2] == b"\xff\xfe" or text[:200:2].count(0) < text[1:200:2].count(0)  # zeros stand on the high side
    return text.decode("utf-16-le" if little else "utf-16-be", "replace").strip("\ufeff\0 ")


def describe_exif(tags: Tags, block: Block, *, size_hw: tuple[int, int] | None, show_location: bool) -> Findings:
    """Describe the origin of a picture by a block of EXIF.

    Args:
        tags: The tags of the block.
        block: Where they stand.
        size_hw: Size of the picture as stored, to compare with the size that EXIF names.
        show_location: Give the coordinates, where there are some.
    """
    for problem in dict.fromkeys(tags.problems):
        not_proof = "anything: many programs write damaged EXIF"
        yield found_in(block, "unreadable", f"EXIF with {problem}", not_proof=not_proof)
    yield from describe_signature(description=tags.text("0", DESCRIPTION), artist=tags.text("0", ARTIST), block=block)
    if software := tags.text("0", SOFTWARE):
        yield from describe_software(software, block=block, field="EXIF Software")
    yield from _describe_camera(tags, block)
    yield from _describe_dates(tags, block)
    yield from _describe_size(tags, block, size_hw)
    if tags.directories.get("gps"):
        yield _describe_place(tags, block, show_location=show_location)


def _describe_camera(tags: Tags, block: Block) -> Findings:
    make, model, lens = tags.text("0", MAKE), tags.text("0", MODEL), tags.text("exif", LENS)
    if find_generator(make, is_whole=True):
        yield from describe_software(make, block=block, field="EXIF Make")
        return
    if not (make or model) or '"class_type"' in make + model or '"nodes"' in make + model:
        return
    exposure = [name for number, name in _EXPOSURE.items() if number in tags.directories.get("exif", {})]
    name = " ".join(dict.fromkeys([*make.split(), *model.split()]))
    details = f" with {lens}" if lens else ""
    details += f"; {', '.join(exposure)} recorded" if exposure else ""
    details += "; with the maker's own notes" if _MAKER_NOTE in tags.directories.get("exif", {}) else ""
    what = f"EXIF names the camera {name}{details}"
    yield found_in(block, "camera", what, strength="weak", points_to="captured", value=name, not_proof=_ANYBODY)
    if not exposure:
        what = "EXIF names a camera, but no exposure time, aperture, sensitivity or focal length"
        not_proof = "that the camera is invented: some programs keep only a few fields"
        yield found_in(block, "no-exposure", what, strength="weak", points_to="edited", not_proof=not_proof)


def _describe_dates(tags: Tags, block: Block) -> Findings:
    dates = {name: parse_date(tags.text(*place)) for name, place in _DATES.items()}
    taken, modified, satellite = dates["taken"], dates["modified"], _satellite_time(tags)
    if taken and modified and modified < taken:
        yield _contradiction(block, f"modified {modified}, before it was taken {taken}")
    elif taken and modified and modified - taken > timedelta(days=1):
        what = f"EXIF says that the file was changed {modified}, after it was taken {taken}"
        not_proof = "what was changed: turning or copying a picture sets this date, too"
        yield found_in(block, "changed-later", what, strength="weak", points_to="edited", not_proof=not_proof)
    if taken and satellite and abs(taken - satellite) > CLOCK_SLACK:
        yield _contradiction(block, f"taken {taken} by the camera's clock, {satellite} by GPS")


def _contradiction(block: Block, words: str) -> MetadataFinding:
    not_proof = "that anything was forged: clocks of cameras are often wrong"
    what = f"EXIF dates contradict one another: {words}"
    return found_in(block, "dates", what, strength="weak", points_to="edited", not_proof=not_proof)


def parse_date(text: str) -> datetime | None:
    """Read a date of EXIF; None where it is none."""
    try:
        return datetime.strptime(text[:19], "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _satellite_time(tags: Tags) -> datetime | None:
    day, clock = tags.text("gps", 0x1D), _fractions(tags, 0x07)
    if len(clock) != 3 or not all(0 <= part < 60 for part in clock):
        return None
    hours, minutes, seconds = (int(part) for part in clock)
    return parse_date(f"{day} {hours:02}:{minutes:02}:{seconds:02}")


def _fractions(tags: Tags, number: int) -> list[float]:
    tag = tags.directories.get("gps", {}).get(number)
    pairs = tag.value if tag is not None and isinstance(tag.value, tuple) else ()
    return [pair[0] / pair[1] for pair in pairs if isinstance(pair, tuple) and pair[1]]


def _describe_place(tags: Tags, block: Block, *, show_location: bool) -> MetadataFinding:
    what, value = "GPS data are present", ""
    places = [_fractions(tags, 2), _fractions(tags, 4)]
    if show_location and all(len(place) == 3 for place in places):
        latitude, longitude = (sum(part / 60**power for power, part in enumerate(place)) for place in places)
        value = f"{latitude:.5f} {tags.text('gps', 1)}, {longitude:.5f} {tags.text('gps', 3)}"
        what = f"GPS data: {value}"
    elif not show_location:
        what += "; they are not shown unless show_location is set"
    return found_in(block, "gps", what, value=value, not_proof="that the picture was taken there")


def _describe_size(tags: Tags, block: Block, size_hw: tuple[int, int] | None) -> Findings:
    width, height = tags.number("exif", WIDTH), tags.number("exif", HEIGHT)
    if size_hw is None or not width or not height or sorted((height, width)) == sorted(size_hw):
        return
    what = f"EXIF says {width} x {height} pixels, the picture has {size_hw[1]} x {size_hw[0]}"
    not_proof = "that the content was changed: platforms and mail programs make pictures smaller and keep this field"
    yield found_in(block, "size", what, strength="weak", points_to="edited", not_proof=not_proof)
