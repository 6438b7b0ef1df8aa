"""Where backups, and tables in an object store, lie: a folder, or a bucket by its URL.

Through fsspec. Files are written whole: aside and renamed in a folder, by one PUT in an object
store.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from fti.store.errors import ConfigError, InputError, StoreError
from fti.store.files.atomic import fsync_folder, full_disk_named, write_bytes, write_errors_named
from fti.store.moments import read_moment

_BLOCK = 1 << 20
#: Which extra brings the package for a scheme.
_EXTRAS = dict.fromkeys(("s3", "s3a", "gs", "gcs"), "remote")


def file_sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file of a folder that others write to; what goes meanwhile does not count.

    A folder that goes is passed over, where ``Path.rglob`` raises; of one that stays, every other
    file counts, where fsspec's ``find`` leaves out the whole.
    """
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                yield (Path(parent) / name).stat().st_size


class Place:
    """A folder or a bucket. Keys are relative paths with slashes.

    Args:
        url: a path, or a URL that fsspec knows, such as ``s3://bucket/prefix``.

    ``local`` says whether it is a folder.

    Raises:
        ConfigError: the package for this kind of URL is not installed.
        InputError: there is no such kind of URL, or the path is a file.
    """

    def __init__(self, url: str) -> None:
        scheme, separator, _ = url.partition("://")
        if not separator:
            path = Path(url).expanduser().absolute()
            if path.exists() and not path.is_dir():
                raise InputError(f"{str(path)!r} is a file, not a folder.", hint="Name a folder.")
            url = str(path)
        self.url = url
        try:
            # A listing that is remembered hides what others wrote since, also from reading: s3fs
            # looks there for the size first.
            self._files, self._root = file_system(url, use_listings_cache=False)
        except ImportError as error:
            extra = _EXTRAS.get(scheme)
            raise ConfigError(
                f"{scheme}:// needs a package that is not installed: {error}.",
                hint=f"pip install 'fti-llm[{extra}]'"
                if extra
                else "Install it, or name a folder.",
            ) from error
        except ValueError as error:
            raise InputError(
                f"{url!r} is no place to write to: {error}.",
                hint="Name a folder, or a URL like s3://bucket/prefix",
            ) from error
        self.local = "file" in _protocols(self._files)
        # Without it s3fs asks for the size before it reads.
        self._reading = {"max_concurrency": 1} if "s3" in _protocols(self._files) else {}

    def put(self, key: str, source: Path) -> None:
        """Copy a file to a key."""
        with self._writing(key):
            if not self.local:
                self._files.put_file(str(source), self._at(key))
                return
            target = Path(self._at(key))
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(f".{uuid.uuid4().hex}.tmp")
            try:
                with source.open("rb") as given, aside.open("wb") as kept:
                    shutil.copyfileobj(given, kept, _BLOCK)
                    kept.flush()
                    os.fsync(kept.fileno())
                aside.replace(target)
                fsync_folder(target.parent)
            finally:
                aside.unlink(missing_ok=True)

    def write(self, key: str, data: bytes) -> None:
        """Put bytes at a key."""
        with self._writing(key):
            if self.local:
                write_bytes(Path(self._at(key)), data)
            else:
                self._files.pipe_file(self._at(key), data)

    def create(self, key: str, data: bytes) -> None:
        """Put bytes at a key where nothing is: of several that do so at once, one succeeds.

        An object store must know conditional writes (``If-None-Match: *``), as S3 and GCS do.

        Raises:
            FileExistsError: something is there, or is put there at this moment.
        """
        with self._writing(key):
            if self.local:
                target = Path(self._at(key))
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as kept:
                    kept.write(data)
            else:
                try:
                    self._files.pipe_file(self._at(key), data, mode="create")
                except OSError as error:
                    if _is_conflict(error):
                        raise FileExistsError(key) from error
                    raise

    def delete(self, key: str) -> None:
        """Remove what lies at a key, if anything does."""
        with self._using(key), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(self._at(key))

    def read(self, key: str) -> bytes:
        """The bytes at a key.

        Raises:
            FileNotFoundError: there is nothing.
        """
        with self._using(key):
            found: bytes = self._files.cat_file(self._at(key), **self._reading)
            return found

    def read_all(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The bytes at several keys, asked for at once; those where nothing is are left out."""
        if len(keys) == 1:
            with contextlib.suppress(FileNotFoundError):
                return {keys[0]: self.read(keys[0])}
            return {}
        by_path = {self._at(key): key for key in keys}
        with self._using(""):
            found = self._files.cat(list(by_path), on_error="return", **self._reading)
            for said in found.values():
                if isinstance(said, Exception) and not isinstance(said, FileNotFoundError):
                    raise said
        stripped = {self._files._strip_protocol(path): key for path, key in by_path.items()}
        return {
            stripped[self._files._strip_protocol(path)]: data
            for path, data in found.items()
            if isinstance(data, bytes)
        }

    def digest(self, key: str) -> str:
        """Hex sha256 of what lies at a key, read in pieces.

        Raises:
            FileNotFoundError: there is nothing.
        """
        digest = hashlib.sha256()
        for block in self._blocks(key):
            digest.update(block)
        return digest.hexdigest()

    def fetch(self, key: str, target: Path) -> str:
        """Copy a key to a new file, flushed; gives the hex sha256 of what was written.

        Raises:
            FileNotFoundError: there is nothing.
        """
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with write_errors_named(target), target.open("xb") as kept:
            for block in self._blocks(key):
                digest.update(block)
                kept.write(block)
            kept.flush()
            os.fsync(kept.fileno())
        return digest.hexdigest()

    def sizes(self, prefix: str) -> dict[str, int]:
        """What lies under a prefix: bytes by key."""
        return {key: size for key, (size, _) in self.listing(prefix).items()}

    def listing(self, prefix: str) -> dict[str, tuple[int, int]]:
        """What lies under a prefix: bytes, and when it was changed in ns (0: unknown), by key."""
        with self._using(prefix):
            try:
                found = self._files.find(self._at(prefix), detail=True)
            except FileNotFoundError:
                return {}
        begin = len(self._root.rstrip("/")) + 1
        return {path[begin:]: (int(info["size"]), _changed(info)) for path, info in found.items()}

    def _blocks(self, key: str) -> Iterator[bytes]:
        with self._using(key), self._files.open(self._at(key), "rb") as stream:
            while block := stream.read(_BLOCK):
                yield block

    def _at(self, key: str) -> str:
        return f"{self._root.rstrip('/')}/{key}"

    @contextlib.contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        try:
            with self._using(key):
                yield
        except FileNotFoundError as error:  # no such bucket
            raise self._unusable(error) from error

    @contextlib.contextmanager
    def _using(self, key: str) -> Iterator[None]:
        errors: tuple[type[Exception], ...] = (OSError, *client_errors())
        try:
            with full_disk_named(Path(self._at(key))):
                yield
        except (FileNotFoundError, FileExistsError):
            raise
        except errors as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"The place {self.url!r} cannot be used: {error}.",
            hint="Check the address, the credentials and the rights, then run it again.",
        )


def file_system(url: str, **settings: Any) -> tuple[Any, str]:
    """The fsspec file system that a URL names, with settings of its own, and the path in it.

    Raises:
        ImportError: the package for this kind of URL is not installed.
        ValueError: there is no such kind.
    """
    from fsspec.core import url_to_fs

    # gcsfs would ask by gRPC what kind each bucket is, and wait a minute where that is barred.
    os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    # What it raises it logs as well, with a traceback.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    found: tuple[Any, str] = url_to_fs(url, **settings)
    return found


def _changed(info: Mapping[str, Any]) -> int:
    # By the name that S3, folders, GCS and fsspec's memory have for it.
    at = next((info[n] for n in ("LastModified", "mtime", "updated", "created") if n in info), 0)
    if isinstance(at, str):
        at = read_moment(at)
    if isinstance(at, datetime):
        at = at.timestamp()
    return int((at or 0) * 1e9)


def _is_conflict(error: OSError) -> bool:
    """Whether S3 refused one of several conditional PUTs because another one was under way."""
    said = getattr(error.__cause__, "response", None) or {}
    return bool(said.get("Error", {}).get("Code") == "ConditionalRequestConflict")


def _protocols(files: Any) -> tuple[str, ...]:
    named = files.protocol
    return (named,) if isinstance(named, str) else tuple(named)


def client_errors() -> tuple[type[Exception], ...]:
    """What the clients of object stores raise that is no OSError; of those that are in use."""
    found: list[type[Exception]] = []
    if "s3fs" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        found += [BotoCoreError, ClientError]
    if "gcsfs" in sys.modules:
        from aiohttp import ClientError as ConnectionFailed
        from gcsfs.retry import ChecksumError, HttpError
        from google.auth.exceptions import GoogleAuthError

        found += [HttpError, ChecksumError, GoogleAuthError, ConnectionFailed]
    return tuple(found)
