"""Pictures by OCR: what is written in them. TIFF may have several pages."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

from fti.pipelines.feature.reading.readers.base import Extracted, SourcesConfig, facts
from fti.pipelines.feature.reading.readers.pages.ocr import Ocr, Recognised, mean_confidence
from fti.pipelines.feature.reading.readers.pages.page_text import (
    joined,
    known_words,
    page_list,
    unwrap_blocks,
)
from fti.pipelines.feature.reading.readers.pages.positions import MAX_PIXELS, Picture
from fti.store.errors import ExtractionError
from fti.store.page_starts import PAGE_STARTS, encode_page_starts
from fti.store.plain_text import clean

#: Suffixes of pictures.
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif")
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF")
_SMALL = 1_500_000  # pixels: a photograph of a screen, whose letters are few pixels high
_PAGE_INCHES = 8.3
_FEW = 24  # pixels a side: no letter is so small
_SIGNATURES = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"RIFF", b"BM", b"GIF8")
_LEAST_BYTES = 26  # of a file that holds a picture: a GIF of one pixel


def read_picture(data: bytes, config: SourcesConfig) -> list[Extracted]:
    """The text in a picture; nothing, with the command that installs it, where OCR is missing.

    Raises:
        ExtractionError: no picture, damaged, or larger than ``ocr.max_pixels``.
    """
    from PIL import Image, UnidentifiedImageError

    # What Pillow's decoders run into on hostile files.
    damage = (
        OSError, ValueError, SyntaxError, TypeError, KeyError, IndexError, AttributeError,
        EOFError, OverflowError, ZeroDivisionError, NotImplementedError, struct.error,
    )  # fmt: skip
    # As an upload that broke off, or a stand-in, leaves it.
    if len(data) < _LEAST_BYTES and data.startswith(_SIGNATURES):
        return [Extracted("", empty_reason="the file is too short to hold a picture")]
    ocr = Ocr(config)
    texts: list[str] = []
    read: list[Recognised] = []
    unread: list[tuple[int, str]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                pages = _pages(image)
                for number in range(min(pages, config.ocr.max_pages)):
                    image.seek(number)
                    _check_size(image, config)
                    if ocr.problem:
                        break
                    if ocr.spent:
                        unread.append((number + 1, ocr.spent))
                        texts.append("")
                        continue
                    picture = _grey(image)
                    try:
                        found = ocr.read(picture) if picture else Recognised()
                    except ExtractionError as error:
                        if pages == 1:
                            raise
                        unread.append((number + 1, error.message))
                        found = Recognised()
                    read.append(found)
                    texts.append(clean(found.text))
        except Image.DecompressionBombError as error:
            raise ExtractionError(f"the picture may be a decompression bomb: {error}") from error
        except UnidentifiedImageError as error:
            raise ExtractionError(
                f"the picture is damaged, or none of {', '.join(_FORMATS)}"
            ) from error
        except damage as error:
            reason = " ".join(str(error).split())[:150] or type(error).__name__
            raise ExtractionError(f"the picture is damaged: {reason}") from error
    if pages > config.ocr.max_pages:
        unread.append((pages, f"OCR reads {config.ocr.max_pages} pages (ocr.max_pages)"))
    if ocr.misconfigured:
        raise ExtractionError(ocr.problem)
    if ocr.problem:
        return [Extracted("", empty_reason=f"a picture; {ocr.problem}")]
    known = known_words(texts)
    text, starts = joined([unwrap_blocks(page, known) for page in texts])
    metadata = facts(
        pages=pages if pages > 1 else "",
        ocr_confidence=mean_confidence(read),
        warnings="; ".join(f"page {n} was not read: {why}" for n, why in unread[:5]),
    )
    if not text.strip():
        reason = unread[0][1] if unread else "OCR found no text in the picture"
        return [Extracted("", metadata=metadata, empty_reason=reason)]
    if pages > 1:
        metadata[PAGE_STARTS] = encode_page_starts(starts)
        metadata |= facts(ocr_pages=page_list(n for n, t in enumerate(texts, 1) if t))
    return [Extracted(text, metadata=metadata)]


def _pages(image: Any) -> int:
    """How many pages: those of a TIFF. The frames of an animation are one picture that moves."""
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def _check_size(image: Any, config: SourcesConfig) -> None:
    width, height = image.size
    if width * height > config.ocr.max_pixels:
        raise ExtractionError(
            f"the picture has {width} x {height} pixels, more than {config.ocr.max_pixels} "
            "(ocr.max_pixels): it may be a decompression bomb"
        )


def _grey(image: Any) -> Picture | None:
    """The picture upright and in grey, of a size at which letters are read; None if too small."""
    from PIL import Image, ImageOps

    width, height = image.size
    if min(width, height) < _FEW:
        return None
    dpi = _dpi(image, width)
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith("I"):  # 16 bits
        image = image.point(lambda value: value / 256).convert("L")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    image = image.convert("L")
    width, height = image.size
    scale = 1.0
    if width * height > MAX_PIXELS:
        scale = (MAX_PIXELS / (width * height)) ** 0.5
    elif width * height < _SMALL and dpi < 200:
        scale = 2.0
    if scale != 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
        dpi = round(dpi * scale)
    return Picture(image.width, image.height, image.tobytes(), min(max(dpi, 70), 1200))


def _dpi(image: Any, width: int) -> int:
    """What the file says; else as if it were as wide as a page."""
    said = image.info.get("dpi")
    try:
        dpi = round(float(said[0]))
    except (TypeError, ValueError, IndexError, OverflowError, ZeroDivisionError):
        dpi = 0
    return dpi if 100 <= dpi <= 1200 else min(max(round(width / _PAGE_INCHES), 70), 600)
