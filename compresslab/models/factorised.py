"""A table of embeddings as the product of two smaller ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

FACTORISED = "factorised"


class FactorisedEmbedding(nn.Module):
    """Token ids [...] to vectors float32 [..., width], through `rank` numbers a token.

    As in Lan et al., "ALBERT" (arXiv 1909.11942). A table of 30,000 by 384 becomes one by 128 and a matrix: a third.

    Args:
        tokens: Rows of the table.
        rank: Numbers that are kept of each token.
        width: Of the vectors that come out.
    """

    def __init__(self, tokens: int, rank: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, rank)
        self.up = nn.Linear(rank, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of the tokens."""
        vectors: Tensor = self.up(self.table(ids))
        return vectors


def factorise(module: nn.Module, ranks: Mapping[str, int]) -> None:
    """Puts a new `FactorisedEmbedding` in the place of each named nn.Embedding, in place.

    Args:
        module: The network.
        ranks: The rank of each, by the name that `named_modules()` has.

    Raises:
        ModelError: There is no such embedding, or it is smaller than the rank.
    """
    for name, rank in ranks.items():
        path, _, leaf = name.rpartition(".")
        try:
            owner = module.get_submodule(path)
            table = getattr(owner, leaf)
        except AttributeError:
            table = None
        if not isinstance(table, nn.Embedding):
            kind = "not there" if table is None else f"a {type(table).__name__}"
            raise ModelError(f"`{name}` is to be factorised, but is {kind}; only an nn.Embedding can be")
        if rank > table.embedding_dim:
            raise ModelError(
                f"`{name}` has vectors of {table.embedding_dim}, and a rank of {rank} would make it larger; give a "
                "smaller rank, or none"
            )
        setattr(owner, leaf, FactorisedEmbedding(table.num_embeddings, rank, table.embedding_dim))


def with_factorised(builder: Mapping[str, Any], name: str, rank: int) -> dict[str, Any]:
    """The plain data that builds the network with this embedding factorised."""
    return {**builder, FACTORISED: {**builder.get(FACTORISED, {}), name: rank}}
