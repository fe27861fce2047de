"""What pixels does the caller mean?

One rule for each kind of picture leads to upright 8-bit RGB; the table stands at `open_image`. Pillow
decodes, but only formats that photographs come in: nothing here starts Ghostscript. Whole JPEGs in colour
are decoded by OpenCV, to the same bytes: it lets other threads work meanwhile, but what libjpeg has to say
of a doubtful one goes to stderr. A damaged file is an error, never half a picture.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias, Union, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile
from PIL.Image import Transpose

from deepfake_detect.errors import DeepfakeDetectError, ImageTooLarge, ImageUnreadable
from deepfake_detect.inputs.source import describe_bytes, open_bytes

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
"""What counts as a picture in a folder; a file that is named itself is opened whatever it is called."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM")  # HEIF: pillow-heif's
_EXPECTED = "expected a picture: JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF, JPEG 2000 or PNM"
_END_OF_JPEG = b"\xff\xd9"
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
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
    max_pixels: int = MAX_PIXELS,
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
        max_pixels: Most pixels of the original; checked from the header, before any are decoded.

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
        with _told_as_ours(name, f"PIL image of mode {image.mode}"):
            return _picture(image, name, None, max_pixels)
    if isinstance(image, np.ndarray):
        return _from_array(image, name, max_pixels)
    if _is_tensor(image):
        return _from_array(_channels_last(image, name), name, max_pixels)
    with open_bytes(image, name=name) as file:
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
        return "<data URI>" if text[:5].lower() == "data:" else text if len(text) <= 4096 else f"{text[:60]}..."
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "<bytes>"
    if isinstance(image, np.ndarray):
        return "<array>"
    if _is_tensor(image):
        return "<tensor>"
    kind = "PIL image" if isinstance(image, Image.Image) else "file" if hasattr(image, "read") else type(image).__name__
    own = getattr(image, "filename", None) or getattr(image, "name", None)
    return own if isinstance(own, str) else f"<{kind}>"


def _is_tensor(image: object) -> bool:
    torch = sys.modules.get("torch")  # while it is not imported, nobody can hold a tensor
    return torch is not None and isinstance(image, torch.Tensor)


@contextlib.contextmanager
def _told_as_ours(name: str, what: str) -> Iterator[None]:
    try:
        yield
    except (DeepfakeDetectError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageTooLarge(f"{name}: {error}; make the picture smaller") from error
    except Exception as error:  # decoders answer foreign bytes with a dozen types of exception
        reason = str(error) or type(error).__name__
        raise ImageUnreadable(f"{name}: damaged or truncated {what} ({reason}); get a whole copy of it") from error


def _picture(
    image: Image.Image, name: str, min_side_px: int | None, max_pixels: int, file: BinaryIO | None = None
) -> Picture:
    _check_size(image.width, image.height, name, max_pixels)
    header_hw = image.height, image.width
    if min_side_px is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (max(1, min_side_px),) * 2)
    reduced = (image.height, image.width) != header_hw
    upright: Image.Image | npt.NDArray[np.uint8] | None = _decode_jpeg(image, header_hw, file) if file else None
    if upright is None:
        image.load()
        upright = _to_rgb(image, name)
    orientation = _orientation(image)
    if orientation in _UPRIGHT:
        upright = upright if isinstance(upright, Image.Image) else Image.fromarray(upright)
        upright = upright.transpose(_UPRIGHT[orientation])
    pixels = np.array(upright) if isinstance(upright, Image.Image) else upright
    if not reduced:
        header_hw = pixels.shape[0], pixels.shape[1]
    elif orientation >= 5:
        header_hw = header_hw[::-1]
    return Picture(pixels=pixels, size_hw=header_hw, name=name)


def _decode_jpeg(image: Image.Image, header_hw: tuple[int, int], file: BinaryIO) -> npt.NDArray[np.uint8] | None:
    """Decode as Pillow would, where that is sure: a JPEG in colour, of which nothing is missing."""
    if image.format != "JPEG" or image.mode != "RGB":
        return None
    file.seek(0)
    content = file.read()
    reduced_hw = image.height, image.width
    scale = next((s for s in (1, 2, 4, 8) if reduced_hw == tuple(-(-side // s) for side in header_hw)), None)
    if scale is None or not content.endswith(_END_OF_JPEG):
        return None
    import cv2  # takes as long to import as a picture to open

    smaller = {2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | smaller.get(scale, 0)  # colour counts before grey
    found: Any = cv2.imdecode(np.frombuffer(content, np.uint8), flags)  # None where it cannot
    return found if found is not None and found.shape == (*reduced_hw, 3) else None


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
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


def _from_array(array: npt.NDArray[Any], name: str, max_pixels: int) -> Picture:
    _check_array(array, name)
    height, width = array.shape[:2]
    _check_size(width, height, name, max_pixels)
    if array.ndim == 3 and array.shape[2] == 4:
        return _picture(Image.fromarray(np.ascontiguousarray(array)), name, None, max_pixels)
    rgb = np.broadcast_to(array.reshape(height, width, -1), (height, width, 3))
    return Picture(pixels=np.require(rgb, requirements=["C", "W"]), size_hw=(height, width), name=name)


def _check_array(array: npt.NDArray[Any], name: str) -> None:
    shape = list(array.shape)
    if array.ndim == 3 and shape[2] not in (1, 3, 4) and shape[0] in (1, 3, 4):
        raise ImageUnreadable(f"{name}: shape {shape} has channels first; pass array.transpose(1, 2, 0)")
    if array.ndim == 4:
        raise ImageUnreadable(f"{name}: shape {shape} is a batch of {shape[0]}; pass its pictures one by one")
    if array.size == 0 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageUnreadable(f"{name}: shape {shape}, expected RGB [H, W, 3] or greyscale [H, W]")
    if array.dtype != np.uint8:
        raise ImageUnreadable(f"{name}: {array.dtype} pixels{_range_and_fix(array)}")


def _range_and_fix(array: npt.NDArray[Any]) -> str:
    if array.dtype.kind not in "buif":
        return ", expected uint8 numbers within 0..255"
    low, high = float(array.min()), float(array.max())
    if array.dtype.kind == "u" and high > 255:
        fix = "(array // 257).astype('uint8') if they are 16-bit"
    elif not 0 <= low <= high <= 255:  # NaN as well
        fix = "it scaled to 0..255, as uint8"
    else:
        scaled = "(array * 255)" if array.dtype.kind in "bf" and high <= 1 else "array"
        fix = f"{scaled}.round().astype('uint8')"
    return f" from {low:g} to {high:g}, expected uint8 within 0..255; pass {fix}"


def _channels_last(tensor: Any, name: str) -> npt.NDArray[Any]:
    shape = list(tensor.shape)
    if tensor.ndim == 3 and shape[0] not in (1, 3, 4):
        fix = "; pass tensor.permute(2, 0, 1)" if shape[2] in (1, 3, 4) else ""
        raise ImageUnreadable(f"{name}: shape {shape}, expected channels first [3, H, W]{fix}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point() and tensor.numel():
        low, high = tensor.min().item(), tensor.max().item()
        if not 0 <= low <= high <= 1:  # NaN as well
            fix = "tensor / 255" if 0 <= low <= high <= 255 else "it before mean and std are applied, clamped to 0..1"
            raise ImageUnreadable(f"{name}: floats from {low:g} to {high:g}, expected 0..1; pass {fix}")
        tensor = (tensor.float() * 255).round().byte()
    array: npt.NDArray[Any] = tensor.numpy()
    return np.moveaxis(array, 0, 2) if array.ndim == 3 else array


def _decode(file: BinaryIO, name: str, min_side_px: int | None, max_pixels: int) -> Picture:
    head = file.read(64)
    if not head:
        raise ImageUnreadable(f"{name}: empty, 0 bytes; {_EXPECTED}")
    with _told_as_ours(name, "header"):
        image = _recognise(file, head, name)
    with _told_as_ours(name, f"{image.format} of {image.width} x {image.height} pixels"):
        return _picture(image, name, min_side_px, max_pixels, file)


def _recognise(file: BinaryIO, head: bytes, name: str) -> ImageFile.ImageFile:
    # Image.open() would warn of a pixel limit of its own, and try formats that start other programs.
    Image.preinit()  # the common formats; all others take longer to load than a photograph to open
    chosen = _openers(head)
    if not chosen:
        Image.init()
        chosen = _openers(head)
    found = f"starts with the bytes {head[:8].hex(' ')}"
    for format_name, factory in chosen.items():
        try:
            file.seek(0)
            return factory(file, "")
        except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise
        except Exception as error:
            found = f"{format_name} whose header is damaged or cut off ({error})"
    kind = describe_bytes(head)
    raise ImageUnreadable(f"{name}: {f'looks like {kind}' if kind else found}; {_EXPECTED}")


def _openers(head: bytes) -> dict[str, Callable[..., ImageFile.ImageFile]]:
    """Give what Pillow has at hand for a file that begins so."""
    known = {name: Image.OPEN[name] for name in _FORMATS if name in Image.OPEN}
    return {name: factory for name, (factory, accept) in known.items() if accept and accept(head[:16]) is True}
