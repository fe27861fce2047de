"""Read one picture, whatever it is given as, to upright 8-bit RGB.

One rule for each kind of picture leads there; the table stands at `open_image`. A damaged file is an error, never half
a picture.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias, Union, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile

from deepfake_detect.errors import ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.arrays import check_array, is_tensor, tensor_to_array
from deepfake_detect.inputs.decoding import decode
from deepfake_detect.inputs.download import hide_credentials
from deepfake_detect.inputs.formats import EXPECTED, named_errors, open_file
from deepfake_detect.inputs.source import open_bytes

if TYPE_CHECKING:
    import torch

MAX_PIXELS: Final = 200_000_000
"""Most pixels that a picture may have, unless the caller says otherwise."""

PICTURE_SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".avif", ".heic", ".heif", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
    )
)
"""Endings of the files in a folder that count as pictures; a file that is passed itself may have any ending."""

_WITHOUT_PIXELS = (str, os.PathLike, bytes, bytearray, memoryview)

MAX_PIXELS_DECODED_IN_FULL: Final = 100_000_000
"""Most pixels of a picture that cannot be decoded at a reduced scale, as a JPEG can: 7 bytes of memory each."""

_REDUCIBLE = ("JPEG", "MPO")  # decoded at a reduced scale where a smaller picture will do
_STRIP_PIXELS = 2**22  # converted to RGB at once, so that memory holds no second copy of a large picture

_UPRIGHT: Final[dict[int, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]]] = {  # EXIF orientation
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """Pixels as a person would see them, and where they came from.

    Attributes:
        pixels: [H, W, 3] uint8 RGB, upright, contiguous.
        size_hw: Upright size of the original in pixels; larger than ``pixels`` where a JPEG was decoded reduced.
        name: Path, URL, or a word such as ``"<bytes>"``, for messages.
    """

    pixels: npt.NDArray[np.uint8]
    size_hw: tuple[int, int]
    name: str

    @property
    def scale(self) -> float:
        """Height of the pixels as a share of the original's: 1.0 unless decoded reduced."""
        return len(self.pixels) / self.size_hw[0]


@runtime_checkable
class Lazy(Protocol):
    """A picture that is somewhere else until it is asked for: a frame of a video, an item of a data set."""

    @property
    def name(self) -> str:
        """Say where, for messages."""

    def open_picture(self) -> Picture:
        """Decode it."""


class BinaryReader(Protocol):
    """A file object, opened in binary mode."""

    def read(self) -> bytes:
        """Return all bytes that are left."""


ImageInput: TypeAlias = Union[  # "|" does not take a name in quotes
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BinaryReader,
    Image.Image,
    npt.NDArray[Any],
    "torch.Tensor",
    Picture,
    Lazy,
]
"""What may stand for a picture: path, http(s) URL, data URI, bytes, binary file, PIL image, array or tensor."""


def open_image(
    image: ImageInput | None,
    *,
    min_side_px: int | None = None,
    max_pixels: int | None = None,
    public_only: bool = False,
) -> Picture:
    """Read one picture, whatever it is given as.

    ======================  ==========================================================================
    In the input            In the pixels
    ======================  ==========================================================================
    EXIF orientation        applied (a damaged EXIF block counts as none)
    greyscale, bilevel      repeated three times
    16 bits per channel     greyscale divided by 257, rounded; of colour, Pillow gives the high byte
    32-bit integers         read as 16-bit values; refused where any lies outside 0..65535
    32-bit floats, Lab      refused: there is no agreed range, or no agreed way to RGB
    palette                 looked up, transparency included
    alpha                   composited over white, as a page would show it
    CMYK, YCCK              Pillow's plain conversion, Adobe's inverted JPEGs included
    ICC profile             ignored: the stored values are what the weights were trained on
    GIF, WebP, APNG, MPO    first frame (of an opened PIL image: the frame it stands at)
    array                   uint8 RGB [H, W, 3]; also [H, W], [H, W, 1] greyscale and [H, W, 4] RGBA
    tensor                  the same with channels first; uint8, or floats within 0..1
    ======================  ==========================================================================

    Args:
        image: Path, http(s) URL, data URI, bytes, binary file, PIL image, array or tensor. A file is read from
            its start where it can seek. A `Picture` comes back as it is, and what is `Lazy` opens itself.
        min_side_px: A JPEG may be decoded at 1/2, 1/4 or 1/8, as long as its shorter side keeps this many
            pixels; None decodes in full. Nothing is ever enlarged.
        max_pixels: Most pixels of the original; checked from the header, before any are decoded. None allows
            `MAX_PIXELS`, but of files of other formats than JPEG `MAX_PIXELS_DECODED_IN_FULL`.
        public_only: Of URLs, open only those with a public address, for servers that open addresses of strangers.

    Returns:
        The picture, upright.

    Raises:
        ImageUnreadable: Not there, not a picture, or a damaged or truncated one.
        ImageTooLarge: More pixels than ``max_pixels``, or more than 64 MB behind a URL.

    Example:
        >>> import numpy as np
        >>> open_image(np.zeros((48, 64, 3), np.uint8)).size_hw
        (48, 64)
    """
    if isinstance(image, Picture):
        return image
    if isinstance(image, Lazy):
        return image.open_picture()
    name = name_image(image)
    if isinstance(image, Image.Image):
        return _from_pil(image, name, max_pixels)
    if isinstance(image, np.ndarray):
        return _from_array(image, name, max_pixels)
    if not isinstance(image, _WITHOUT_PIXELS) and is_tensor(image):
        return _from_array(tensor_to_array(image, name), name, max_pixels)
    with open_bytes(image, name=name, public_only=public_only) as file:
        return _decode(file, name, min_side_px, max_pixels)


def name_image(image: object) -> str:
    """Give a short name for messages and tables, without reading anything.

    Example:
        >>> name_image(b"...")
        '<bytes>'
    """
    if isinstance(image, Picture):
        return image.name
    if isinstance(image, (str, os.PathLike)):
        text = os.fsdecode(image)
        if text[:5].lower() == "data:":
            return "<data URI>"
        text = hide_credentials(text) if "://" in text[:10] else text
        return text if len(text) <= 4096 else f"{text[:60]}..."
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(image, np.ndarray):
        return "<array>"
    if is_tensor(image):
        return "<tensor>"
    kind = "PIL image" if isinstance(image, Image.Image) else "file" if hasattr(image, "read") else type(image).__name__
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return name if isinstance(name, str) else f"<{kind}>"


def _from_pil(image: Image.Image, name: str, max_pixels: int | None) -> Picture:
    is_open = isinstance(image, ImageFile.ImageFile) and bool(image.tile)
    _check_size(image.width, image.height, name, max_pixels, in_full=is_open and image.format not in _REDUCIBLE)
    with named_errors(name, f"PIL image of mode {image.mode}"):
        loaded = _decode_anew(image)
        if loaded is None:
            image.load()
        return _picture(image, image if loaded is None else loaded, (image.height, image.width), name)


def _decode_anew(image: Image.Image) -> Image.Image | npt.NDArray[np.uint8] | None:
    """Decode the file of a PIL image that is not loaded yet: what Pillow makes of it depends on the host's settings."""
    file = getattr(image, "fp", None)
    if not isinstance(image, ImageFile.ImageFile) or file is None or not image.tile or image.tell():
        return None
    place = file.tell()
    try:
        file.seek(0)
        content = io.BytesIO(file.read())
    finally:
        file.seek(place)
    opened: Any = open_file(content, content.getvalue()[:64], "")
    same = (opened.size, getattr(opened, "mode", "")) == (image.size, image.mode)  # else the caller asked for a draft
    return decode(opened, content) if same else None


def _decode(file: BinaryIO, name: str, min_side_px: int | None, max_pixels: int | None) -> Picture:
    head = file.read(64)
    if not head:
        raise ImageUnreadable(f"{name}: empty, 0 bytes; {EXPECTED}")
    with named_errors(name, "header"):
        image = open_file(file, head, name)
    width, height = image.size
    _check_size(width, height, name, max_pixels, in_full=getattr(image, "format", "HEIC") not in _REDUCIBLE)
    with named_errors(name, f"{getattr(image, 'format', 'HEIC')} of {width} x {height} pixels"):
        if not isinstance(image, ImageFile.ImageFile):
            return _picture(image := image.to_pillow(), image, (height, width), name)
        if min_side_px is not None and image.format in _REDUCIBLE:
            image.draft(None, (max(1, min_side_px),) * 2)
        return _picture(image, decode(image, file), (height, width), name)


def _picture(
    image: Image.Image, loaded: Image.Image | npt.NDArray[np.uint8], header_hw: tuple[int, int], name: str
) -> Picture:
    """Make an upright picture of what was decoded.

    Args:
        image: As it was opened: knows the orientation.
        loaded: The same, decoded; or its pixels [H, W, 3].
        header_hw: Size before anything was reduced or turned.
        name: For messages.
    """
    pixels = _rgb_pixels(loaded, name) if isinstance(loaded, Image.Image) else loaded
    reduced = (image.height, image.width) != header_hw
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        pixels = np.ascontiguousarray(_UPRIGHT[orientation](pixels))
    if not reduced:
        header_hw = pixels.shape[0], pixels.shape[1]
    elif orientation >= 5:
        header_hw = header_hw[::-1]
    return Picture(pixels=pixels, size_hw=header_hw, name=name)


def _check_size(width: int, height: int, name: str, max_pixels: int | None, *, in_full: bool = False) -> None:
    if max_pixels is None:
        max_pixels = MAX_PIXELS_DECODED_IN_FULL if in_full else MAX_PIXELS
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"{name}: {width:,} x {height:,} is {width * height:,} pixels, the limit is {max_pixels:,}; "
            "make the picture smaller, or raise max_pixels"
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata beside sound pixels, in as many ways as decoders fail
        return 1


def _rgb_pixels(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    """Convert a picture strip by strip; [H, W, 3]."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, rows):
        bottom = min(image.height, top + rows)
        strip = image if rows >= image.height else image.crop((0, top, image.width, bottom))
        pixels[top:bottom] = np.asarray(_to_rgb(strip, name))
    return pixels


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in ("F", "LAB"):
        raise ImageUnreadable(f"{name}: pixels of mode {image.mode} have no agreed way to RGB; save it as 8-bit RGB")
    if image.mode.startswith("I"):
        image = Image.fromarray(_from_16_bits(np.asarray(image), name))
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def _from_16_bits(values: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageUnreadable(f"{name}: integer pixels from {low} to {high}, expected 0..65535; save it as 8-bit RGB")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _from_array(array: npt.NDArray[Any], name: str, max_pixels: int | None) -> Picture:
    check_array(array, name)
    array = np.asarray(array)  # np.matrix has two dimensions, whatever is asked of it
    height, width = array.shape[:2]
    _check_size(width, height, name, max_pixels)
    if array.ndim == 3 and array.shape[2] == 4:
        return _from_pil(Image.fromarray(np.ascontiguousarray(array)), name, max_pixels)
    rgb = np.broadcast_to(array.reshape(height, width, -1), (height, width, 3))
    return Picture(pixels=np.require(rgb, requirements=["C", "W"]), size_hw=(height, width), name=name)
