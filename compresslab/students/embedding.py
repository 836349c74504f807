"""The table of a student's word embeddings: with fewer rows, and as a product of two."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from compresslab.errors import ModelError
from compresslab.models.factorised import FactorisedEmbedding, factorise, with_factorised
from compresslab.models.hf_towers import renumbered

if TYPE_CHECKING:
    from compresslab.candidate import TorchModel
    from compresslab.students.vocabulary import Counts

# What libraries call the table of the tokens, beside those of positions and types.
_NAMES = ("word_embeddings", "embed_tokens", "tok_embeddings", "token_embedding", "wte")


def word_table(module: nn.Module) -> str:
    """The name of the word embeddings.

    Raises:
        ModelError: There is no such table, or there are several.
    """
    found: list[str] = [
        name for name, part in module.named_modules()
        if name.rpartition(".")[2] in _NAMES and isinstance(part, nn.Embedding | FactorisedEmbedding)
    ]  # fmt: skip
    if len(found) != 1:
        raise ModelError(
            f"{type(module).__name__} has {'no' if not found else len(found)} tables of word embeddings where "
            "there must be one; leave out `vocabulary` and `embedding_rank`, which are for networks that read texts"
        )
    return found[0]


def rows(module: nn.Module) -> int:
    """How many tokens the network knows.

    Raises:
        ModelError: As `word_table`.
    """
    return table_of(module).num_embeddings


@torch.no_grad()
def keep_tokens(model: TorchModel, kept: Counts) -> TorchModel:
    """The network with these rows of its word embeddings, in this order.

    Padding must keep its id: networks know it by that, and RoBERTa's kind counts positions from it.

    Args:
        model: Left as it is.
        kept: For each new id the old one.

    Raises:
        ModelError: The tokenizer has ids that the network does not have, or padding moves.
    """
    size = rows(model.module)
    if kept.max() >= size:
        raise ModelError(
            f"the tokenizer has id {kept.max()}, but the network has {size} embeddings: it is not this network's "
            "tokenizer"
        )
    module = copy.deepcopy(model.module)
    table = table_of(module)
    padding = table.padding_idx
    if padding is not None and (padding >= len(kept) or kept[padding] != padding):
        raise ModelError(
            f"padding has id {padding}, which would move when tokens before it are gone, and the network knows it by "
            "that id; leave `vocabulary` out"
        )
    table.weight = nn.Parameter(table.weight[torch.from_numpy(kept)].clone(), table.weight.requires_grad)
    table.num_embeddings = len(kept)
    if model.builder is None:
        return replace(model, module=module)
    return replace(model, module=module, builder=renumbered(model.builder, module, kept.tolist()))


@torch.no_grad()
def factorise_words(model: TorchModel, rank: int, counts: Counts) -> TorchModel:
    """The network whose word embeddings are [tokens, rank] @ [rank, width].

    By a singular value decomposition in which a row counts by the root of how often its token occurs, so that what is
    read often loses least, and rare words are not given up.

    Args:
        model: Left as it is.
        rank: Numbers that are kept of each token.
        counts: How often each token occurs in the training texts.

    Raises:
        ModelError: The rank is larger than the width.
    """
    name = word_table(model.module)
    table = table_of(model.module)
    if rank > min(table.weight.shape):
        raise ModelError(
            f"`embedding_rank` is {rank}, but the embeddings are {list(table.weight.shape)}; give at most "
            f"{min(table.weight.shape)}"
        )
    weight = table.weight.double()
    importance = torch.from_numpy(np.sqrt(counts + 1.0))[:, None]
    # Of [width, width], as a table of 30,000 rows need not be decomposed itself; the largest come last.
    basis = torch.linalg.eigh(weight.T @ (importance * weight)).eigenvectors[:, -rank:].flip(1)
    module = copy.deepcopy(model.module)
    with torch.random.fork_rng(devices=[]):
        factorise(module, {name: rank})
    made = module.get_submodule(name)
    assert isinstance(made, FactorisedEmbedding)
    made.table.weight.copy_(weight @ basis)
    made.up.weight.copy_(basis)
    assert model.builder is not None, "a teacher can be built again"
    return replace(model, module=module.eval(), builder=with_factorised(model.builder, name, rank))


def table_of(module: nn.Module) -> nn.Embedding:
    """The word embeddings.

    Raises:
        ModelError: As `word_table`, or they are a product of two already.
    """
    found = module.get_submodule(word_table(module))
    if isinstance(found, FactorisedEmbedding):
        raise ModelError("the word embeddings are factorised already; make the student from the whole teacher")
    assert isinstance(found, nn.Embedding)
    return found
