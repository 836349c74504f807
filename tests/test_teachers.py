"""What a run's results are held against, where the teacher is no single network."""

import numpy as np
import pytest
import torch

from compresslab import ModelSpec, Pipeline, Residual, TaskSpec, Train
from compresslab.models import architecture
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.tasks import ImageClassification
from compresslab.teacher import TeacherSpec
from compresslab.teachers import Teachers
from compresslab.testing import stripes, tiny_candidate


@pytest.fixture
def opened(tmp_path):
    """Opens a teacher on a tiny task."""
    np.savez(tmp_path / "stripes.npz", **stripes(samples=90))
    spec = TaskSpec(image_classification=ImageClassification(npz=str(tmp_path / "stripes.npz")))
    task = spec.load(tmp_path)
    for seed in (1, 2):
        architecture.save(tiny_candidate((8,), seed).network, tmp_path / str(seed))

    def open_(teacher):
        model = ModelSpec(residual=Residual(widths=(8,)))
        pipeline = Pipeline(task=spec, model=model, teacher=teacher, stages=[Train(epochs=1)])
        baseline = model.build(task.signature)
        store = Store(tmp_path / "store")
        return Teachers(pipeline, baseline, lambda one: one.build(task.signature), task, store, "cpu", Silent()), task

    return open_


def network(tmp_path, seed):
    return TeacherSpec(checkpoint=str(tmp_path / str(seed)))


def logits(seed, task, split):
    inputs = torch.from_numpy(task.batch(split, np.arange(len(task.splits[split].inputs)), None))
    with torch.no_grad():
        return tiny_candidate((8,), seed).network.module(inputs).numpy()


def test_one_network_is_held_against_as_the_file_it_becomes(opened, tmp_path):
    assert opened(network(tmp_path, 1))[0].answers(("test",)) is None
    assert opened(None)[0].answers(("test",)) is None


def test_several_networks_answer_as_one(opened, tmp_path):
    teachers, task = opened(TeacherSpec(average=(network(tmp_path, 1), network(tmp_path, 2))))
    found = teachers.answers(("validation", "test"))
    assert set(found.outputs) == {"validation", "test"}
    expected = (logits(1, task, "test") + logits(2, task, "test")) / 2
    np.testing.assert_allclose(found.outputs["test"], expected, atol=0.05 * np.abs(expected).max())


def test_the_best_of_several_has_no_specification_of_its_own_to_build(opened, tmp_path):
    teachers, task = opened(TeacherSpec(best_of=(network(tmp_path, 1), network(tmp_path, 2))))
    found = teachers.answers(("test",)).outputs["test"]
    differences = [np.abs(found - logits(seed, task, "test")).max() for seed in (1, 2)]
    assert min(differences) < 0.05 < max(differences)


def test_the_digest_is_of_what_is_said(opened, tmp_path):
    """And so of the rows, too: the same file says something else of data in another order."""
    digests = set()
    for seed in (0, 0, 1):
        values = np.random.default_rng(seed).normal(size=(90, 3))
        np.savez(tmp_path / f"{seed}.npz", train=values)
        teachers, _ = opened(TeacherSpec(predictions=str(tmp_path / f"{seed}.npz")))
        digests.add(teachers.answers(("validation",)).digest)
    assert len(digests) == 2
