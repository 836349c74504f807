"""Where the quantizers go: around every operator that has an integer kernel, so that ONNX Runtime can fuse it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from torch import Tensor, fx, nn

from compresslab.errors import ModelError, NothingToQuantize, did_you_mean
from compresslab.quantization.attention import take_apart
from compresslab.quantization.fake_quant import ActivationQuantizer
from compresslab.quantization.integer import IntegerEmbedding, IntegerLayer, QuantizeDequantize
from compresslab.quantization.layers import QuantizedEmbedding, QuantizedLayer
from compresslab.quantization.observers import observer
from compresslab.quantization.operators import (
    Role,
    clamp_range,
    is_activation,
    is_embedding,
    is_layer,
    rescaling,
    role,
)
from compresslab.quantization.settings import QuantizerSettings
from compresslab.quantization.tracing import shape_of, submodule, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["QuantizedLayer", "insert", "quantizable", "quantizers"]

_TARGETS: tuple[Role, ...] = ("layer", "add", "product", "concat", "matmul", "average")
_DEFAULT = QuantizerSettings()
_OURS = (
    ActivationQuantizer, QuantizedLayer, QuantizedEmbedding, IntegerLayer, IntegerEmbedding, QuantizeDequantize,
)  # fmt: skip


def insert(module: nn.Module, example: Tensor, settings: QuantizerSettings) -> fx.GraphModule:
    """A copy of the network, traced, normalizations folded, with observing quantizers in it.

    Each quantized value has one quantizer, after the ReLU that follows it where there is one. Pooling by maximum,
    flattening and dropout need none: what they give lies on the grid of what they got. What is concatenated shares one.

    Raises:
        ModelError: The network cannot be traced, or holds quantizers already; or the settings name an operator that is
            not there, or that has no integer kernel.
        NothingToQuantize: No operator may become an integer one.
    """
    if any(isinstance(part, _OURS) or type(part).__module__.startswith("torch.ao.nn") for part in module.modules()):
        raise ModelError("the network is quantized already; quantize the float network it came from")
    graph = _traced(module, example, settings)
    _require_operators(graph, settings)
    plan = _Plan(graph, settings)
    # All decided before the first part is replaced.
    readers, groups = {node: plan.readers(node) for node in plan.values()}, plan.groups()
    if not _weighted(graph) or not (plan.chosen or readers):
        raise NothingToQuantize(
            "there is nothing to quantize: the network has no convolution or linear layer that may leave float"
        )
    for name in plan.chosen:
        layer = graph.get_submodule(name)
        graph.set_submodule(
            name,
            QuantizedEmbedding(layer)
            if isinstance(layer, nn.Embedding)
            else QuantizedLayer(layer, learn_scales=settings.learn_scales),
        )
    graph.add_submodule("quantizers", nn.Module())
    for node, reading in readers.items():
        target = f"quantizers.{groups.get(node, node).name}"
        if node not in groups or groups[node] is node:
            bounds = clamp_range(graph, node)
            graph.add_submodule(
                target, ActivationQuantizer(observer(settings), learn_scale=settings.learn_scales, bounds=bounds)
            )
        with graph.graph.inserting_after(node):
            quantized = graph.graph.call_module(target, (node,))
        node.replace_all_uses_with(quantized, delete_user_cb=_is_in(reading))
    graph.recompile()
    graph.meta["quantizer_settings"] = settings
    return graph


def quantizable(
    module: nn.Module, example: Tensor, settings: QuantizerSettings = _DEFAULT
) -> dict[str, Role | Literal["embedding"]]:
    """The names of what these settings quantize if they keep nothing in float, and its roles, in the order it runs.

    They are the names that `keep_float` takes. Layers, embeddings and pooling modules go by their place in the network,
    sums, products, concatenations and means by the name they have in its trace.

    Raises:
        ModelError: The network cannot be traced.
    """
    graph = _traced(module, example, settings)
    plan = _Plan(graph, settings.model_copy(update={"keep_float": ()}))
    found: dict[str, Role | Literal["embedding"]] = {}
    for node in graph.graph.nodes:
        if is_embedding(submodule(graph, node)) and _name(node) in plan.chosen:
            found[_name(node)] = "embedding"
        elif plan.is_integer(node):
            found[_name(node)] = role(graph, node)
    return found


def quantizers(prepared: nn.Module) -> Iterator[tuple[str, ActivationQuantizer]]:
    """The activation quantizers by the name of the value they quantize."""
    for name, part in prepared.named_modules():
        if isinstance(part, ActivationQuantizer):
            yield name.rpartition(".")[2], part


def _is_in(nodes: frozenset[fx.Node]) -> Callable[[fx.Node], bool]:
    return lambda other: other in nodes


def _traced(module: nn.Module, example: Tensor, settings: QuantizerSettings) -> fx.GraphModule:
    graph = trace(module, example)
    if settings.attention == "int8":
        take_apart(graph, example)
    return graph


def _weighted(graph: fx.GraphModule) -> list[str]:
    """The layers and embeddings, by name."""
    return [name for name, part in graph.named_modules() if is_layer(part) or is_embedding(part)]


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _require_operators(graph: fx.GraphModule, settings: QuantizerSettings) -> None:
    """Whatever the settings name is there, and has an integer kernel."""
    others = [_name(node) for node in graph.graph.nodes if role(graph, node) in _TARGETS]
    allowed = list(dict.fromkeys([*_weighted(graph), *others]))
    for key, names in (("keep_float", settings.keep_float), ("only", settings.only)):
        for name in names:
            if name not in allowed:
                raise ModelError(f"{key}: {_why_not(graph, name, allowed)}")


def _why_not(graph: fx.GraphModule, name: str, allowed: list[str]) -> str:
    part = dict(graph.named_modules()).get(name)
    if part is not None and any(node.target == name for node in graph.graph.nodes):
        return (
            f"`{name}` is a {type(part).__name__}, which has no integer kernel and is always computed in float; "
            f"name some of {', '.join(allowed)}"
        )
    return f"the network has no layer `{name}`{did_you_mean(name, allowed)}; it has {', '.join(allowed)}"


class _Plan:
    """Which values of a traced network are quantized, and who reads them so.

    Where the values around an operator are float anyway, as in the residual stream of a transformer, which only
    normalizations read, an integer kernel would cost precision and two conversions: a sum, a product of feature maps or
    a concatenation is computed on integers only if its result reaches an operator that reads integers.
    """

    def __init__(self, graph: fx.GraphModule, settings: QuantizerSettings) -> None:
        self._graph = graph
        self._settings = settings
        self.chosen = list(filter(self._may_leave_float, _weighted(graph)))
        """The layers and embeddings whose weights become integers."""
        self._reaches = cache(self._does_reach)

    def values(self) -> list[fx.Node]:
        """The nodes whose results get a quantizer, in graph order."""
        chosen: set[fx.Node] = set()
        for node in self._graph.graph.nodes:
            if self.is_integer(node):
                chosen.update(self._grid_of(source) for source in node.all_input_nodes if is_activation(source))
                if self._writes_integers(node):
                    chosen.add(self._result(node))
        return [node for node in self._graph.graph.nodes if node in chosen]

    def readers(self, node: fx.Node) -> frozenset[fx.Node]:
        """Who is to read the quantized value: all, where a kernel gives integers; else those that need integers."""
        return frozenset(node.users if self._is_given_as_integers(node) else filter(self.is_integer, node.users))

    def groups(self) -> dict[fx.Node, fx.Node]:
        """For the values that are concatenated, and for what comes of it: the first of those that share a scale."""
        first: dict[fx.Node, fx.Node] = {}
        order = {node: index for index, node in enumerate(self._graph.graph.nodes)}
        for node in self._graph.graph.nodes:
            if role(self._graph, node) != "concat" or not self.is_integer(node):
                continue
            together = {node, *(self._grid_of(source) for source in node.all_input_nodes)}
            leaders = {first.get(member, member) for member in together}
            leader = min(leaders, key=lambda one: order[one])
            first |= {member: leader for member, of in first.items() if of in leaders}
            first |= dict.fromkeys(together | leaders, leader)
        return first

    def is_integer(self, node: fx.Node) -> bool:
        """Whether the operator reads quantized values."""
        if not self._may_leave_float(_name(node)):
            return False
        match role(self._graph, node):
            case "layer" | "average":
                return True
            case "matmul":
                return self._settings.attention == "int8"
            case "add" | "product" | "concat":
                return bool(self._settings.only) or self._reaches(node)
        return False

    def _may_leave_float(self, name: str) -> bool:
        return name not in self._settings.keep_float and (not self._settings.only or name in self._settings.only)

    def _does_reach(self, node: fx.Node) -> bool:
        """Whether an operator that reads integers gets the value, perhaps moved or clamped on the way."""
        on = ("same_grid", "clamp")
        return any(
            self.is_integer(user) or (role(self._graph, user) in on and self._reaches(user)) for user in node.users
        )

    def _writes_integers(self, node: fx.Node) -> bool:
        free = role(self._graph, node) == "matmul" or isinstance(submodule(self._graph, node), nn.Linear)
        # Of more than two dimensions, ONNX Runtime writes floats and adds the bias to them, whatever follows.
        if not free or (len(shape_of(node)) == 2 and self._reaches(node)):
            return True
        return self._settings.quantize_output and self._only_answers(node)

    def _is_given_as_integers(self, node: fx.Node) -> bool:
        makers = (node, *node.all_input_nodes[:1])
        return any(
            self.is_integer(maker) and self._writes_integers(maker) and self._result(maker) is node for maker in makers
        )

    def _grid_of(self, node: fx.Node) -> fx.Node:
        """The node whose quantizer decides the grid that this value lies on.

        What comes as floats is quantized where it is read: less is left of it there, and the pair of operators must
        stand next to the reader to be fused with it.
        """
        source = node
        while role(self._graph, source) == "same_grid":
            source = source.all_input_nodes[0]
        return source if self._is_given_as_integers(source) else node

    def _result(self, node: fx.Node) -> fx.Node:
        """The ReLU that alone reads the node, which an integer kernel computes for nothing; else the node."""
        users = list(node.users)
        if len(users) != 1 or role(self._graph, node) == "concat":
            return node
        return users[0] if role(self._graph, users[0]) == "clamp" else node

    def _only_answers(self, node: fx.Node) -> bool:
        """Whether the value goes nowhere but to the network's output, perhaps in other units."""

        def passes_on(user: fx.Node) -> bool:
            return role(self._graph, user) == "same_grid" or rescaling(user) is not None

        return all(user.op == "output" or (passes_on(user) and self._only_answers(user)) for user in node.users)
