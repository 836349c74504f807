"""Every stage keeps its contract on a task of embeddings, also with a teacher of another width."""

from compresslab.distillation import Recipe
from compresslab.models import Mlp, ModelSpec
from compresslab.stages import Distill, Mutual, Prune, Quantize, Train
from compresslab.testing import StageContract

SHORT = Recipe(epochs=1, batch=64, learning_rate=0.05, precision="fp32")
SMALL = ModelSpec(mlp=Mlp(widths=(8,)))


class TestTrainEmbeddings(StageContract):
    stage = Train(epochs=1, batch=64)
    answers = "embeddings"


class TestDistillEmbeddings(StageContract):
    stage = Distill(epochs=1, batch=64, student=SMALL, control=True)
    answers = "embeddings"


class TestMutualEmbeddings(StageContract):
    stage = Mutual(epochs=1, batch=64, peers=(SMALL,) * 2)
    answers = "embeddings"


class TestPruneEmbeddings(StageContract):
    stage = Prune(ratio=0.5, importance="taylor", scope="global", round_to=4, recover=SHORT)
    answers = "embeddings"


class TestQuantizeEmbeddings(StageContract):
    stage = Quantize(mode="ptq", samples=24)
    answers = "embeddings"
