"""Pictures of pages to text, by Debian's ``tesseract`` in a process of its own.

It is given grey pixels on its standard input, drawn or decoded here, and gives back its words with
their places. No file is named to it, no shell is asked, and it has a limit of time for each page.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fti.pipelines.feature.reading.readers.base import WALL_FACTOR, OcrConfig, SourcesConfig
from fti.pipelines.feature.reading.readers.pages.positions import Picture
from fti.store.errors import ExtractionError

#: What a person types where it is missing.
INSTALL = "sudo apt-get install tesseract-ocr"
_DOUBTFUL = 60  # of 100: the page may lie on its side
_NOISE = 35  # what a photograph without any writing gives
_ASKING_S = 30.0
# Of what a document may take by the clock and in processor time: the rest is for all else.
_WALL_SHARE = 0.7
_PROCESSOR_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Recognised:
    """What stands in a picture.

    Args:
        text: lines, with a blank line between blocks; empty when there is none.
        confidence: mean of the words', of 100.
        words: how many there are.
    """

    text: str = ""
    confidence: float = 0.0
    words: int = 0


def is_installed() -> bool:
    """Whether there is a tesseract on this machine."""
    return shutil.which("tesseract") is not None


@functools.lru_cache(maxsize=4)
def _installed_languages(program: str) -> tuple[str, ...]:
    done = subprocess.run(
        [program, "--list-langs"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # older versions say them there
        timeout=_ASKING_S,
        check=False,
    )
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    return tuple(line.strip() for line in lines[1:] if line.strip() and " " not in line.strip())


class Ocr:
    """Reads the pages of one document, so many and so long as it may.

    Args:
        config: of the sources.

    Attributes:
        problem: why nothing can be read by it, with what to do; empty when it can.
        misconfigured: whether that is for a setting, not because OCR is missing or off.
    """

    def __init__(self, config: SourcesConfig) -> None:
        self._config: OcrConfig = config.ocr
        self._pages = 0
        self._wall = time.monotonic() + _WALL_SHARE * WALL_FACTOR * config.timeout_s
        self._processor = time.process_time() + _PROCESSOR_SHARE * config.timeout_s
        self._languages: tuple[str, ...] = ()
        self._program = ""
        self.misconfigured = False
        self.problem = self._prepare()

    def _prepare(self) -> str:
        if not self._config.enabled:
            return "OCR is off (features.sources.ocr.enabled)"
        program = shutil.which("tesseract")
        if program is None:
            return f"OCR reads such pages where tesseract is installed: {INSTALL}"
        self._program = program
        try:
            self._languages = _installed_languages(program)
        except (OSError, subprocess.SubprocessError) as error:
            return f"{program} does not say which languages it has: {error}"
        asked = self._config.languages.split("+")
        missing = [name for name in asked if name not in self._languages]
        if missing:
            self.misconfigured = True
            there = ", ".join(n for n in self._languages if n != "osd") or "none"
            name = missing[0].replace("_", "-").lower().replace("script/", "script-")
            return (
                f"tesseract has no language {missing[0]!r} (features.sources.ocr.languages); "
                f"installed are: {there}. Install it: {INSTALL}-{name}"
            )
        return ""

    @property
    def spent(self) -> str:
        """Why no more pages of this document are read; empty while there may be more."""
        if self._pages >= self._config.max_pages:
            return f"OCR reads {self._config.max_pages} pages of a document (ocr.max_pages)"
        if time.monotonic() > self._wall or time.process_time() > self._processor:
            return "OCR of the pages before took all the time that a document has (timeout_s)"
        return ""

    def read(self, picture: Picture) -> Recognised:
        """The text of a picture; a page that lies on its side is turned.

        Raises:
            ExtractionError: it takes too long, or tesseract fails on it.
        """
        self._pages += 1
        if picture.blank:
            return Recognised()
        found = self._ask(picture, layout=3)
        if found.confidence < _DOUBTFUL and "osd" in self._languages:
            try:
                turned = self._ask(picture, layout=1)
            except ExtractionError:  # it cannot tell which way is up: there is too little text
                turned = found
            # A few sure words of a page read the wrong way do not outweigh many.
            found = max(found, turned, key=lambda r: r.confidence * min(r.words, 2 * found.words))
        return found if found.confidence >= _NOISE else Recognised(confidence=found.confidence)

    def _ask(self, picture: Picture, *, layout: int) -> Recognised:
        config = self._config
        command = [
            self._program, "stdin", "stdout", "--dpi", str(picture.dpi), "-l", config.languages,
            "--psm", str(layout), "tsv",
        ]  # fmt: skip
        header = f"P5\n{picture.width} {picture.height}\n255\n".encode("ascii")
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # One thread a page: with several they wait for one another.
                env={**os.environ, "OMP_THREAD_LIMIT": "1"},
            )
        except OSError as error:
            raise ExtractionError(f"{self._program} does not start: {error}") from error
        with process:
            _limit(process, config.page_timeout_s)
            try:
                out, said = process.communicate(
                    header + picture.pixels, timeout=WALL_FACTOR * config.page_timeout_s
                )
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise _too_slow(config) from None
        if process.returncode == -24:  # SIGXCPU
            raise _too_slow(config)
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no reason"]
            raise ExtractionError(f"tesseract failed on it ({process.returncode}): {last[0][:200]}")
        return _text(out.decode("utf-8", "replace"))


def _too_slow(config: OcrConfig) -> ExtractionError:
    return ExtractionError(
        f"OCR of it took more than {config.page_timeout_s:g} s and was given up "
        "(ocr.page_timeout_s)"
    )


def _limit(process: subprocess.Popen[bytes], seconds: float) -> None:
    """End the process by SIGXCPU after so much processor time, even when nobody waits for it."""
    try:
        import resource

        whole = int(seconds) + 1
        resource.prlimit(process.pid, resource.RLIMIT_CPU, (whole, whole + 5))
    except (ImportError, AttributeError, ValueError, OSError):
        return  # a system without such limits: waiting for it ends all the same


@dataclass(frozen=True, slots=True)
class _Found:
    block: str
    line: tuple[str, ...]
    confidence: float
    text: str


def _words(table: str) -> Iterator[_Found]:
    """The words of tesseract's TSV: level, page, block, paragraph, line, word, box, confidence."""
    for row in table.split("\n")[1:]:
        cells = row.split("\t", 11)
        if len(cells) == 12 and cells[0] == "5" and (text := cells[11].strip()):
            try:
                confidence = float(cells[10])
            except ValueError:
                continue
            if confidence >= 0:
                yield _Found(cells[2], tuple(cells[2:5]), confidence, text)


def _text(table: str) -> Recognised:
    words = list(_words(table))
    if not words:
        return Recognised()
    blocks = [
        "\n".join(_line(line) for _, line in groupby(block, key=lambda w: w.line))
        for _, block in groupby(words, key=lambda w: w.block)
    ]
    confidence = sum(w.confidence for w in words) / len(words)
    return Recognised("\n\n".join(blocks), round(confidence, 1), len(words))


def _line(words: Iterator[_Found]) -> str:
    return " ".join(word.text for word in words)


def mean_confidence(found: Sequence[Recognised]) -> str:
    """Of the words of several pages, as it stands in a document's metadata; empty without words."""
    words = sum(r.words for r in found)
    return f"{sum(r.confidence * r.words for r in found) / words:.1f}" if words else ""
