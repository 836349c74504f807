import sys

import numpy as np
import pytest

from compresslab.data.features import load_table_npz, load_table_python, table_source
from compresslab.errors import BadInput, DataError

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(6, 3)).astype(np.float32)
TARGETS = np.array([0.5, -1.0, 2.0, 3.0, 0.0, 1.5])
GOOD = {"features": FEATURES, "targets": TARGETS}


def broken(row: int, value: float) -> np.ndarray:
    changed = FEATURES.copy()
    changed[row, 1] = value
    return changed


def test_one_table_is_read(tmp_path):
    path = tmp_path / "rows.npz"
    np.savez(path, features=FEATURES, targets=TARGETS)
    source = load_table_npz(path)
    assert (source.name, list(source.parts)) == ("rows", ["train"])
    assert (source.train.inputs == FEATURES).all()
    assert source.train.targets.dtype == np.float32
    assert source.train.targets.tolist() == TARGETS.tolist()


def test_parts_of_their_own_are_read(tmp_path):
    path = tmp_path / "rows.npz"
    parts = {"validation_features": FEATURES[:2], "validation_targets": [1, 2], "test_features": FEATURES[:1]}
    np.savez(path, features=FEATURES, targets=TARGETS, test_targets=[7], **parts)
    source = load_table_npz(path)
    assert {name: len(part.inputs) for name, part in source.parts.items()} == {"train": 6, "validation": 2, "test": 1}
    assert source.test.targets.tolist() == [7.0]


def test_both_zeros_are_one_content():
    """-0.0 and 0.0 have other bytes, so that a copy of a sample would not be found."""
    signed = FEATURES.copy()
    signed[0, 0] = -0.0
    inputs = table_source("here", "x", {"features": signed, "targets": TARGETS}).train.inputs
    assert not np.signbit(inputs[0, 0])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"feature": FEATURES}, r"unknown part `feature`; did you mean `features`\? \(allowed: features, targets,"),
        ({"features": FEATURES.astype(float)}, r"must be float32, but are float64; use `features\.astype\(numpy"),
        ({"features": FEATURES.astype(np.float16)}, "must be float32, but are float16; use"),
        ({"features": np.array([["a"]])}, "must be float32, but are <U1$"),
        ({"features": np.array([{}])}, r"but are object; give a dense array of numbers .*toarray"),
        ({"features": FEATURES[:, 0]}, r"must have shape \[n, d\], but have \[6\]; for one feature a sample use"),
        ({"features": FEATURES[:, None]}, r"but have \[6, 1, 3\]; use `features\.reshape\(len\(features\), -1\)`"),
        ({"features": FEATURES[:0]}, r"there are no features \(shape \[0, 3\]\)"),
        ({"features": broken(4, np.nan)}, r"1 of 6 rows hold NaN or infinity, .* \(the first: 4\); leave those"),
        ({"features": broken(2, -np.inf)}, r"`features`: 1 of 6 rows hold NaN or infinity.*\(the first: 2\)"),
        ({"targets": TARGETS[:5]}, "`targets`: 6 rows of features, but 5 targets"),
        ({"targets": TARGETS[:, None]}, r"of shape \[6, 1\]; use `targets\[:, 0\]`"),
        ({"targets": np.eye(6)}, r"must be numbers of shape \[n\], but are float64 of shape \[6, 6\]$"),
        ({"targets": TARGETS > 1}, r"must be numbers of shape \[n\], but are bool"),
        ({"targets": [1, 2, 3, 4, 5, None]}, "but are object of shape"),
        ({"targets": [1, 2, 3, 4, np.nan, np.inf]}, r"`targets`: 2 of 6 targets hold NaN .* \(the first: 4, 5\)"),
        ({"targets": [1, 2, 3, 4, 5, 1e300]}, "too large for float32"),
        ({"test_features": FEATURES}, "there is `test_features`, but no `test_targets`; give both, or neither"),
        ({"validation_targets": TARGETS}, "there is `validation_targets`, but no `validation_features`"),
        (
            {"test_features": FEATURES[:, :2], "test_targets": TARGETS},
            "`test_features`: 2 features a sample, but the training data has 3; compute them alike",
        ),
    ],
)
def test_what_is_no_table_is_told_with_the_remedy(parts, message):
    with pytest.raises(DataError, match=message):
        table_source("rows.npz", "rows", GOOD | parts)


def test_what_must_be_there_is_told():
    with pytest.raises(DataError, match="`features` is missing; found nothing"):
        table_source("rows.npz", "rows", {})
    with pytest.raises(DataError, match="`targets` is missing; found `features`"):
        table_source("rows.npz", "rows", {"features": FEATURES})


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_rows.py").write_text(
        "import numpy as np\n"
        "def table():\n    return {'features': np.ones((4, 2), np.float32), 'targets': [1, 2, 3, 4]}\n"
        "def pair():\n    return np.ones((4, 2), np.float32), [1, 2, 3, 4]\n"
        "def fails():\n    return 1 / 0\n"
    )
    yield f"{tmp_path}/own_rows.py"
    sys.modules.pop("own_rows", None)


def test_a_function_of_the_users_own(own):
    source = load_table_python(f"{own}:table")
    assert (source.name, source.train.targets.tolist()) == ("table", [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(DataError, match="returned a tuple; return a mapping with `features` and `targets`"):
        load_table_python(f"{own}:pair")
    with pytest.raises(BadInput, match="failed with ZeroDivisionError"):
        load_table_python(f"{own}:fails")
