"""Bundles to serve, and the environments that `make servers` makes for real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.servers.bundles import image_bundle, two_graph_bundle
from compresslab.measure.artifact import Artifact
from tests.models.conftest import libraries

__all__ = ["libraries"]


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One graph of images; shared, so nobody changes it."""
    return image_bundle(tmp_path_factory.mktemp("bundles") / "image")


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Two graphs; shared, so nobody changes it."""
    return two_graph_bundle(tmp_path_factory.mktemp("bundles") / "pair")


@pytest.fixture
def own_image(tmp_path: Path) -> Artifact:
    """As `image`, to be changed."""
    return image_bundle(tmp_path / "own")
