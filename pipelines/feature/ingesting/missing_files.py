"""Files that are gone although documents of them are served still."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

from fti.pipelines.feature.finding.sources import Discovery
from fti.pipelines.feature.finding.web import is_address
from fti.store.features.ledger import LedgerLines
from fti.store.types import SourceRecord


def missing(
    lines: LedgerLines, discovery: Discovery, present: Collection[str]
) -> list[SourceRecord]:
    """The documents whose file is gone; ``present`` are the files that were found.

    A file that is there but cannot be looked at is not missing. An object is, when all under an
    address was listed without it; and so is a file that was read once and never is now.
    """
    seen = {*present, *(failed.source for failed in discovery.failed)}
    never = {skipped.source for skipped in discovery.skipped if skipped.never}
    return [
        entry.record
        for file in lines.files()
        if file not in present
        and (
            file in discovery.gone
            or file in never
            or (
                file not in seen and any(_lies_under(file, address) for address in discovery.listed)
            )
            or (any(_lies_under(file, root) for root in discovery.roots) and is_gone(file))
        )
        for entry in lines.of_file(file)
    ]


def _lies_under(file: str, root: str) -> bool:
    return file == root or file.startswith(root.rstrip(os.sep) + os.sep)


def is_gone(file: str) -> bool:
    """Whether no file of this name is there; one that cannot be looked at is."""
    if is_address(file):  # what is not in a sitemap any more may be there all the same
        return False
    try:
        return not stat.S_ISREG(os.stat(file).st_mode)  # noqa: PTH116  # Path.is_file hides errors
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
