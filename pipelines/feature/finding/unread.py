"""What lies in folders and is no document: files of other kinds, and what programs leave behind.

Kinds that a person keeps no text in are known by their names. A suffix that is neither here nor
among the readers' may be that of a document, so such a file is still reported as not read.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from fti.pipelines.feature.finding.archives import ARCHIVES
from fti.pipelines.feature.reading.readers import READERS

# Folders in which systems keep what is nobody's document, in lower case.
_FOLDERS = frozenset(
    {"__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir"}
    | {"__pycache__", ".spotlight-v100", ".trashes", ".fseventsd"}
)
# Names of what programs leave behind, in lower case.
_LEFT_BEHIND = (
    (re.compile(r"~\$.*|\.~lock\..*#|\.#.*"), "lock file"),
    (re.compile(r"thumbs\.db|ehthumbs(?:_vista)?\.db|desktop\.ini|\.ds_store|\.localized"
                r"|\._.*|icon\r|\.directory|\.fuse_hidden.*|\.nfs[0-9a-f]{8,}"), "system file"),
    (re.compile(r".*\.sw[m-p]|.*~|#.*#|.*\.(?:asd|wbk)"), "editor's copy"),
    (re.compile(r".*\.(?:tmp|temp)|~wr[a-z]\d+.*"), "temporary file"),
    (re.compile(r".*\.(?:crdownload|part|partial|opdownload|download)"), "unfinished download"),
)  # fmt: skip
_KINDS = {
    "picture": "png jpg jpeg jpe jfif gif bmp tif tiff webp svg svgz ico icns cur heic heif avif "
    "psd psb ai eps xcf raw cr2 cr3 nef arw dng orf rw2 jp2 j2k jxl tga pcx ppm pgm pbm pnm wmf "
    "emf exr hdr dds kra sketch fig indd",
    "sound": "mp3 wav ogg oga opus flac aac m4a m4b wma aif aiff aifc mid midi amr ape au caf",
    "video": "mp4 m4v mov avi mkv webm wmv flv mpg mpeg mpe 3gp 3g2 ogv m2ts vob mxf swf",
    "font": "ttf otf ttc woff woff2 eot pfb pfm afm fon fnt",
    "program": "exe dll so dylib msi msix app apk aab ipa deb rpm dmg pkg jar war ear class "
    "pyc pyo pyd whl egg gem nupkg wasm o obj a lib ko elf sys drv efi xpi crx vsix scr cpl ocx "
    "pdb ilk exp gch pch rlib rmeta beam node dex bundle snap flatpak appimage",
    "disk image": "iso img vmdk vdi vhd vhdx qcow2 ova ovf",
    "database": "db db3 sqlite sqlite3 sqlite-wal sqlite-shm mdb accdb dbf ldb frm ibd myd myi mdf "
    "ldf wal",
    "data": "npy npz pkl pickle joblib h5 hdf5 hdf pt pth ckpt safetensors gguf ggml onnx tflite "
    "pb parquet arrow feather avro orc mat rds rdata sav dta fits nc grib tfrecord bson idx",
    "model of things": "dwg dxf stl fbx blend step stp iges igs 3ds skp glb gltf max c4d ply usd "
    "usdz shp shx",
    "key or signature": "pem crt cer der csr p12 pfx p7b p7s p7m jks keystore kdbx gpg pgp sig "
    "minisig",
    "link": "lnk url webloc desktop",
    "lock file": "lock lck pid sock",
}
_BY_SUFFIX = {f".{s}": kind for kind, suffixes in _KINDS.items() for s in suffixes.split()}
_LIBRARY = re.compile(r".*\.so(?:\.\d+)+")
#: How many bytes ``kind_of_content`` wants to see.
HEAD_BYTES = 16
_CONTENTS = (
    (b"\x7fELF", "program"), (b"\xcf\xfa\xed\xfe", "program"), (b"\xce\xfa\xed\xfe", "program"),
    (b"\xca\xfe\xba\xbe", "program"), (b"\0asm", "program"), (b"!<arch>\n", "program"),
    (b"MZ\x90\0", "program"), (b"\x89PNG\r\n\x1a\n", "picture"), (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"), (b"SQLite format 3\0", "database"),
)  # fmt: skip


def left_behind(name: str) -> str:
    """What kind of thing a program left behind under this name; empty for anything else."""
    lower = name.lower()
    return next((kind for form, kind in _LEFT_BEHIND if form.fullmatch(lower)), "")


def is_systems_folder(name: str) -> bool:
    """Whether a folder of this name holds only what a system keeps for itself."""
    return name.lower() in _FOLDERS


def kind_never_read(name: str) -> str:
    """The kind of a file whose format holds no text to read, such as ``picture (.png)``.

    Empty where there is a reader for it, and where nothing is known of its suffix.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in READERS or suffix in ARCHIVES:
        return ""
    if kind := _BY_SUFFIX.get(suffix):
        return f"{kind} ({suffix})"
    return "program (.so)" if _LIBRARY.fullmatch(name.lower()) else ""


def may_be_anything(name: str) -> bool:
    """Whether a name does not say what is in the file, so that its content must."""
    suffix = PurePosixPath(name).suffix.lower()
    return not suffix or (suffix not in READERS and suffix not in ARCHIVES)


def kind_of_content(head: bytes) -> str:
    """The kind of a file that begins so, where it is one that is never read; else empty."""
    return next((kind for begin, kind in _CONTENTS if head.startswith(begin)), "")
