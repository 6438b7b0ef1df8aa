"""A server that speaks as much of Cloud Storage as its clients here use, on a port of its own.

It stands for Google's where none can be reached: objects of one bucket in memory, by the JSON API
(gcsfs uses it) and by the XML API (LanceDB's client does). What it must get right is the condition
that leases and commits rest on: of several PUTs of one name "if nothing is there", one succeeds.

https://cloud.google.com/storage/docs/json_api, https://cloud.google.com/storage/docs/xml-api
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import pytest

from tests.support.object_store import BUCKET, serving

_PAGE = 3  # objects of a listing; clients must ask on
SECRET = "secret"  # a bucket that wants other credentials
_JSON, _UPLOAD = f"/storage/v1/b/{BUCKET}", f"/upload/storage/v1/b/{BUCKET}/o"
_XML = f"/{BUCKET}"


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Stored:
    """An object as it is since it was written."""

    data: bytes
    generation: int
    updated: datetime

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.data, usedforsecurity=False).digest()

    @property
    def headers(self) -> dict[str, str]:
        return {
            "ETag": f'"{self.md5.hex()}"',
            "Last-Modified": format_datetime(self.updated, usegmt=True),
            "x-goog-generation": str(self.generation),
            "x-goog-hash": f"md5={base64.b64encode(self.md5).decode()}",
        }

    def described(self, name: str) -> dict[str, Any]:
        """The resource of the JSON API."""
        at = self.updated.isoformat().replace("+00:00", "Z")
        return {
            "kind": "storage#object", "name": name, "bucket": BUCKET, "id": f"{BUCKET}/{name}",
            "generation": str(self.generation), "metageneration": "1", "size": str(len(self.data)),
            "md5Hash": base64.b64encode(self.md5).decode(), "updated": at, "timeCreated": at,
        }  # fmt: skip


@dataclass
class Bucket:
    """Objects by name, and the parts of uploads."""

    objects: dict[str, Stored] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    generation: int = 0

    def put(self, name: str, data: bytes, wanted: str | None) -> Stored:
        held = self.objects.get(name)
        if wanted is not None and int(wanted) != (held.generation if held else 0):
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        self.generation += 1
        stored = Stored(data, self.generation, datetime.now(UTC))
        self.objects[name] = stored
        return stored

    def get(self, name: str) -> Stored:
        if name not in self.objects:
            raise Refused(404, f"No such object: {BUCKET}/{name}")
        return self.objects[name]

    def page(self, prefix: str, delimiter: str, after: str) -> tuple[list[str], list[str], str]:
        """Names and common prefixes of one page, and where the next begins; "" at the end."""
        names: list[str] = []
        prefixes: list[str] = []
        for name in sorted(n for n in self.objects if n.startswith(prefix)):
            end = name.find(delimiter, len(prefix)) if delimiter else -1
            entry = name if end < 0 else name[: end + len(delimiter)]
            if entry <= after or entry in prefixes:
                continue
            if len(names) + len(prefixes) == _PAGE:
                return names, prefixes, max(names + prefixes)
            (names if end < 0 else prefixes).append(entry)
        return names, prefixes, ""


@contextlib.contextmanager
def gcs_server(folder: Path) -> Iterator[dict[str, str]]:
    """The variables by which clients reach it and its one bucket; ``folder`` takes a key file."""
    pytest.importorskip("gcsfs", reason="needs the extra: pip install 'fti-llm[remote]'")
    from werkzeug.wrappers import Request, Response

    bucket, lock = Bucket(), threading.Lock()

    @Request.application
    def serve(request: Request) -> Response:
        path = unquote(request.environ["RAW_URI"].partition("?")[0])
        path = path.removeprefix("/download")  # where contents are asked for; else the same
        with lock:
            try:
                if SECRET in path.split("/"):
                    raise Refused(401, "Anonymous caller does not have access.")
                if path.startswith(("/storage/", "/upload/")):
                    return _json(bucket, request, path, Response)
                return _xml(bucket, request, path, Response)
            except Refused as error:
                said = {"error": {"code": error.status, "message": str(error)}}
                return Response(json.dumps(said), status=error.status)

    with serving(serve) as url:
        key = folder / "account.json"
        account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "",
                   "private_key": "", "private_key_id": ""}  # fmt: skip
        key.write_text(json.dumps(account), "utf-8")
        yield {
            "GOOGLE_SERVICE_ACCOUNT": str(key),  # of LanceDB's client
            "GOOGLE_ALLOW_HTTP": "true",
            "STORAGE_EMULATOR_HOST": url,  # of gcsfs
            "FSSPEC_GS_TOKEN": "anon",
        }


def _ranged(request: Any, stored: Stored, response: Any) -> Any:
    data, status, headers = stored.data, 200, dict(stored.headers)
    if request.range is not None:
        found = request.range.range_for_length(len(data))
        if found is None:
            raise Refused(416, "The requested range cannot be satisfied.")
        headers["Content-Range"] = f"bytes {found[0]}-{found[1] - 1}/{len(data)}"
        data, status = data[found[0] : found[1]], 206
    return response(data, status=status, headers=headers, content_type="application/octet-stream")


def _json(bucket: Bucket, request: Any, path: str, response: Any) -> Any:
    asked = request.args
    if path == _UPLOAD and asked.get("uploadType") == "multipart":
        about, data = _parts(request.get_data(), request.mimetype_params["boundary"])
        name = json.loads(about)["name"]
        stored = bucket.put(name, data, asked.get("ifGenerationMatch"))
        return response(json.dumps(stored.described(name)))
    if path == f"{_JSON}/o" and request.method == "GET":
        names, prefixes, after = bucket.page(
            asked.get("prefix", ""), asked.get("delimiter", ""), asked.get("pageToken", "")
        )
        found: dict[str, Any] = {"kind": "storage#objects", "prefixes": prefixes}
        found["items"] = [bucket.objects[name].described(name) for name in names]
        return response(json.dumps(found | ({"nextPageToken": after} if after else {})))
    if path.startswith(f"{_JSON}/o/"):
        name = path.removeprefix(f"{_JSON}/o/")
        stored = bucket.get(name)
        if request.method == "DELETE":
            del bucket.objects[name]
            return response(status=204)
        if request.method == "GET":
            if asked.get("alt") == "media":
                return _ranged(request, stored, response)
            return response(json.dumps(stored.described(name)))
    if path == _JSON and request.method == "GET":
        return response(json.dumps({"kind": "storage#bucket", "name": BUCKET, "id": BUCKET}))
    if not path.startswith((f"{_JSON}/", _UPLOAD)):
        raise Refused(404, "The specified bucket does not exist.")
    raise Refused(501, f"{request.method} {path} is not spoken here.")


def _parts(body: bytes, boundary: str) -> tuple[bytes, bytes]:
    """What describes an object, and its bytes as they are, of a multipart/related message."""
    _, _, rest = body.partition(b"\n\n")  # headers of the first part
    about, _, rest = rest.partition(f"--{boundary}".encode())
    _, _, rest = rest.partition(b"\n\n")
    return about, rest.rpartition(f"\n--{boundary}--".encode())[0]


def _xml(bucket: Bucket, request: Any, path: str, response: Any) -> Any:
    asked, method = request.args, request.method
    if path.rstrip("/") == _XML and method == "GET":
        names, prefixes, after = bucket.page(
            asked.get("prefix", ""),
            asked.get("delimiter", ""),
            asked.get("continuation-token") or asked.get("start-after", ""),
        )
        return response(_xml_listing(bucket, names, prefixes, after), content_type="text/xml")
    if not path.startswith(f"{_XML}/"):
        raise Refused(404, "The specified bucket does not exist.")
    name = path.removeprefix(f"{_XML}/")
    wanted = request.headers.get("x-goog-if-generation-match")
    if method == "POST" and "uploads" in asked:
        number = str(len(bucket.parts) + 1)
        bucket.parts[number] = {}
        return response(
            "<InitiateMultipartUploadResult><Bucket>bucket</Bucket>"
            f"<Key>{escape(name)}</Key><UploadId>{number}</UploadId>"
            "</InitiateMultipartUploadResult>"
        )
    if method == "PUT" and "partNumber" in asked:
        data = request.get_data()
        bucket.parts[asked["uploadId"]][int(asked["partNumber"])] = data
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return response(headers={"ETag": f'"{etag}"'})
    if method == "POST" and "uploadId" in asked:
        parts = bucket.parts.pop(asked["uploadId"])
        stored = bucket.put(name, b"".join(parts[n] for n in sorted(parts)), wanted)
        return response(
            "<CompleteMultipartUploadResult>"
            f"<ETag>{stored.headers['ETag']}</ETag></CompleteMultipartUploadResult>",
            headers=stored.headers,
        )
    if method == "PUT":
        source = request.headers.get("x-goog-copy-source")
        data = request.get_data()
        if source is not None:
            data = bucket.get(unquote(source).removeprefix(f"{BUCKET}/")).data
        return response(headers=bucket.put(name, data, wanted).headers)
    if method == "DELETE" and "uploadId" in asked:
        bucket.parts.pop(asked["uploadId"], None)
        return response(status=204)
    if method in ("GET", "HEAD"):
        return _ranged(request, bucket.get(name), response)
    if method == "DELETE":
        bucket.get(name)
        del bucket.objects[name]
        return response(status=204)
    raise Refused(501, f"{method} {path} is not spoken here.")


def _xml_listing(bucket: Bucket, names: list[str], prefixes: list[str], after: str) -> str:
    contents = "".join(
        f"<Contents><Key>{escape(n)}</Key><Size>{len(bucket.objects[n].data)}</Size>"
        f"<LastModified>{bucket.objects[n].updated.isoformat()}</LastModified>"
        f"<ETag>{bucket.objects[n].headers['ETag']}</ETag></Contents>"
        for n in names
    )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(p)}</Prefix></CommonPrefixes>" for p in prefixes
    )
    more = f"<NextContinuationToken>{escape(after)}</NextContinuationToken>" if after else ""
    return (
        f"<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>{str(bool(after)).lower()}"
        f"</IsTruncated>{more}{contents}{common}</ListBucketResult>"
    )
