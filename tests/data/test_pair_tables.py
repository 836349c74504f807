"""Tables of images and texts: what is read of each kind of file, what is one group, and what is refused where."""

import json

import numpy as np
import pytest
from PIL import Image

from compresslab.data.decoding import Decoding
from compresslab.data.pair_tables import read_pairs
from compresslab.data.pairs import IMAGES, TEXTS, from_tables
from compresslab.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Three pictures."""
    for name in ("a", "b", "c"):
        Image.new("RGB", (8, 8), (ord(name), 0, 0)).save(tmp_path / f"{name}.png")
    return tmp_path


def csv(folder, *lines, name="pairs.csv"):
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def groups(table):
    """Texts by image, as the groups say."""
    return {
        path.name: {text for text, of in zip(table.texts, table.text_groups, strict=True) if of == group}
        for path, group in zip(table.images, table.image_groups, strict=True)
    }


def test_rows_that_share_an_image_or_a_text_are_one_group(folder):
    path = csv(folder, "image,text", "a.png,red", "a.png,a red one", "b.png,a red one", "c.png,blue")
    table = read_pairs(path)["train"]
    both = {"red", "a red one"}
    assert groups(table) == {"a.png": both, "b.png": both, "c.png": {"blue"}}
    assert len(table.images) == 3, "an image that stands in two rows is read once"


def test_a_group_column_says_what_belongs_together(folder):
    path = csv(folder, "image,text,group", "a.png,red,x", "b.png,crimson,x", "c.png,blue,y")
    assert groups(read_pairs(path)["train"]) == {
        "a.png": {"red", "crimson"}, "b.png": {"red", "crimson"}, "c.png": {"blue"},
    }  # fmt: skip


def test_a_split_column_parts_the_table(folder):
    path = csv(folder, "image,text,split", "a.png,red,train", "b.png,green,dev", "c.png,blue,test")
    assert {split: table.texts for split, table in read_pairs(path).items()} == {
        "train": ("red",), "validation": ("green",), "test": ("blue",),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same(folder, kind):
    rows = [{"image": "a.png", "text": "red, mostly"}, {"image": "b.png", "text": "green"}]
    path = folder / f"pairs.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        mark = "," if kind == "csv" else "\t"
        path.write_text(f"image{mark}text\n" + "".join(f'{row["image"]}{mark}"{row["text"]}"\n' for row in rows))
    assert groups(read_pairs(path)["train"]) == {"a.png": {"red, mostly"}, "b.png": {"green"}}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (("image,text", "a.png,red", "b.png,"), r"pairs.csv:3: has no text, so its image has no partner; .*`transfer`"),
        (("image,text", "a.png,\u200b"), r"pairs.csv:2: has no text, so its image has no partner"),
        (("image,text", ",red"), r"pairs.csv:2: has no image, so its text has no partner"),
        (("image,text", "missing.png,red"), r"pairs.csv:2: there is no image .*missing.png; paths start from"),
        (("picture,text", "a.png,red"), r"pairs.csv:1: has no `image`; found `picture`, `text`"),
        (("image,text,split", "a.png,red,later"), r"pairs.csv:2: the split is 'later'; it may be `train`"),
        (("image,text,group", "a.png,red,x", "b.png,green,"), r"pairs.csv:3: has no `group`, but other rows"),
        (("image,text", "a.png,red,more"), r"pairs.csv:2: has 3 fields, but the header names 2"),
        (("image,text,split", "a.png,red,test"), r"no row is of the split `train`; found `test`"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder, lines, told):
    with pytest.raises(DataError, match=told):
        read_pairs(csv(folder, *lines))


def test_half_of_a_letter_is_told_with_its_line(folder):
    path = folder / "pairs.jsonl"
    path.write_text('{"image": "a.png", "text": "red"}\n{"image": "b.png", "text": "green \\udc00"}\n')
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: the text has '\\udc00', half of a surrogate pair"):
        read_pairs(path)


def test_a_broken_image_is_told_with_its_line(folder):
    (folder / "b.png").write_bytes((folder / "b.png").read_bytes()[:40])
    path = csv(folder, "image,text", "a.png,red", "b.png,green")
    with pytest.raises(DataError, match=r"pairs.csv:3: [^:]*b.png: cannot be read as an image"):
        from_tables(path, {}, Decoding(8, 3, "bilinear", 1.0), folder / "cache")


def test_images_are_decoded_beside_their_groups(folder):
    path = csv(folder, "image,text", "c.png,blue", "a.png,red")
    source = from_tables(path, {"other": path}, Decoding(4, 3, "bilinear", 1.0), folder / "cache")
    side = source.parts["train"][IMAGES]
    assert side.inputs.shape == (2, 4, 4, 3)
    assert side.inputs[:, 0, 0, 0].tolist() == [ord("c"), ord("a")], "in the table's order"
    assert np.array_equal(side.groups, source.parts["train"][TEXTS].groups)
    assert list(source.benchmarks) == ["other"]
