"""What layers of a network read and give on examples, one row a token or patch, without those of padding."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Examples:
    """Batches that a network reads.

    Args:
        batches: Images float32 [b, c, h, w], or ids int64 [b, seq].
        pad_id: The id that stands where a text has ended; None of anything but texts.
    """

    batches: Sequence[Tensor]
    pad_id: int | None = None

    def real(self, batch: Tensor, values: Tensor) -> Tensor:
        """Rows [n, width] of values [b, seq, width] that are not of padding."""
        if self.pad_id is None:
            return values.reshape(-1, values.shape[-1])
        return values[torch.ne(batch, self.pad_id)]


def inputs_of(module: nn.Module, names: Sequence[str], examples: Examples) -> Mapping[str, Tensor]:
    """What each named layer reads, [n, width]."""
    return _seen(module, names, examples, outputs=False)


def outputs_of(module: nn.Module, names: Sequence[str], examples: Examples) -> Mapping[str, Tensor]:
    """What each named layer gives, [n, width]."""
    return _seen(module, names, examples, outputs=True)


def moments_of(module: nn.Module, names: Sequence[str], examples: Examples) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Of what each named layer reads, the mean [width] and the covariance [width, width], float64.

    Batch by batch, as all that an MLP's inner units give would not fit into memory.
    """
    sums: dict[str, tuple[int, Tensor, Tensor]] = {}
    for batch in examples.batches:
        for name, seen in inputs_of(module, names, Examples((batch,), examples.pad_id)).items():
            values = seen.double()
            count, total, square = sums.get(name, (0, torch.zeros(1), torch.zeros(1)))
            sums[name] = count + len(values), total + values.sum(0), square + values.T @ values
    means = {name: total / count for name, (count, total, _) in sums.items()}
    return {
        name: (means[name], square / count - torch.outer(means[name], means[name]))
        for name, (count, _, square) in sums.items()
    }


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """The network in eval mode, without gradients; its mode comes back."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def _seen(module: nn.Module, names: Sequence[str], examples: Examples, *, outputs: bool) -> Mapping[str, Tensor]:
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    now: list[Tensor] = []

    def hook(name: str) -> object:
        def look(_: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            rows[name].append(examples.real(now[-1], answer if outputs else given[0]))

        return look

    handles = [module.get_submodule(name).register_forward_hook(hook(name)) for name in names]  # type: ignore[arg-type]
    try:
        with at_rest(module):
            for batch in examples.batches:
                now.append(batch)
                module(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in rows.items()}
