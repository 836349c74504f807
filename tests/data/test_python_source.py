import sys

import numpy as np
import pytest

from compresslab.data.python_source import load_python
from compresslab.errors import BadInput, DataError

MODULE = """
import numpy as np
from compresslab.data import Arrays, Source

images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
labels = np.array([0, 1, 0, 1, 0, 1])

def mapping():
    return {"images": images, "labels": labels, "label_names": ["cat", "dog"]}

def arrays():
    return Arrays(images, labels, ("cat", "dog"))

def source():
    return Source("pets", arrays(), test=Arrays(images[:2], labels[:2], ("cat", "dog")))

def unlabelled():
    return Arrays(images, None, ("cat", "dog"))

def floats():
    return {"images": images / 255, "labels": labels}

def pair():
    return images, labels

def needs(x):
    return x
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_data.py").write_text(MODULE)
    yield lambda name: load_python(f"{tmp_path}/own_data.py:{name}")
    sys.modules.pop("own_data", None)


@pytest.mark.parametrize("name", ["mapping", "arrays", "source"])
def test_what_a_function_may_return(load, name):
    source = load(name)
    assert source.train.labels == ("cat", "dog")
    assert source.train.targets.dtype == np.int64
    assert source.name == ("pets" if name == "source" else name)
    assert (source.test is not None) == (name == "source")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unlabelled", "has no labels"),
        ("floats", "images must be uint8"),
        ("pair", "returned a tuple of 2; return a mapping with `images` and `labels`"),
    ],
)
def test_what_is_no_data_set_is_told(load, name, message):
    with pytest.raises(DataError, match=message):
        load(name)


def test_a_function_with_arguments_is_told(load):
    with pytest.raises(BadInput, match="cannot be called with no arguments"):
        load("needs")
