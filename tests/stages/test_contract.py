"""Every stage keeps the contract that is shipped for the stages of others."""

import pytest

from compresslab.distillation import Recipe
from compresslab.distillation.terms import Hint, Kd, LossTerm, Rkd
from compresslab.models import ModelSpec, Residual
from compresslab.quantization import OnnxRuntimeSettings
from compresslab.stages import STAGES, Distill, Mutual, Prune, Quantize, Train
from compresslab.testing import StageContract

SHORT = Recipe(epochs=1, batch=64, learning_rate=0.05, precision="fp32")


class TestTrain(StageContract):
    stage = Train(epochs=1, batch=64)


class TestDistillIncoming(StageContract):
    stage = Distill(epochs=2, batch=64, views=1)


class TestDistillStudent(StageContract):
    stage = Distill(epochs=1, batch=64, student=ModelSpec(residual=Residual(widths=(8, 8))))


class TestDistillWithFeatures(StageContract):
    stage = Distill(
        epochs=1, batch=64, views=1, mixup=0.5,
        losses=(
            LossTerm(kd=Kd(weight=1.0)),
            LossTerm(hint=Hint(student="stages.1", teacher="stages.1")),
            LossTerm(rkd=Rkd(student="stages.1", teacher="stages.1", weight=0.1)),
        ),
    )  # fmt: skip


class TestDistillWithControl(StageContract):
    stage = Distill(epochs=1, batch=64, views=1, control=True)


class TestMutual(StageContract):
    stage = Mutual(epochs=1, batch=64, peers=(ModelSpec(residual=Residual(widths=(8,))),) * 2)


class TestPruneMagnitude(StageContract):
    stage = Prune(ratio=0.5, importance="magnitude", scope="local", round_to=4, recover=SHORT)


class TestPruneTaylor(StageContract):
    stage = Prune(ratio=0.5, importance="taylor", scope="global", round_to=4, recover=None)


class TestPruneToTime(StageContract):
    stage = Prune(latency=0.5, round_to=4, recover=SHORT)


class TestPruneByParametersInSteps(StageContract):
    stage = Prune(parameters=0.5, scope="isomorphic", importance="hessian", round_to=2, steps=2, recover=SHORT)


class TestPruneBySensitivity(StageContract):
    stage = Prune(macs=0.6, scope="sensitivity", round_to=2, recover=None)


class TestQuantizePtq(StageContract):
    stage = Quantize(mode="ptq", samples=24)


class TestQuantizeQat(StageContract):
    stage = Quantize(mode="qat", samples=24, qat=SHORT)


class TestQuantizeAuto(StageContract):
    stage = Quantize(mode="auto", samples=24, qat=SHORT)


class TestQuantizeOnnxRuntime(StageContract):
    stage = Quantize(backend="onnxruntime", samples=24)


@pytest.mark.slow
class TestQuantizeNeuralCompressor(StageContract):
    stage = Quantize(backend="neural_compressor", samples=24)

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("neural_compressor", reason="the extra `inc` is not installed")


class TestQuantizeOnnxRuntimePercentile(StageContract):
    stage = Quantize(backend="onnxruntime", samples=24, onnxruntime=OnnxRuntimeSettings(calibration="percentile"))


def test_every_stage_is_here():
    assert set(STAGES.values()) == {Train, Distill, Mutual, Prune, Quantize}
    assert {name: stage.kind for name, stage in STAGES.items()} == {name: name for name in STAGES}
