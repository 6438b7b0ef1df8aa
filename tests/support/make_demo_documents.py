"""Write the demo corpus's .docx and .pdf files from the texts in demo_sources/.

The six documents are kept as markdown, so that a change to one is a readable diff, and written
out here with fixed dates and ids: the same text gives the same document on every machine.

    python tests/support/make_demo_documents.py            # into app/demo/corpus
    python tests/support/make_demo_documents.py --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import io
import re
import textwrap
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import docx
from docx.text.paragraph import Paragraph

SOURCES = Path(__file__).with_name("demo_sources")
CORPUS = Path(__file__).parents[2] / "app" / "demo" / "corpus"

TARGETS = {
    "fire-and-evacuation": "safety/fire-and-evacuation.pdf",
    "welding-and-hot-work": "safety/welding-and-hot-work.pdf",
    "constitution": "governance/constitution.pdf",
    "code-of-conduct": "members/code-of-conduct.docx",
    "teaching-handbook": "community/teaching-handbook.docx",
    "data-protection": "governance/data-protection.docx",
}
AUTHOR = "Larkfield Community Workshop"
WRITTEN = datetime(2025, 3, 14, 9, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Block:
    """One piece of a document: a heading, a paragraph, a list or a table."""

    kind: str  # "title", "heading", "text", "bullets", "numbers" or "table"
    text: str = ""
    items: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def parse(markdown: str) -> list[Block]:
    """Read the small part of markdown in which the sources are written."""
    return [_block(piece) for piece in re.split(r"\n\s*\n", markdown.strip())]


def _block(piece: str) -> Block:
    lines = piece.splitlines()
    if lines[0].startswith("# "):
        return Block("title", lines[0][2:])
    if lines[0].startswith("## "):
        return Block("heading", lines[0][3:])
    if lines[0].startswith("|"):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return Block("table", rows=[rows[0], *rows[2:]])
    for kind, marker in (("bullets", r"- "), ("numbers", r"\d+\. ")):
        if re.match(marker, lines[0]):
            items = re.split(rf"^{marker}", piece, flags=re.MULTILINE)[1:]
            return Block(kind, items=[" ".join(item.split()) for item in items])
    return Block("text", " ".join(piece.split()))


# Word documents ---------------------------------------------------------------------------------

_SPAN = re.compile(r"\*\*(?P<bold>[^*]+)\*\*|\*(?P<italic>[^*]+)\*|`(?P<code>[^`]+)`")
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_docx(blocks: list[Block]) -> bytes:
    """Make a .docx with real headings, lists and tables."""
    document = docx.Document()
    for block in blocks:
        if block.kind == "title":
            document.core_properties.title = block.text
            document.add_heading(block.text, level=1)
        elif block.kind == "heading":
            document.add_heading(block.text, level=2)
        elif block.kind == "text":
            _add_spans(document.add_paragraph(), block.text)
        elif block.kind == "table":
            columns = len(block.rows[0])
            table = document.add_table(rows=0, cols=columns, style="Light Grid Accent 1")
            for row in block.rows:
                for cell, text in zip(table.add_row().cells, row, strict=True):
                    _add_spans(cell.paragraphs[0], text)
        else:
            style = "List Bullet" if block.kind == "bullets" else "List Number"
            for item in block.items:
                _add_spans(document.add_paragraph(style=style), item)
    properties = document.core_properties
    properties.author = properties.last_modified_by = AUTHOR
    properties.comments = ""
    properties.created = properties.modified = WRITTEN.replace(tzinfo=None)
    packed = io.BytesIO()
    document.save(packed)
    return _with_fixed_dates(packed)


def _add_spans(paragraph: Paragraph, text: str) -> None:
    end = 0
    for match in _SPAN.finditer(text):
        paragraph.add_run(text[end : match.start()])
        run = paragraph.add_run(match[match.lastgroup or 0])
        if match.lastgroup == "code":
            run.font.name = "Courier New"
        else:
            setattr(run, match.lastgroup or "", True)
        end = match.end()
    paragraph.add_run(text[end:])


def _with_fixed_dates(packed: io.BytesIO) -> bytes:
    """Pack the parts again without the time of day that zip stamps on each."""
    out = io.BytesIO()
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            if name.startswith("docProps/thumbnail"):
                continue  # python-docx's template carries a picture of an empty page
            part = old.read(name)
            if name == "_rels/.rels":
                part = re.sub(rb"<Relationship [^>]*thumbnail[^>]*/>", b"", part)
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            new.writestr(info, part)
    return out.getvalue()


# PDF --------------------------------------------------------------------------------------------

_PAGE = (595, 842)  # A4, in points
_LEFT, _TOP, _BOTTOM = 62, 784, 66
_WRAP = 90  # characters in a line of running text
_TABLE_WRAP = 98  # and of a table, which is set smaller
_FONTS = {"F1": "Helvetica", "F2": "Helvetica-Bold", "F3": "Courier"}


@dataclass(frozen=True)
class Line:
    """A line of type and the space that stands above it."""

    text: str
    font: str = "F1"
    size: float = 10
    above: float = 14
    indent: float = 0


def write_pdf(blocks: list[Block]) -> bytes:
    """Make a .pdf of plain text in the fonts that every reader has."""
    title = next(block.text for block in blocks if block.kind == "title")
    pages = list(_paginate([line for block in blocks for line in _lines(block)]))
    objects = [b"<< /Type /Catalog /Pages 2 0 R /Lang (en-GB) >>", b""]
    objects += [
        f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()
        for name in _FONTS.values()
    ]
    stamp = WRITTEN.strftime("D:%Y%m%d%H%M%SZ")
    objects.append(
        f"<< /Title {_string(title)} /Author {_string(AUTHOR)} /CreationDate ({stamp}) "
        f"/ModDate ({stamp}) >>".encode("cp1252")
    )
    information = len(objects)
    fonts = " ".join(f"/{key} {number} 0 R" for number, key in enumerate(_FONTS, start=3))
    kids = []
    for number, page in enumerate(pages, start=1):
        foot = f"{AUTHOR} - {title} - page {number} of {len(pages)}"
        content = _content(page, foot)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_PAGE[0]} {_PAGE[1]}] "
            f"/Resources << /Font << {fonts} >> >> /Contents {len(objects)} 0 R >>".encode()
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    return _file(objects, information)


def _lines(block: Block) -> Iterator[Line]:
    """Set one block as lines; the first line of a block keeps some distance to what's above."""
    if block.kind == "title":
        yield Line(block.text, "F2", 17, 0)
    elif block.kind == "heading":
        yield Line(block.text, "F2", 12, 26)
    elif block.kind == "text":
        for number, line in enumerate(textwrap.wrap(_plain(block.text), _WRAP)):
            yield Line(line, above=14 if number else 20)
    elif block.kind == "table":
        yield from _table(block.rows)
    else:
        for number, item in enumerate(block.items, start=1):
            mark = "\u2022" if block.kind == "bullets" else f"{number}."
            for row, line in enumerate(textwrap.wrap(f"{mark} {_plain(item)}", _WRAP - 4)):
                yield Line(line, above=14 if row else 17, indent=12)


def _table(rows: list[list[str]]) -> Iterator[Line]:
    """Set a table with a typewriter's columns; only the last one may run over to a new line."""
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(len(rows[0]) - 1)]
    for number, row in enumerate(rows):
        head = "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        tail = textwrap.wrap(row[-1], _TABLE_WRAP - len(head)) or [""]
        yield Line(head + tail[0], "F3", 8, 13 if number else 22)
        for rest in tail[1:]:
            yield Line(" " * len(head) + rest, "F3", 8, 10)


def _plain(text: str) -> str:
    return re.sub(r"[*`]", "", text)


def _paginate(lines: list[Line]) -> Iterator[list[tuple[float, Line]]]:
    page: list[tuple[float, Line]] = []
    height: float = _TOP
    for line in lines:
        height -= line.above if page else 0
        needed = 40 if line.font == "F2" else 0  # no heading alone at the foot of a page
        if height - needed < _BOTTOM:
            yield page
            page, height = [], _TOP
        page.append((height, line))
    yield page


def _content(page: list[tuple[float, Line]], foot: str) -> bytes:
    placed = [*page, (36, Line(foot, size=8))]
    return "\n".join(
        f"BT /{line.font} {line.size:g} Tf {_LEFT + line.indent:g} {height:g} Td "
        f"{_string(line.text)} Tj ET"
        for height, line in placed
    ).encode("cp1252")


def _string(text: str) -> str:
    return "(" + re.sub(r"([\\()])", r"\\\1", text) + ")"


def _file(objects: list[bytes], information: int) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    starts = []
    for number, body in enumerate(objects, start=1):
        starts.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    identity = hashlib.sha256(out).hexdigest()[:32].encode()
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % start for start in starts)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R /ID [<%s> <%s>] >>\n" % (
        len(objects) + 1,
        information,
        identity,
        identity,
    )
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


def write_all(folder: Path) -> list[Path]:
    """Write the six documents below `folder` and return their paths."""
    written = []
    for name, target in TARGETS.items():
        blocks = parse((SOURCES / f"{name}.md").read_text(encoding="utf-8"))
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(write_pdf(blocks) if path.suffix == ".pdf" else write_docx(blocks))
        written.append(path)
    return written


def main() -> None:
    """Write the documents into the corpus, or into another folder."""
    parser = argparse.ArgumentParser(description="Write the demo corpus's .docx and .pdf files.")
    parser.add_argument("--out", type=Path, default=CORPUS)
    for path in write_all(parser.parse_args().out):
        print(path)


if __name__ == "__main__":
    main()
