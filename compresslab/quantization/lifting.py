"""A network that torch.fx cannot follow, as the graph that torch.export makes of it, its layers made modules again.

torch.export flattens a network to ATen calls, whatever Python it is written in; it is what the ONNX exporter itself
begins with, so a network that can be exported can be quantized. Weights are read there as plain tensors. Here each call
with weights becomes a module of the name that it has in the network, so that everything after this sees one kind of
graph. Dropout is gone.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

_ATEN = torch.ops.aten
_LENGTHS = "lengths"
# What torch.export assumes of every open dimension, and the largest size that it knows.
_LEAST, _UNBOUNDED = 2, 2**62
# What export leaves behind that neither computes nor moves anything.
_CHECKS = (_ATEN._assert_tensor_metadata.default, _ATEN._assert_scalar.default)
_COPIES = (_ATEN.clone.default, _ATEN.detach.default, _ATEN.lift_fresh_copy.default, _ATEN.alias.default)


def export_and_lift(network: nn.Module, example: Tensor) -> fx.GraphModule:
    """The network in eval mode as a graph of modules and ATen calls, for any batch size.

    Whole numbers (token ids) may come in any length too, within what the network's Python allows: the graph
    refuses others, as they would take a path that was not traced.

    Raises:
        torch._dynamo.exc.UserError, RuntimeError, ValueError, TypeError: torch.export cannot follow the network.
    """
    # An example of one would fix the batch size.
    examples = example if len(example) > 1 else torch.cat([example, example])
    dimensions = {0: torch.export.Dim.DYNAMIC}
    if not example.is_floating_point():
        dimensions |= dict.fromkeys(range(1, example.dim()), torch.export.Dim.AUTO)
    with warnings.catch_warnings():
        # torch.export calls its own deprecated spelling.
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\).*", category=FutureWarning)
        program = torch.export.export(network, (examples,), dynamic_shapes=(dimensions,))
        # Nothing decomposed, but every operator in place replaced by one that is not.
        graph = program.run_decompositions({}).module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)
    for node in list(graph.graph.nodes):
        if node.target in _CHECKS:
            graph.graph.erase_node(node)
        elif node.target in _COPIES or _changes_no_shape(node):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
        elif node.target == _ATEN.view.default:
            # A view asks for strides that hold no longer once something is put before it.
            node.target = _ATEN.reshape.default
    if not example.is_floating_point():
        _keep_lengths(graph, program)
    _lift(graph)
    for node in graph.graph.find_nodes(op="get_attr"):
        if not node.users:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    (output,) = graph.graph.find_nodes(op="output")
    if len(output.args[0]) != 1 or not isinstance(output.args[0][0], fx.Node):
        raise ValueError("it does not give one tensor")
    # A plain signature; that of torch.export cannot be copied without warnings.
    output.args = output.args[0]
    graph.graph.set_codegen(fx.graph.CodeGen())
    # Another root: what nothing reads stays behind, and so does export's refusal to switch between train and eval.
    return fx.GraphModule(graph, graph.graph, type(network).__name__).eval()


def _changes_no_shape(node: fx.Node) -> bool:
    """Whether it is a view in the shape that its argument has already.

    One of the input itself, as CLIP has it, is not only idle: exported once more, it would ask for the input's strides,
    which ONNX has no word for.
    """
    if node.target != _ATEN.view.default or not isinstance(node.args[0], fx.Node):
        return False
    before, after = (one.meta.get("val") for one in (node.args[0], node))
    if not isinstance(before, Tensor) or not isinstance(after, Tensor):
        return False
    return [str(size) for size in before.shape] == [str(size) for size in after.shape]


class Lengths(nn.Module):
    """Passes on what has sizes for which the traced path is the network's own.

    Args:
        bounds: The least and the largest size of each dimension but the first.
    """

    def __init__(self, bounds: tuple[tuple[int, float], ...]) -> None:
        super().__init__()
        self.bounds = bounds

    def forward(self, ids: Tensor) -> Tensor:
        """The argument.

        Raises:
            DataError: It has another size.
        """
        for place, (low, high) in enumerate(self.bounds, 1):
            size = ids.shape[place]
            if (low > _LEAST and size < low) or (high < math.inf and size > high):
                told = f"{low}" if low == high else f"{low} to {high}" if high < math.inf else f"{low} or more"
                raise DataError(
                    f"inputs of shape {tuple(ids.shape)} do not fit: as it was traced, the network takes {told} in "
                    f"dimension {place}, and could be wrong without a word elsewhere; pad to that, or let `forward` do "
                    "the same whatever `ids.shape[1]` is (and prepare with two tokens or more)"
                )
        return ids


def _keep_lengths(graph: fx.GraphModule, program: torch.export.ExportedProgram) -> None:
    """Puts `Lengths` behind the input if torch.export has fixed or bounded one of its sizes."""
    (given,) = program.graph_signature.user_inputs
    (value,) = (node.meta["val"] for node in program.graph.nodes if node.name == given)
    bounds = tuple(_bounds(size, program) for size in value.shape[1:])
    if all(low <= _LEAST and math.isinf(high) for low, high in bounds):
        return
    (source,) = graph.graph.find_nodes(op="placeholder")
    graph.add_submodule(_LENGTHS, Lengths(bounds))
    with graph.graph.inserting_after(source):
        checked = graph.graph.call_module(_LENGTHS, (source,))
    checked.meta = dict(source.meta)
    source.replace_all_uses_with(checked, delete_user_cb=lambda user: user is not checked)


def _bounds(size: int | torch.SymInt, program: torch.export.ExportedProgram) -> tuple[int, float]:
    if isinstance(size, int):
        return size, size
    expression = size.node.expr
    if expression.is_number:  # once open, and fixed by what was seen later
        return int(expression), int(expression)
    found = program.range_constraints.get(expression)
    if found is None:
        return 0, math.inf
    high = float(found.upper)
    return int(found.lower), high if high < _UNBOUNDED else math.inf


def _lift(graph: fx.GraphModule) -> None:
    made: dict[tuple[object, ...], str] = {}
    # Read before the first module takes the place of those that hold them.
    owned = dict(graph.named_parameters(remove_duplicate=False)) | dict(graph.named_buffers(remove_duplicate=False))
    for node in list(graph.graph.nodes):
        build = _BUILDERS.get(node.target) if node.op == "call_function" else None
        if build is None:
            continue
        arguments = arguments_of(node)
        weight = arguments["weight"]
        activation = "indices" if "indices" in arguments else "input"
        stored = {key: value for key, value in arguments.items() if isinstance(value, fx.Node) and key != activation}
        if not isinstance(weight, fx.Node) or any(value.op != "get_attr" for value in stored.values()):
            continue
        values = arguments | {key: owned[str(value.target)] for key, value in stored.items()}
        module = build(values)
        if module is None:
            continue
        same = (node.target, *(str(value) for key, value in arguments.items() if key != activation))
        name = made.setdefault(same, _free_name(str(weight.target), set(made.values())))
        graph.set_submodule(name, module.eval())
        with graph.graph.inserting_before(node):
            call = graph.graph.call_module(name, (arguments[activation],))
        result = node
        if node.target is _ATEN._native_batch_norm_legit_no_training.default:
            (result,) = node.users  # the normalized values; the statistics beside them are nobody's
        call.meta = dict(result.meta)
        result.replace_all_uses_with(call)
        graph.graph.erase_node(result)
        if result is not node:
            graph.graph.erase_node(node)


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """The arguments of an ATen call by name, those left out with their defaults."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    given = {argument.name: value for argument, value in zip(schema, node.args, strict=False)}
    defaults = {argument.name: argument.default_value for argument in schema if argument.has_default_value()}
    return defaults | given | dict(node.kwargs)


def _free_name(weight: str, taken: set[str]) -> str:
    """`blocks.0.proj` for `blocks.0.proj.weight`; another where one weight serves two kinds of layer."""
    name = weight.removesuffix(".weight").removesuffix("_weight")
    while name in taken:
        name += "_again"
    return name


def _linear(values: dict[str, object]) -> nn.Module:
    weight = _tensor(values["weight"])
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=values["bias"] is not None, device="meta")
    return _with(module, values, "weight", "bias")


def _convolution(kind: type[nn.Conv1d | nn.Conv2d]) -> Callable[[dict[str, object]], nn.Module]:
    def build(values: dict[str, object]) -> nn.Module:
        weight, groups = _tensor(values["weight"]), values["groups"]
        assert isinstance(groups, int)
        size = tuple(weight.shape[2:])
        stride, padding, dilation = (_spread(values[key], len(size)) for key in ("stride", "padding", "dilation"))
        module = kind(
            weight.shape[1] * groups, weight.shape[0], size, stride, padding, dilation, groups,  # type: ignore[arg-type]
            bias=values["bias"] is not None, device="meta",
        )  # fmt: skip
        return _with(module, values, "weight", "bias")

    return build


def _spread(value: object, count: int) -> object:
    """One number for each dimension, where the schema lets one stand for all; `same` and `valid` stay words."""
    return tuple(value) * (count if len(value) == 1 else 1) if isinstance(value, list | tuple) else value


def _embedding(values: dict[str, object]) -> nn.Module:
    rows, width = _tensor(values["weight"]).shape
    return _with(nn.Embedding(rows, width, device="meta"), values, "weight")


def _layer_norm(values: dict[str, object]) -> nn.Module | None:
    if values["bias"] is None:
        return None
    shape, eps = values["normalized_shape"], values["eps"]
    assert isinstance(shape, list | tuple)
    assert isinstance(eps, float)
    return _with(nn.LayerNorm(list(shape), eps=eps, device="meta"), values, "weight", "bias")


def _batch_norm(values: dict[str, object]) -> nn.Module | None:
    eps, source = values["eps"], values["input"]
    assert isinstance(eps, float)
    assert isinstance(source, fx.Node)
    if values["weight"] is None or values["bias"] is None:
        return None
    kind = nn.BatchNorm2d if source.meta["val"].dim() == 4 else nn.BatchNorm1d
    module = kind(len(_tensor(values["weight"])), eps=eps, device="meta")
    module.num_batches_tracked = torch.tensor(0)
    return _with(module, values, "weight", "bias", "running_mean", "running_var")


def _with(module: nn.Module, values: dict[str, object], *names: str) -> nn.Module:
    """The module with the network's own tensors, so that what is shared stays shared."""
    for name in names:
        value = values[name]
        if name.startswith("running"):
            module.register_buffer(name, _tensor(value))
        elif value is not None:
            module.register_parameter(name, value if isinstance(value, nn.Parameter) else nn.Parameter(_tensor(value)))
    return module


def _tensor(value: object) -> Tensor:
    assert isinstance(value, Tensor)
    return value


_BUILDERS: dict[object, Callable[[dict[str, object]], nn.Module | None]] = {
    _ATEN.linear.default: _linear,
    _ATEN.conv1d.default: _convolution(nn.Conv1d),
    _ATEN.conv2d.default: _convolution(nn.Conv2d),
    _ATEN.conv1d.padding: _convolution(nn.Conv1d),
    _ATEN.conv2d.padding: _convolution(nn.Conv2d),
    _ATEN.embedding.default: _embedding,
    _ATEN.layer_norm.default: _layer_norm,
    _ATEN._native_batch_norm_legit_no_training.default: _batch_norm,
}
