"""A student of another hidden width: what flows from layer to layer, projected on its principal components.

As Ashkboos et al., "SliceGPT" (arXiv 2401.15024), which is for RMSNorm in front of each block. BERT's kind has a
LayerNorm behind each sum, which no projection passes through unchanged: its scales are fitted anew, and the direction
that it takes out, the mean, is kept one that it takes out.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.models.sentence_net import DenseLayer, SentenceEncoder
from compresslab.students.embedding import table_of
from compresslab.students.seeing import Examples, inputs_of, outputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.candidate import TorchModel

# Of transformers' BERT and RoBERTa, DistilBERT, and MPNet: what reads the hidden states, and what is added to them.
_READS = ("self.query", "self.key", "self.value", "q_lin", "k_lin", "v_lin", "attn.q", "attn.k", "attn.v",
          "intermediate.dense", "lin1")  # fmt: skip
_WRITES = ("output.dense", "out_lin", "attn.o", "lin2")
_RIDGE = 1e-4


@torch.no_grad()
def narrow(model: TorchModel, width: int, examples: Examples) -> TorchModel:
    """The encoder with this hidden width, and behind its pooling a Dense layer back to the width that it had.

    Args:
        model: A sentence encoder; left as it is.
        width: Of its hidden states.
        examples: Texts, by which the components are found and the scales fitted.

    Raises:
        ModelError: It is no sentence encoder, not wider than that, or of a kind that is not known.
    """
    module = model.module
    if not isinstance(module, SentenceEncoder) or model.builder is None:
        raise ModelError(
            "`width` is for sentence encoders, whose embeddings a Dense layer brings back to the teacher's width; "
            "leave it out, or give `ffn` and `layers`"
        )
    inner = module.transformer
    whole = table_of(module).embedding_dim
    if width >= whole:
        raise ModelError(f"`width` is {width}, but the teacher's is {whole}; give a smaller one, or leave it out")
    reads, writes, norms = _streams(inner, whole)
    states = outputs_of(inner, norms, examples)
    projection = _projection([states[name].double() for name in norms], width)
    means = {name: seen.double().mean(0) for name, seen in inputs_of(inner, reads, examples).items()}
    smaller = copy.deepcopy(module)
    _project(smaller.transformer, projection, reads, writes, norms, means)
    for name in norms:
        _fit_norm(smaller.transformer, name, states[name].double() @ projection, examples)
    back = nn.Linear(width, whole)
    _fit_back(back, outputs_of(smaller.transformer, norms[-1:], examples)[norms[-1]], states[norms[-1]])
    smaller.dense = nn.Sequential(nn.Sequential(back, nn.Identity()), *smaller.dense)
    dense = [DenseLayer(inputs=width, outputs=whole).model_dump(mode="json"), *model.builder.get("dense", ())]
    return replace(model, module=smaller.eval(), builder={**model.builder, "dense": dense})


def _streams(inner: nn.Module, width: int) -> tuple[list[str], list[str], list[str]]:
    """The layers that read the hidden states, those that add to them, and the normalizations, in order."""
    reads, writes, norms = [], [], []
    for name, part in inner.named_modules():
        if isinstance(part, nn.LayerNorm) and part.normalized_shape == (width,):
            norms.append(name)
        elif isinstance(part, nn.Linear):
            if name.endswith(_READS) and part.in_features == width:
                reads.append(name)
            elif name.endswith(_WRITES) and part.out_features == width:
                writes.append(name)
            else:
                raise _unknown(inner, name)
    # A sum and a LayerNorm behind each of the two halves of a layer; networks that normalize first have one more.
    if not reads or len(norms) != len(writes) + 1 or not norms[0].startswith("embeddings."):
        raise _unknown(inner, norms[-1] if norms else "")
    return reads, writes, norms


def _unknown(inner: nn.Module, name: str) -> ModelError:
    return ModelError(
        f"`width` cannot be cut in a {type(inner).__name__} (its `{name}`), only in BERT, RoBERTa, MPNet and "
        "DistilBERT of transformers'; leave it out, or give `ffn` and `layers`"
    )


def _projection(states: Sequence[Tensor], width: int) -> Tensor:
    """Orthonormal [whole, width]: the principal components of all hidden states, and the direction of their mean.

    Turned so that what a LayerNorm of the student takes out of its hidden states, the mean of their numbers, is what
    the teacher's takes out.
    """
    whole = states[0].shape[1]
    constant = torch.full((whole, 1), whole**-0.5, dtype=torch.float64)
    covariance = torch.zeros(whole, whole, dtype=torch.float64)
    for one in states:
        centred = one - one.mean(0)
        # Each as large as the others, whatever its scale.
        covariance += centred.T @ centred / centred.square().sum()
    outside = torch.eye(whole, dtype=torch.float64) - constant @ constant.T
    components = torch.linalg.eigh(outside @ covariance @ outside).eigenvectors[:, -(width - 1) :].flip(1)
    basis = torch.cat([constant, components], 1)
    mirror = torch.full((width, 1), width**-0.5, dtype=torch.float64)
    mirror[0] -= 1
    mirror /= mirror.norm()
    return basis - 2 * (basis @ mirror) @ mirror.T


def _project(
    inner: nn.Module, projection: Tensor, reads: Sequence[str], writes: Sequence[str], norms: Sequence[str],
    means: dict[str, Tensor],
) -> None:  # fmt: skip
    """Takes the weights to the components, in place; what is constant in the rest goes into biases."""
    whole, width = projection.shape
    for name, part in inner.named_modules():
        if isinstance(part, nn.Embedding) and part.embedding_dim == whole:
            part.weight, part.embedding_dim = _new(part.weight, part.weight.double() @ projection), width
        elif isinstance(part, nn.Linear) and name in reads:
            lost = means[name] - projection @ (projection.T @ means[name])
            if part.bias is not None:
                part.bias = _new(part.bias, part.bias.double() + part.weight.double() @ lost)
            part.weight, part.in_features = _new(part.weight, part.weight.double() @ projection), width
        elif isinstance(part, nn.Linear) and name in writes:
            if part.bias is not None:
                part.bias = _new(part.bias, projection.T @ part.bias.double())
            part.weight, part.out_features = _new(part.weight, projection.T @ part.weight.double()), width
        elif isinstance(part, nn.LayerNorm) and name in norms:
            part.weight, part.bias = _new(part.weight, torch.ones(width)), _new(part.bias, torch.zeros(width))
            part.normalized_shape = (width,)


def _fit_norm(inner: nn.Module, name: str, wanted: Tensor, examples: Examples) -> None:
    """Gives a LayerNorm, whose scales are ones now, those that come nearest to `wanted`, one number at a time."""
    norm = inner.get_submodule(name)
    found = outputs_of(inner, [name], examples)[name].double()
    mean, goal = found.mean(0), wanted.mean(0)
    centred = found - mean
    scale = (centred * (wanted - goal)).sum(0) / centred.square().sum(0).clamp_min(torch.finfo(torch.float32).tiny)
    norm.weight.copy_(scale)  # type: ignore[operator]
    norm.bias.copy_(goal - scale * mean)  # type: ignore[operator]


def _fit_back(back: nn.Linear, states: Tensor, wanted: Tensor) -> None:
    """The linear map from the student's hidden states to the teacher's, by least squares over all tokens."""
    given, goal = states.double(), wanted.double()
    mean, target = given.mean(0), goal.mean(0)
    centred = given - mean
    square = centred.T @ centred
    ridge = _RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    weight = torch.linalg.solve(square + ridge, centred.T @ (goal - target)).T
    back.weight.copy_(weight)
    back.bias.copy_(target - weight @ mean)


def _new(old: Tensor, values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.to(old.dtype).contiguous(), old.requires_grad)
