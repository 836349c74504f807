"""Where the quantizers go: around every operator that has an integer kernel, so that ONNX Runtime can fuse it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor, fx, nn
from torch.nn import functional

from compresslab.errors import ModelError, did_you_mean
from compresslab.quantization.fake_quant import ActivationQuantizer, WeightQuantizer
from compresslab.quantization.observers import observer
from compresslab.quantization.operators import is_activation, is_layer, rescaling, role
from compresslab.quantization.tracing import submodule, trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from compresslab.quantization.settings import QuantizerSettings

_TARGETS = ("layer", "add", "average")


class QuantizedLayer(nn.Module):
    """A convolution or linear layer that computes with its weights on their int8 grid. The bias stays float."""

    def __init__(self, layer: nn.Module, *, learn_scales: bool) -> None:
        super().__init__()
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear)
        self.layer = layer
        self.weights = WeightQuantizer(len(layer.weight), learn_scale=learn_scales)
        self._compute = layer_function(layer)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives with quantized weights."""
        return self._compute(x, self.weights(self.layer.weight), self.layer.bias)


def layer_function(layer: nn.Module) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The layer as a function of input, weight and bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    convolve = functional.conv1d if isinstance(layer, nn.Conv1d) else functional.conv2d
    return partial(convolve, stride=layer.stride, padding=layer.padding, dilation=layer.dilation, groups=layer.groups)


def insert(module: nn.Module, example: Tensor, settings: QuantizerSettings) -> fx.GraphModule:
    """A copy of the network, traced, normalizations folded, with observing quantizers in it.

    Each quantized value has one quantizer, after the ReLU that follows it where there is one. Pooling by maximum,
    flattening and dropout need none: what they give lies on the grid of what they got.

    Raises:
        ModelError: The network cannot be traced, holds quantizers already, or has nothing to quantize.
    """
    if any(isinstance(part, ActivationQuantizer) for part in module.modules()):
        raise ModelError("the network is quantized already; quantize the float network it came from")
    graph = trace(module, example)
    values = list(_values_to_quantize(graph, settings))
    names = list(_operators(graph))
    for name in settings.keep_float:
        if name not in names:
            raise ModelError(
                f"keep_float: the network has no layer `{name}`{did_you_mean(name, names)}; it has {', '.join(names)}"
            )
    layers = [name for name, part in graph.named_modules() if is_layer(part)]
    chosen = [name for name in layers if name not in settings.keep_float]
    if not layers or set(names) <= set(settings.keep_float):
        raise ModelError(
            "there is nothing to quantize: the network has no convolution or linear layer that may leave float"
        )
    for name in chosen:
        layer = graph.get_submodule(name)
        graph.set_submodule(name, QuantizedLayer(layer, learn_scales=settings.learn_scales))
    graph.add_submodule("quantizers", nn.Module())
    for node in values:
        target = f"quantizers.{node.name}"
        graph.add_submodule(target, ActivationQuantizer(observer(settings), learn_scale=settings.learn_scales))
        with graph.graph.inserting_after(node):
            quantized = graph.graph.call_module(target, (node,))
        node.replace_all_uses_with(quantized, delete_user_cb=_is_not(quantized))
    graph.recompile()
    return graph


def quantizable(module: nn.Module, example: Tensor) -> tuple[str, ...]:
    """The names of all operators that have an integer kernel, in the order they run: what `keep_float` may name.

    Layers and pooling modules go by their place in the network, sums and means by the name they have in its trace.

    Raises:
        ModelError: The network cannot be traced.
    """
    return tuple(_operators(trace(module, example)))


def _operators(graph: fx.GraphModule) -> dict[str, None]:
    return {_name(node): None for node in graph.graph.nodes if role(graph, node) in _TARGETS}


def _name(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def quantizers(prepared: nn.Module) -> Iterator[tuple[str, ActivationQuantizer]]:
    """The activation quantizers by the name of the value they quantize."""
    for name, part in prepared.named_modules():
        if isinstance(part, ActivationQuantizer):
            yield name.rpartition(".")[2], part


def _is_not(node: fx.Node) -> Callable[[fx.Node], bool]:
    return lambda other: other is not node


def _values_to_quantize(graph: fx.GraphModule, settings: QuantizerSettings) -> Iterable[fx.Node]:
    """The nodes whose results get a quantizer, in graph order."""
    chosen: set[fx.Node] = set()
    for node in graph.graph.nodes:
        if role(graph, node) not in _TARGETS or _name(node) in settings.keep_float:
            continue
        chosen.update(_grid_of(graph, source) for source in node.all_input_nodes if is_activation(source))
        if settings.quantize_output or not (_is_linear(graph, node) and _only_answers(graph, node)):
            chosen.add(_after_clamp(graph, node))
    return [node for node in graph.graph.nodes if node in chosen]


def _grid_of(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node whose quantizer decides the grid that this value lies on."""
    while role(graph, node) == "same_grid":
        node = node.all_input_nodes[0]
    return node


def _after_clamp(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The ReLU that alone reads the node, which an integer kernel computes for nothing; else the node."""
    users = list(node.users)
    return users[0] if len(users) == 1 and role(graph, users[0]) == "clamp" else node


def _only_answers(graph: fx.GraphModule, node: fx.Node) -> bool:
    """Whether the value goes nowhere but to the network's output, perhaps in other units."""

    def passes_on(user: fx.Node) -> bool:
        return role(graph, user) == "same_grid" or rescaling(user) is not None

    return all(user.op == "output" or (passes_on(user) and _only_answers(graph, user)) for user in node.users)


def _is_linear(graph: fx.GraphModule, node: fx.Node) -> bool:
    return isinstance(submodule(graph, node), nn.Linear)
