import gzip

import numpy as np
import pytest

from compresslab.data.idx import read_idx, write_idx
from compresslab.errors import DataError

ARRAY = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def plain(tmp_path):
    write_idx(tmp_path / "images", ARRAY)
    return tmp_path / "images"


def test_reads_what_was_written_packed_or_not(plain):
    packed = plain.with_suffix(".gz")
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert (read_idx(plain, 3) == ARRAY).all()
    assert (read_idx(packed, 3) == ARRAY).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], r"images: is truncated: 23 bytes, but shape \[2, 3, 4\] needs 24"),
        (lambda data: data + b"x", "images: is longer than it says: 25 bytes"),
        (lambda data: data[:7], r"images: 7 bytes are less than an idx header \(16\)"),
        (lambda data: b"\0\0\x0d\x03" + data[4:], "images: magic number 0x00000d03 instead of 0x00000803"),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], "is truncated"),  # must not overflow or allocate
    ],
)
def test_a_file_that_is_something_else_is_refused(plain, change, message):
    plain.write_bytes(change(plain.read_bytes()))
    with pytest.raises(DataError, match=message):
        read_idx(plain, 3)


@pytest.mark.parametrize("cut", [5, 30, -4])
def test_a_truncated_gzip_names_the_file(plain, cut):
    packed = plain.with_suffix(".gz")
    packed.write_bytes(gzip.compress(plain.read_bytes())[:cut])
    with pytest.raises(DataError, match=r"images\.gz: cannot be read .* truncated or damaged"):
        read_idx(packed, 3)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.gz: there is no such file"):
        read_idx(tmp_path / "nothing.gz", 3)
