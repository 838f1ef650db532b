"""The error tree: each error knows its HTTP status."""

import pytest

from webui.core import errors


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("BadRequest", 422),
        ("MissingModel", 404),
        ("BadModelFile", 422),
        ("NotAllowed", 403),
        ("Busy", 503),
        ("OutOfMemory", 507),
        ("StorageError", 507),
        ("EngineError", 500),
    ],
)
def test_each_error_has_its_status_and_belongs_to_the_tree(name, status):
    kind = getattr(errors, name)
    assert issubclass(kind, errors.EaselError)
    assert kind.status == status
    assert f" {name} " in errors.__doc__
    assert f"(HTTP {status})" in errors.__doc__
