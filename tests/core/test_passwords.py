"""Passwords are recognised and cannot be read."""

import hashlib
import pickle

import pytest

from webui.core.passwords import BLOCK, COST, store


@pytest.mark.parametrize("password", ["x", "pä:ss wörd", "猫" * 200, "\ud800", " "])
def test_a_stored_password_fits_itself_alone(password: str) -> None:
    stored = store(password)
    assert stored.fits(password)
    assert not stored.fits(password + "x")
    assert not stored.fits("")


def test_the_sum_is_scrypts_and_no_two_are_equal() -> None:
    one, two = store("secret"), store("secret")
    assert one.digest == hashlib.scrypt(b"secret", salt=one.salt, n=COST, r=BLOCK, p=1, maxmem=2**26)
    assert one.digest != two.digest


def test_the_words_are_nowhere_in_what_is_kept() -> None:
    stored = store("a-very-long-password")
    assert b"a-very-long" not in pickle.dumps(stored)
    assert "digest" not in repr(stored)
