"""`student: from_teacher` and `static`, as a pipeline says them and a stage makes them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from compresslab.errors import ModelError
from compresslab.models import ModelSpec, Signature
from compresslab.models.architecture import load, save
from compresslab.stages import Distill
from compresslab.students import StudentSpec, rehearse_student
from compresslab.tasks import TaskSpec
from compresslab.testing import context, tiny_candidate, tiny_task
from tests.models.encoders import save_sentence_transformers
from tests.texts import save_distilbert, sentences, write_csv

pytestmark = pytest.mark.usefixtures("libraries")

CUT = {"layers": [1], "ffn": 32, "vocabulary": {"trim": {"min_count": 30}}, "embedding_rank": 16}


@pytest.fixture
def classifying(tmp_path):
    """A task on texts, a tiny DistilBERT for it, and a context in which it teaches."""
    folder = save_distilbert(tmp_path / "teacher")
    texts, labels = sentences(200)
    file = write_csv(tmp_path / "tickets.csv", texts, labels)
    plain = {"text_classification": {"csv": str(file), "text": "body", "label": "queue",
                                     "tokenizer": str(folder / "tokenizer.json"), "max_length": 32}}  # fmt: skip
    task = TaskSpec.model_validate(plain).load(tmp_path)
    model = ModelSpec(hf=str(folder)).build(task.signature)
    return task, context(tmp_path, task, model)


def test_a_stage_makes_a_student_with_a_tokenizer_of_its_own(classifying, tmp_path):
    task, here = classifying
    stage = Distill.model_validate({"student": {"from_teacher": CUT}, "epochs": 1, "batch": 32})
    (made,) = stage.apply(tiny_candidate(), here)
    own = made.network.preprocessing
    assert own is not None
    assert own.vocabulary < task.preprocessing.vocabulary
    assert made.lineage[-1].decisions["tokens"] == own.vocabulary
    batch = torch.from_numpy(task.read_by(own).batch("validation", np.arange(4), None))
    save(made.network, tmp_path / "kept")
    again = load(tmp_path / "kept")
    with torch.no_grad():
        assert torch.equal(again.module(batch), made.network.module(batch))
    assert (again.preprocessing.sha256, again.preprocessing.file.parent) == (own.sha256, tmp_path / "kept")
    rehearsed = rehearse_student(stage.student, here.teacher, task)
    assert [name for name, _ in rehearsed.module.named_modules()] == [
        name for name, _ in made.network.module.named_modules()
    ], "losses on layers are tried on the student as it will be"


def test_without_a_network_to_be_made_of(tmp_path):
    task = tiny_task(tmp_path)
    stage = Distill.model_validate({"student": {"from_teacher": {"layers": [0]}}, "epochs": 1})
    with pytest.raises(ModelError, match="has no teacher"):
        stage.apply(tiny_candidate(), context(tmp_path, task))
    residual = tiny_candidate((16, 16)).network
    with pytest.raises(ModelError, match="has no lists of transformer layers where there must be one"):
        stage.apply(tiny_candidate(), context(tmp_path, task, residual))
    static = Distill.model_validate({"student": {"static": {}}, "epochs": 1})
    with pytest.raises(ModelError, match="samples are no texts"):
        static.apply(tiny_candidate(), context(tmp_path, task, residual))


@pytest.mark.parametrize(("plain", "told"), [
    ({"from_teacher": {}, "static": {}}, "exactly one of"),
    ({"from_teacher": {}, "timm": "resnet18"}, "exactly one of"),
    ({"from_teacher": {}, "arguments": {"a": 1}}, "`arguments` is that of another network"),
    ({"timm": "resnet18", "pooling": "cls"}, "`pooling` is how an `hf` network makes embeddings"),
])  # fmt: skip
def test_what_a_student_cannot_be(plain, told):
    with pytest.raises(ValidationError, match=told):
        StudentSpec.model_validate(plain)


def test_sources_of_encoders(tmp_path):
    save_sentence_transformers(tmp_path / "source")
    wanted = Signature("texts", 70, 8, any_width=True)
    tokens = torch.tensor([[2, 5, 6, 3]])
    whole = ModelSpec(sentence_transformers=str(tmp_path / "source")).build(wanted)
    bare = ModelSpec(hf=str(tmp_path / "source"), pooling="cls", normalize=False).build(wanted)
    with torch.no_grad():
        assert whole.module(tokens).norm() == pytest.approx(1, abs=1e-5)
        assert bare.module(tokens).norm() != pytest.approx(1, abs=1e-2)
    assert (whole.preprocessing.max_length, bare.preprocessing.max_length) == (16, 40)
    save(whole, tmp_path / "kept")
    again = ModelSpec(checkpoint=str(tmp_path / "kept"))
    assert torch.equal(again.build(wanted).module(tokens), whole.module(tokens))
    with pytest.raises(ModelError, match="makes embeddings, and the task asks for none"):
        again.build(Signature("texts", 70, 3))
    with pytest.raises(ModelError, match="`sentence_transformers` reads texts, but the task's samples are images"):
        ModelSpec(sentence_transformers=str(tmp_path / "source")).build(Signature("images", 3, 3))
