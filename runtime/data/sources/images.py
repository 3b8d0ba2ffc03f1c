"""Folders of images."""

from __future__ import annotations

import io
import posixpath
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ....compiler.spec.diagnostics import suggest
from ....compiler.spec.kinds import Positive, Word
from ....compiler.spec.registry import SOURCES
from ....compiler.structs import Struct
from ..table import Array, Column, DataError, Table, make_table
from .files import Files, open_files
from .folders import layout, name_column

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
WHITE = (255, 255, 255, 255)

Fit = Literal["stretch", "crop", "pad"]
Mode = Literal["rgb", "gray"]


@SOURCES.register
def images(
    target: str,
    folder: Path,
    *,
    size: list[Positive] | Positive | None = None,
    fit: Fit = "stretch",
    mode: Mode = "rgb",
    masks: Word | None = None,
) -> Table | dict[str, Table]:
    """The images of a folder or an archive, or one image, as numbers from 0 to 255.

    The columns are `image` [channels, height, width], `file` (the path in the folder) and, where
    images lie in sub-folders, `label` (the sub-folder's name). Sub-folders called `train`, `valid`
    (or `val`) and `test` are the splits. Read are .png, .jpg, .jpeg, .bmp, .gif (its first frame),
    .webp, .tif and .tiff. Images are turned as their cameras noted; what is transparent is laid on
    white; 16 bits become 8.

    size: height and width, or one number for both, to which images are resized with antialiasing;
      needed where they differ.
    fit: whether an image of another shape is stretched, cropped around its middle, or padded with black.
    mode: whether images have the three channels red, green and blue, or one of gray.
    masks: a folder beside the one with the images, which has, under the same path but for the ending,
      an image of whole numbers for each of them; they are the column `mask` [height, width], resized
      to the nearest pixel and padded with 0.
    Example: source: images:flowers
    """
    _need_pillow()
    path = folder / target
    with ExitStack() as stack:
        files = stack.enter_context(open_files(path))
        names = files.names if files.single else files.ending_in(ENDINGS)
        if not names:
            raise DataError(f"`{path}` has no images: no file there ends in {', '.join(ENDINGS)}")
        found = layout(names, path)
        reader = _Reader(files, _shape(size), fit, mode)
        columns = {"image": _stacked(names, reader.image, path)}
        if masks is not None:
            beside = stack.enter_context(open_files(files.place.absolute().parent / masks))
            columns["mask"] = _stacked(names, partial(reader.mask, masks=beside, found=_by_stem(beside)), path)
    columns["file"] = name_column(names)
    return found.tables(make_table(columns, path.name))


def _need_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError:
        raise DataError("`images:` needs Pillow: pip install 'trine[images]'") from None


def _shape(size: list[int] | int | None) -> tuple[int, int] | None:
    """Height and width."""
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    if len(size) != 2:
        raise DataError(f"`size` is one number or two, height and width; found {len(size)}")
    return size[0], size[1]


def _stacked(names: Sequence[str], read: Callable[[str], Array], path: Path) -> Column:
    """What `read` makes of each file, as one column; raises `DataError` where shapes differ."""
    first = read(names[0])
    try:
        values = np.empty((len(names), *first.shape), first.dtype)
    except (MemoryError, ValueError):
        raise DataError(
            f"`{path}`: {len(names)} images of {_measure(first)} do not fit in memory; set a smaller `size`"
        ) from None
    values[0] = first
    for row, name in enumerate(names[1:], 1):
        value = read(name)
        if value.shape != first.shape:
            raise DataError(
                f"`{path}`: `{names[0]}` is {_measure(first)} and `{name}` {_measure(value)} (height × width); "
                "set `size: [height, width]`"
            )
        values[row] = value
    return Column(values, np.zeros(len(names), np.bool_))


def _measure(pixels: Array) -> str:
    return " × ".join(map(str, pixels.shape[-2:]))


# --------------------------------------------------------------------------------------- one file


class _Reader(Struct):
    """Files as arrays of pixels, and the heights and widths that images had before they were resized."""

    files: Files
    shape: tuple[int, int] | None
    fit: Fit
    mode: Mode
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)

    def image(self, name: str) -> Array:
        """The pixels [channels, height, width] of an image."""
        place = f"`{self.files.place / name}`"
        with _opened(self.files, name, place) as file:
            image = _plain(file, self.mode, place)
            self.sizes[name] = image.height, image.width
            pixels = np.asarray(self._resized(image, smooth=True))
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def mask(self, name: str, masks: Files, found: Mapping[str, str]) -> Array:
        """The numbers [height, width] of the mask of the image `name`."""
        from PIL import Image

        stem = posixpath.splitext(name)[0]
        if stem not in found:
            near = suggest(stem, found)
            raise DataError(
                f"`{masks.place}` has no mask for `{name}`: expected `{stem}.png`{f'; {near}' if near else ''}"
            )
        place = f"`{masks.place / found[stem]}`"
        with _opened(masks, found[stem], place) as file:
            values = _whole(file, place)
            if values.shape != self.sizes[name]:
                own, image = (" × ".join(map(str, size)) for size in (values.shape, self.sizes[name]))
                raise DataError(f"{place} is {own}, its image `{name}` {image} (height × width); they must be equal")
            return np.asarray(self._resized(Image.fromarray(values), smooth=False)).astype(np.int64)

    def _resized(self, image: Image, smooth: bool) -> Image:
        from PIL import ImageOps
        from PIL.Image import Resampling

        if self.shape is None or self.shape == (image.height, image.width):
            return image
        how, size = Resampling.BILINEAR if smooth else Resampling.NEAREST, (self.shape[1], self.shape[0])
        match self.fit:
            case "stretch":
                return image.resize(size, how)
            case "crop":
                return ImageOps.fit(image, size, how)
            case "pad":
                return ImageOps.pad(image, size, how, color=0)


@contextmanager
def _opened(files: Files, name: str, place: str) -> Iterator[Image]:
    """An image of one of the known formats; raises `DataError` for what is too large, broken or no image."""
    from PIL import Image, UnidentifiedImageError

    content = files.read(name)
    try:
        with warnings.catch_warnings():
            # Pillow warns of what it can mend, and of images that are suspiciously large.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                yield image
    except DataError:
        raise
    except MemoryError:
        raise DataError(f"{place} does not fit in memory; set a smaller `size`") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise DataError(f"{place} has more than {Image.MAX_IMAGE_PIXELS} pixels, the most that is read") from None
    except UnidentifiedImageError:
        raise DataError(f"{place} is no image, or none of {', '.join(FORMATS)}") from None
    except Exception as error:  # what decoders raise for damaged files is no part of Pillow's interface
        raise DataError(f"{place} is not a complete image: {error}") from None


def _plain(image: Image, mode: Mode, place: str) -> Image:
    """An image upright, opaque, and of 8 bits."""
    from PIL import Image as pillow
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # PNG has no more than 16 bits; 65535 becomes 255.
        upright = pillow.fromarray(((np.asarray(upright).astype(np.int64) + 128) // 257).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise DataError(f"{place} has pixels of 32 bits, whose scale is not known; save it with 8 or 16 bits")
    elif "A" in image.getbands() or "transparency" in image.info:
        white = pillow.new("RGBA", upright.size, WHITE)
        upright = pillow.alpha_composite(white, upright.convert("RGBA"))
    return upright.convert("L" if mode == "gray" else "RGB")


def _whole(image: Image, place: str) -> Array:
    """The number of each pixel of a mask: its level, or its index in the palette."""
    from PIL import ImageOps

    values = np.asarray(ImageOps.exif_transpose(image))
    if values.ndim != 2 or values.dtype.kind == "f":
        raise DataError(
            f"{place} has pixels of the mode {image.mode}; a mask has one whole number for each, as a PNG of gray "
            "levels or with a palette"
        )
    return values.astype(np.int32)


def _by_stem(masks: Files) -> dict[str, str]:
    """The masks by their names without endings."""
    found: dict[str, str] = {}
    for name in masks.ending_in(ENDINGS):
        stem = posixpath.splitext(name)[0]
        if stem in found:
            raise DataError(f"`{masks.place}` has two masks for one image: `{found[stem]}` and `{name}`")
        found[stem] = name
    return found
