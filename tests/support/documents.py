"""Small documents in formats that cannot be written as a string."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def a_pdf(*pages: Sequence[str], title: str = "", size: int = 12, title_size: int = 0) -> bytes:
    """A PDF of one text line per string; the first line in ``title_size`` where given."""
    objects: list[bytes] = []
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects.append(b"<< /Type /Catalog /Pages 2 0 R >>")
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for number, lines in enumerate(pages):
        content = ["BT"]
        for i, line in enumerate(lines):
            points = title_size if i == 0 and number == 0 and title_size else size
            text = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            content.append(f"/F1 {points} Tf 1 0 0 1 72 {760 - 20 * i} Tm ({text}) Tj")
        stream = "\n".join([*content, "ET"]).encode("latin-1")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    objects.append(f"<< /Title ({title}) >>".encode())
    data = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = len(objects) + 1
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (end, table, end, len(objects), len(data))
    )


def encrypted(pdf: bytes, *, user_password: str) -> bytes:
    """The PDF under AES; with an empty user password every reader opens it."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    writer.encrypt(user_password=user_password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def zipped(members: Mapping[str, str | bytes], *, compressed: bool = True) -> bytes:
    """A ZIP archive of these files."""
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def rewritten(data: bytes, name: str, content: bytes) -> bytes:
    """The archive with one part replaced."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as before,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as after,
    ):
        for part in before.namelist():
            after.writestr(part, content if part == name else before.read(part))
    return out.getvalue()


def an_xlsx(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    """A workbook with these rows on each sheet; an empty row is a row without values."""
    import openpyxl

    workbook = openpyxl.Workbook()
    workbook.remove(workbook.active)
    for name, rows in sheets.items():
        sheet = workbook.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def an_epub(chapters: Mapping[str, str], *, spine: Sequence[str], title: str = "") -> bytes:
    """A book: XHTML bodies by file name, read in the order of ``spine``."""
    items = "".join(
        f'<item id="i{i}" href="{name}" media-type="application/xhtml+xml"/>'
        for i, name in enumerate(chapters)
    )
    ids = {name: f"i{i}" for i, name in enumerate(chapters)}
    refs = "".join(f'<itemref idref="{ids[name]}"/>' for name in spine)
    return zipped(
        {
            "mimetype": "application/epub+zip",
            "META-INF/container.xml": '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:'
            'container"><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>',
            "OEBPS/book.opf": '<package xmlns="http://www.idpf.org/2007/opf" '
            'xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            f"<dc:title>{title}</dc:title><dc:creator>Ann Lee</dc:creator>"
            "<dc:language>en</dc:language></metadata>"
            f"<manifest>{items}</manifest><spine>{refs}</spine></package>",
            **{
                f"OEBPS/{name}": f'<html xmlns="http://www.w3.org/1999/xhtml"><body>{body}</body>'
                "</html>"
                for name, body in chapters.items()
            },
        }
    )


def an_odt(body: str, *, title: str = "", styles: str = "", **parts: str) -> bytes:
    """A text document whose ``office:text`` holds ``body``; ``parts`` are further files.

    ``styles`` are its automatic styles.
    """
    named = {
        "office": "office", "text": "text", "table": "table", "style": "style", "draw": "drawing",
        "svg": "svg-compatible",
    }  # fmt: skip
    names = "".join(
        f' xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for prefix, name in named.items()
    )
    names += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    names += ' xmlns:dc="http://purl.org/dc/elements/1.1/"'
    meta = (
        f"<office:document-meta{names}><office:meta>"
        f"<dc:title>{title}</dc:title></office:meta></office:document-meta>"
    )
    return zipped(
        {
            "mimetype": "application/vnd.oasis.opendocument.text",
            "meta.xml": meta,
            "content.xml": f"<office:document-content{names}><office:automatic-styles>{styles}"
            f"</office:automatic-styles><office:body><office:text>{body}"
            "</office:text></office:body></office:document-content>",
            **parts,
        }
    )


_WORD_NAMES = {
    "w": "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
    "m": "http://schemas.openxmlformats.org/officeDocument/2006/math",
    "mc": "http://schemas.openxmlformats.org/markup-compatibility/2006",
    "v": "urn:schemas-microsoft-com:vml",
    "wps": "http://schemas.microsoft.com/office/word/2010/wordprocessingShape",
}


def a_docx_of(body: str, *, strict: bool = False, **parts: str | bytes) -> bytes:
    """A Word document whose ``w:body`` holds ``body``.

    Args:
        body: WordprocessingML; the prefixes w, m, mc, v and wps are known.
        strict: write it in the names of ISO's strict variant.
        parts: further parts by what they are (``footnotes``), which is the id and the type of the
            relation to them too; ``id:name`` names the file.
    """
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    named = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in _WORD_NAMES.items())
    files = {key: key.partition(":")[2] or f"{key}.xml" for key in parts}
    rels = "".join(
        f'<Relationship Id="{key.partition(":")[0]}" Type="{relations}/{key.partition(":")[0]}" '
        f'Target="{name}"/>'
        for key, name in files.items()
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"/>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{relations}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships">{rels}'
        "</Relationships>",
        "word/document.xml": f"<w:document {named}><w:body>{body}</w:body></w:document>",
    }
    for key, content in parts.items():
        if isinstance(content, str) and content.startswith("<w:"):
            content = content.replace(">", f" {named}>", 1)
        members[f"word/{files[key]}"] = content
    if strict:
        for old, new in (
            ("wordprocessingml/2006/", "wordprocessingml/"),
            ("officeDocument/2006/", "officeDocument/"),
        ):
            members = {
                name: content.replace(
                    f"http://schemas.openxmlformats.org/{old}", f"http://purl.oclc.org/ooxml/{new}"
                )
                if isinstance(content, str)
                else content
                for name, content in members.items()
            }
    return zipped(members)


def a_drawn_pdf(
    *pages: str | Image,
    size: tuple[int, int] = (612, 792),
    reads_as: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    rotate: int = 0,
) -> bytes:
    """A PDF of pages drawn by these operators, in Helvetica (``/F1``) and Courier (``/F2``).

    A page given as a picture is a scan: the picture from edge to edge.

    Args:
        pages: content streams, or pictures.
        size: of a page, in points.
        reads_as: for ``/F1``, what text extraction makes of characters that look as they are.
        names: for ``/F1``, glyph names by character, in place of the usual ones.
        rotate: how far each page is turned when it is shown.
    """
    objects: list[bytes] = [b"", b""]

    def add(body: bytes) -> int:
        objects.append(body)
        return len(objects)

    def stream(data: bytes, entries: str = "") -> int:
        head = f"<< /Length {len(data)} {entries} >>".encode()
        return add(head + b"\nstream\n" + data + b"\nendstream")

    extra = ""
    if reads_as is not None:
        pairs = "\n".join(
            f"<{ord(c):02x}> <{to.encode('utf-16-be').hex()}>" for c, to in reads_as.items()
        )
        cmap = (
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
            "1 begincodespacerange <00> <ff> endcodespacerange\n"
            f"{len(reads_as)} beginbfchar\n{pairs}\nendbfchar\nendcmap end end"
        )
        extra += f" /ToUnicode {stream(cmap.encode('ascii'))} 0 R"
    encoding = "/WinAnsiEncoding"
    if names is not None:
        differences = " ".join(f"{ord(c)} /{name}" for c, name in names.items())
        encoding = f"<< /Type /Encoding /Differences [{differences}] >>"
    first = add(
        f"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding {encoding}{extra} >>"
        .encode()
    )  # fmt: skip
    second = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding >>")
    kids = []
    for page in pages:
        things = ""
        if isinstance(page, str):
            content = page.encode("cp1252")
        else:
            grey = page.convert("L")
            entries = (
                f"/Type /XObject /Subtype /Image /Width {grey.width} /Height {grey.height} "
                "/ColorSpace /DeviceGray /BitsPerComponent 8 /Filter /FlateDecode"
            )
            image = stream(zlib.compress(grey.tobytes()), entries)
            things = f"/XObject << /Im1 {image} 0 R >>"
            content = f"q {size[0]} 0 0 {size[1]} 0 0 cm /Im1 Do Q".encode()
        body = stream(content)
        page_object = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {size[0]} {size[1]}] /Rotate {rotate} "
            f"/Resources << /Font << /F1 {first} 0 R /F2 {second} 0 R >> {things} >> "
            f"/Contents {body} 0 R >>"
        )
        kids.append(f"{add(page_object.encode())} 0 R")
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    data = b"%PDF-1.5\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    end = len(objects) + 1
    return data + (
        b"xref\n0 %d\n0000000000 65535 f \n%strailer\n<< /Size %d /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (end, table, end, len(data))
    )


def shown(x: float, y: float, text: str, *, font: str = "F1", size: float = 11) -> str:
    """Operators that show a text at a place of a page."""
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT /{font} {size:g} Tf {x:g} {y:g} Td ({escaped}) Tj ET"


def a_picture(*lines: str, size: tuple[int, int] = (1240, 700), height: int = 36) -> Image:
    """A picture with these lines of black writing on white."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("L", size, 255)
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=height)
    for i, line in enumerate(lines):
        draw.text((80, 60 + i * height * 1.6), line, fill=0, font=font)
    return picture
