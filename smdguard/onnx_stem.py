"""All members see the same image: their first convolutions are one with more channels, which runs faster."""

from collections.abc import Sequence

import numpy
import onnx
from onnx import NodeProto, helper, numpy_helper

_CHANNEL_WISE = {"MaxPool", "Relu", "LeakyRelu"}


def merge_first_convolutions(model: onnx.ModelProto) -> None:
    """Join the convolutions that read the same tensor, and what follows them channel by channel, in place.

    CPUs work on channels in blocks of eight or sixteen; LeNet-5's six fill a block badly, three members' eighteen
    better. The outputs stay the same. A graph whose members do not begin alike, or with weights that are computed, is
    left as it is.
    """
    graph = model.graph
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    first = [node for node in convolutions if node.input[0] == convolutions[0].input[0]]
    # Convolutions in groups, put one after another, would divide their channels otherwise.
    if len(first) < 2 or not _alike(first) or _attribute(first[0], "group", 1) != 1:
        return
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    if not arrays.keys() >= {name for node in first for name in node.input[1:]}:
        return
    kernels = [arrays[node.input[1]] for node in first]
    joined = {"stem.weight": kernels}
    if len(first[0].input) == 3:
        joined["stem.bias"] = [arrays[node.input[2]] for node in first]
    sizes = numpy_helper.from_array(numpy.array([len(kernel) for kernel in kernels]), "stem.sizes")

    merged = [_copy(first[0], [first[0].input[0], *joined], "stem.0")]
    replaced, last = list(first), first
    while _alike(following := _only_consumers(graph, last)) and following[0].op_type in _CHANNEL_WISE:
        merged.append(_copy(following[0], list(merged[-1].output), f"stem.{len(merged)}"))
        replaced += following
        last = following
    heads = [node.output[0] for node in last]
    merged.append(helper.make_node("Split", [merged[-1].output[0], "stem.sizes"], heads, name="stem.split", axis=1))

    outputs = {node.output[0] for node in replaced}
    place = next(index for index, node in enumerate(graph.node) if node.output[0] in outputs)
    rest = [node for node in graph.node[place:] if node.output[0] not in outputs]
    nodes = [_copy(node, list(node.input)) for node in (*graph.node[:place], *merged, *rest)]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        [*(numpy_helper.from_array(numpy.concatenate(joined[name]), name) for name in joined), sizes]
    )
    _drop_unread_initializers(graph)


def _alike(nodes: Sequence[NodeProto]) -> bool:
    """Whether there are such nodes and they do the same, each to its own input."""
    return len({(node.op_type, len(node.input), str(node.attribute)) for node in nodes}) == 1


def _only_consumers(graph: onnx.GraphProto, nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """The one node that reads each node's output; none if some output is read more than once."""
    readers = [[reader for reader in graph.node if node.output[0] in reader.input] for node in nodes]
    return [found for (found,) in readers] if all(len(found) == 1 for found in readers) else []


def _copy(node: NodeProto, inputs: list[str], output: str | None = None) -> NodeProto:
    copied = NodeProto()
    copied.CopyFrom(node)
    copied.input[:] = inputs
    if output is not None:
        copied.name = copied.output[0] = output
    return copied


def _attribute(node: NodeProto, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def _drop_unread_initializers(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
