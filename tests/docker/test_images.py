"""The images, built and run for real: whatever `python -m benchmarks.images` tries."""

from __future__ import annotations

import pytest

from benchmarks.images.building import BASE, NO_TORCH, TORCH_INDEX, Built, build
from benchmarks.images.check import CHECKS, DOCKERFILES, Check
from benchmarks.images.engine import NONE_FOUND, BuildFailed, Engine, find_engine
from benchmarks.images.trying import checks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def engine() -> Engine:
    found = find_engine()
    if found is None:
        pytest.skip(NONE_FOUND)
    if not found.has(BASE):
        pytest.skip(f"{found.name} has no {BASE}, and cannot pull it")
    return found


@pytest.fixture(scope="module")
def images(engine: Engine) -> dict[str, Built]:
    try:
        return {built.image: built for built in build(engine)}
    except BuildFailed as failed:
        if NO_TORCH in str(failed):
            pytest.skip(f"pip finds no CPU build of torch here: name the index that has it in {TORCH_INDEX}")
        raise


@pytest.fixture(scope="module")
def tried(engine: Engine, images: dict[str, Built], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Check]:
    return {check.name: check for check in checks(engine, tmp_path_factory.mktemp("images") / "work")}


@pytest.mark.parametrize("name", CHECKS)
def test_what_an_image_promises(tried: dict[str, Check], name: str) -> None:
    assert tried[name].found == tried[name].expected


def test_nothing_is_tried_that_is_not_looked_at(tried: dict[str, Check]) -> None:
    assert tuple(tried) == CHECKS


def test_images_are_as_small_as_promised(images: dict[str, Built]) -> None:
    assert tuple(images) == tuple(DOCKERFILES)
    assert [built for built in images.values() if not built.small_enough] == []
