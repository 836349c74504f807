"""Which operators suffer, and which sets are proposed, on a network with outliers between two of its layers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from compresslab.quantization import QuantizerSettings, quantizable
from compresslab.quantization.sensitivity import Harm, Sensitivity, proposals, sensitivities


class Made:
    """Harm by a rule instead of a network: `needed` must be in float together, each other operator adds a little."""

    def __init__(self, operators: Sequence[str], needed: Sequence[str], little: float = 0.001) -> None:
        self.operators, self.needed, self.little = tuple(operators), set(needed), little

    def quantizes(self, keep: Sequence[str]) -> bool:
        return set(keep) != set(self.operators)

    def left(self, keep: Sequence[str]) -> float:
        ruined = 1.0 if self.needed - set(keep) else 0.0
        return ruined + self.little * len(set(self.operators) - self.needed - set(keep))


def ranking(names: str, microseconds: float = 1.0) -> list[Sensitivity]:
    return [Sensitivity(name, 1.0, microseconds) for name in names]


def test_a_ruined_value_takes_all_who_read_and_write_it() -> None:
    assert proposals(Made("abcdef", "be"), ranking("bedacf"))[0] == ("b", "e")


def test_what_is_not_needed_is_left_out_again() -> None:
    """`a` is ranked between the two that matter."""
    assert proposals(Made("abcdef", "be"), ranking("baecdf"))[0] == ("b", "e")


def test_sets_grow_as_less_harm_may_be_left() -> None:
    """Each of four operators has a quarter of the harm: two leave a half, all four are too many."""

    class Even(Made):
        def left(self, keep: Sequence[str]) -> float:
            return 4.0 - len(keep)

    told: list[str] = []
    assert proposals(Even("abcd", ""), ranking("abcd"), told.append) == (("a", "b"),)
    assert told == ["no set of operators in float leaves less than 20% of the harm"]


def test_all_operators_are_never_proposed() -> None:
    """That would be the float model."""
    assert proposals(Made("ab", "ab"), ranking("ab")) == ()


def test_what_no_integer_reads_is_never_all_that_is_quantized(build, images) -> None:
    """A sum is an integer one for its readers alone: ranked last, it would be left of a network that is float."""
    harm = Harm(build("residual"), images, QuantizerSettings())
    sums = [name for name, role in harm.roles.items() if role == "add"]
    assert sums
    assert not harm.quantizes([name for name in harm.operators if name != sums[-1]])
    others = [name for name in harm.operators if name != sums[-1]]
    ranked = [Sensitivity(name, 1.0, 1.0) for name in (*others, sums[-1])]
    assert all(harm.quantizes(keep) for keep in proposals(harm, ranked))


def test_harm_is_weighed_against_the_time_that_float_costs() -> None:
    cheap, dear = Sensitivity("cheap", 0.5, 1.0), Sensitivity("dear", 0.6, 100.0)
    free = Sensitivity("free", 0.2, -3.0)
    unknown = Sensitivity("unknown", 0.5, None)
    assert sorted([dear, cheap, free], key=lambda one: -one.worth) == [free, cheap, dear]
    assert unknown.worth == 0.5


def test_the_layers_beside_outliers_suffer(build, images) -> None:
    """By a hundred times and more; the sums and the pooling are among the operators, by the names in the trace."""
    network = build("residual").eval()
    block = network.get_submodule("stages.0.0")
    with torch.no_grad():
        block.norm1.weight[0] *= 4000
        block.norm1.bias[0] = 4000
        block.conv2.weight[:, 0] /= 4000
    harm = Harm(network, images, QuantizerSettings())
    assert harm.operators == tuple(quantizable(network, images))
    assert {"add", "mean", "head"} <= set(harm.operators)
    ranked = sensitivities(harm, {})
    assert {one.name for one in ranked[:2]} == {"stages.0.0.conv1", "stages.0.0.conv2"}
    assert ranked[1].harm > 10 * ranked[2].harm
    assert harm.left(["stages.0.0.conv1", "stages.0.0.conv2"]) < 0.05 * harm.left(())


def test_what_settings_keep_in_float_is_no_operator_to_ask_about(build, images) -> None:
    harm = Harm(build("residual"), images, QuantizerSettings(keep_float=["stem.0"]))
    assert "stem.0" not in harm.operators
    assert harm.left(()) == pytest.approx(harm.left(["stem.0"]))
