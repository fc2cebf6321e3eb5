"""The one place where picture files are opened: formats from a list, sizes compared with limits before decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from media.limits import LIMITS, MediaLimits
from media.source import MediaError, NotMedia, identify

# Pillow's names; JPEG includes MPO. Its other formats are not needed, and one of them, EPS, runs a program.
PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "PPM")
# Brands of HEIC, the photos of phones; a file names one of them, and may name a general one (mif1) first. Pillow reads
# them with the plugin of pillow-heif.
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_STRIP = 256  # rows converted at a time, so that a large picture is in memory only once more

# Pillow warns from 89 megapixels on; the limit below is lower and is an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class PictureInfo:
    """Properties of a picture file.

    Attributes:
        width: Width upright, pixels.
        height: Height upright, pixels.
        format: Pillow's name of the format.
    """

    width: int
    height: int
    format: str


def read_picture(path: str | Path, limits: MediaLimits = LIMITS) -> np.ndarray:
    """Reads a picture, applies its EXIF orientation and puts transparent parts on white.

    Args:
        path: PNG, JPEG, WebP, AVIF, BMP, GIF, TIFF or PPM file, or HEIC with pillow-heif; the content decides, not the
            name.
        limits: Limits on its bytes and pixels.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        NotMedia: If the file is not such a picture.
        MediaError: If it is missing, damaged, or exceeds a limit.
    """
    with opened_picture(path, limits) as image:
        return _rgb(image)


def probe_picture(path: str | Path, limits: MediaLimits = LIMITS) -> PictureInfo:
    """Decodes a picture and returns its properties; arguments and errors are those of ``read_picture``."""
    with opened_picture(path, limits) as image:
        kind = str(image.format)
        height, width, _ = _rgb(image).shape
        return PictureInfo(width, height, kind)


@contextmanager
def opened_picture(path: str | Path, limits: MediaLimits = LIMITS) -> Iterator[Image.Image]:
    """Opens a picture with Pillow. Errors inside the block become errors of the file.

    Raises:
        MediaError: As of ``read_picture``.
    """
    path, size, _ = identify(path, "a picture")
    if size > limits.picture_bytes:
        raise MediaError(f"{path}: has {size} bytes, a picture may have {limits.picture_bytes}; make it smaller")
    formats = (*PICTURE_FORMATS, *_heic(path))
    Image.init()  # otherwise a format that this build of Pillow lacks is an error
    try:
        with Image.open(path, formats=[name for name in formats if name in Image.OPEN]) as image:
            if image.width * image.height > limits.pixels:
                raise MediaError(
                    f"{path}: has {image.width}x{image.height} pixels, more than {limits.pixels / 1e6:.0f} megapixels; "
                    "make it smaller"
                )
            yield image
    except UnidentifiedImageError:
        if "HEIF" in formats:
            raise MediaError(f"{path}: is a HEIC picture that is damaged; fetch or copy it again") from None
        raise NotMedia(f"{path}: is not a picture; expected PNG, JPEG or WebP") from None
    except Image.DecompressionBombError:
        raise MediaError(f"{path}: has more than {limits.pixels / 1e6:.0f} megapixels; make it smaller") from None
    except MediaError:
        raise
    # Pillow's plugins raise errors of many types for damaged files.
    except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        raise MediaError(f"{path}: cannot be read as a picture ({error}); fetch or copy it again") from error
    except MemoryError as error:
        raise MediaError(f"{path}: needs more memory than there is to be read; make it smaller") from error


def _heic(path: Path) -> tuple[str, ...]:
    """Pillow's name of HEIC if a file is one.

    Raises:
        MediaError: If it is one, and pillow-heif is not installed.
    """
    with path.open("rb") as file:
        head = file.read(256)
    brands = head[8 : min(len(head), int.from_bytes(head[:4], "big"))]
    if head[4:8] != b"ftyp" or not any(brands[place : place + 4] in _HEIC for place in range(0, len(brands), 4)):
        return ()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise MediaError(
            f"{path}: is a HEIC picture, which needs pillow-heif (pip install '.[heic]'); or save it as JPEG"
        ) from None
    register_heif_opener(thumbnails=False)
    return ("HEIF",)


def _rgb(image: Image.Image) -> np.ndarray:
    """Turns a picture upright and converts it to (H, W, 3) uint8 RGB, a strip at a time."""
    ImageOps.exif_transpose(image, in_place=True)
    picture = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP):
        box = (0, top, image.width, min(top + _STRIP, image.height))
        picture[top : box[3]] = np.asarray(_in_rgb(image.crop(box)))
    return picture


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
