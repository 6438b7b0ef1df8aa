"""Every error that fti can raise has an HTTP status, and the drawn tree is the real one."""

from __future__ import annotations

import re

from fti.app.service.forms.http_errors import STATUS, body_of, status_of
from fti.store import errors


def _all_errors() -> set[type[errors.FtiError]]:
    found, todo = set(), [errors.FtiError]
    while todo:
        kind = todo.pop()
        found.add(kind)
        todo.extend(kind.__subclasses__())
    return found


def test_every_error_class_has_a_status_and_no_other_is_listed() -> None:
    assert set(STATUS) == _all_errors()


def test_statuses_of_the_callers_faults_are_below_500_and_of_ours_above() -> None:
    for kind, status in STATUS.items():
        assert 400 <= status < 600
        if issubclass(kind, errors.InputError | errors.NotFoundError):
            assert status < 500, kind


def test_the_tree_drawn_in_the_docstring_is_the_real_tree() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    real = {kind.__name__ for kind in _all_errors()} - {"FtiError"}
    assert drawn == real


def test_an_error_body_has_openais_form_with_message_and_hint() -> None:
    error = errors.StoreEmpty("Nothing is here.", hint="Run: fti ingest FOLDER")
    body = body_of(error, str)["error"]
    assert status_of(error) == 503
    assert body == {
        "message": "Nothing is here. Run: fti ingest FOLDER",
        "type": "server_error",
        "param": None,
        "code": "store_empty",
    }
