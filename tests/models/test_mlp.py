import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.models import Mlp, ModelSpec, Residual, Signature
from compresslab.models.architecture import describe, load, rebuild, save
from compresslab.models.check import require_fit
from compresslab.pruning import cut, find_groups
from compresslab.tasks import Score

FEATURES = Signature("features", 5, 1)
ROWS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))


def built(signature: Signature = FEATURES, seed: int = 0, **settings) -> TorchModel:
    torch.manual_seed(seed)
    return ModelSpec(mlp=Mlp(**({"widths": (16, 8)} | settings))).build(signature)


def test_layers_are_what_was_asked():
    module = built(widths=(16, 8), activation="gelu", dropout=0.25).module
    kinds = [type(layer).__name__ for layer in module.hidden]
    assert kinds == ["Linear", "GELU", "Dropout", "Linear", "GELU", "Dropout"]
    assert sum(parameter.numel() for parameter in module.parameters()) == 5 * 16 + 16 + 16 * 8 + 8 + 8 + 1
    assert module(ROWS).shape == (7, 1)
    assert not module.training


def test_answers_are_in_the_units_of_the_targets():
    plain = built().module
    scaled = built(Signature("features", 5, 1, center=40.0, scale=15.0)).module
    torch.testing.assert_close(scaled(ROWS), 40.0 + 15.0 * plain(ROWS))


def test_answers_far_from_zero_survive_bfloat16():
    """Which has eight bits: near 300 it knows every second number."""
    module = built(Signature("features", 5, 1, center=300.0, scale=2.0)).module
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        answers = module(ROWS)
    with torch.no_grad():
        assert (answers - module(ROWS)).abs().max() < 0.02


@pytest.mark.parametrize(("center", "scale"), [(5e4, 1000.0), (0.0, 1e-3)])
def test_targets_of_any_size_are_learned_alike(center, scale):
    """The same gradients: else a learning rate that suits one unit diverges, or stands still, in another."""
    targets = torch.randn(7, generator=torch.Generator().manual_seed(1))
    gradients = []
    for center_, scale_ in ((0.0, 1.0), (center, scale)):
        module = built(Signature("features", 5, 1, center_, scale_)).module
        Score("x", center_, scale_).loss(module(ROWS), center_ + scale_ * targets).backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-2, atol=1e-4)


def test_a_pruned_network_is_rebuilt_without_pickle(tmp_path):
    start = built(Signature("features", 5, 1, center=3.0, scale=0.5))
    groups = find_groups(start.module, ROWS)
    assert "head" in groups.kept
    pruned = cut(start.module, groups, {group.name: range(0, group.units, 2) for group in groups})
    assert pruned.hidden[0].out_features < 16
    model = TorchModel(pruned, start.builder)
    save(model, tmp_path)
    again = load(tmp_path)
    torch.testing.assert_close(again.module(ROWS), pruned(ROWS), rtol=0, atol=0)
    assert again.builder["scale"] == 0.5
    assert rebuild(json.loads(json.dumps(describe(model)))).hidden[0].out_features == pruned.hidden[0].out_features


def test_a_checkpoint_must_be_for_the_task(tmp_path):
    save(built(), tmp_path)
    spec = ModelSpec(checkpoint=str(tmp_path))
    torch.testing.assert_close(spec.build(FEATURES).module(ROWS), built().module(ROWS))
    other_units = spec.build(Signature("features", 5, 1, center=9.0, scale=2.0))
    torch.testing.assert_close(other_units.module(ROWS), built().module(ROWS), msg="it keeps those it was trained in")
    for signature, message in (
        (Signature("features", 6, 1), "the network is for 5 features, but the task has 6"),
        (Signature("features", 5, 3), "the network is for 1 outputs, but the task has 3"),
        (Signature("images", 5, 1), "reads rows of features, but the task's samples are images; give `residual`"),
    ):
        with pytest.raises(ModelError, match=message):
            spec.build(signature)


def test_a_network_for_other_samples_is_refused_before_it_is_built(tmp_path):
    """torch would say that mat1 and mat2 cannot be multiplied."""
    with pytest.raises(ModelError, match="`mlp` reads rows of features, but the task's samples are images; give `resi"):
        built(Signature("images", 1, 10))
    with pytest.raises(
        ModelError, match="`residual` reads images, but the task's samples are rows of features; give `m"
    ):
        ModelSpec(residual=Residual(widths=(8,))).build(FEATURES)
    save(ModelSpec(residual=Residual(widths=(8,))).build(Signature("images", 5, 1)), tmp_path)
    with pytest.raises(ModelError, match="reads images, but the task's samples are rows of features"):
        ModelSpec(checkpoint=str(tmp_path)).build(FEATURES)


def test_one_number_a_sample_is_asked_for():
    flat = TorchModel(nn.Sequential(nn.Linear(5, 1), nn.Flatten(0)), {})
    with pytest.raises(
        ModelError, match=r"returns shape \[7\] .*asks for one number a sample and needs \[7, 1\]; add `"
    ):
        require_fit(flat, ROWS.numpy(), 1)
    with pytest.raises(ModelError, match=r"returns shape \[7, 3\] for 7 inputs, but the task asks for one number"):
        require_fit(TorchModel(nn.Linear(5, 3), {}), ROWS.numpy(), 1)
    require_fit(built(), ROWS.numpy(), 1)


def test_settings():
    spec = ModelSpec.model_validate_json('{"mlp": {"widths": [64, 32], "dropout": 0.1}}')
    assert not spec.has_weights
    assert ModelSpec(mlp=Mlp(widths=(8,)), weights="x.pt").has_weights
    assert ModelSpec.model_validate(spec.model_dump(mode="json")) == spec
    for given, message in (
        ({"widths": ()}, "at least 1 item"),
        ({"widths": (0,)}, "greater than or equal to 1"),
        ({"widths": (8,), "dropout": 1.0}, "less than 1"),
        ({"widths": (8,), "activation": "tanh"}, "Input should be 'relu' or 'gelu'"),
    ):
        with pytest.raises(ValidationError, match=message):
            Mlp(**given)
    with pytest.raises(ValidationError, match="but got `residual` and `mlp`"):
        ModelSpec(mlp=Mlp(widths=(8,)), residual=Residual(widths=(8,)))
