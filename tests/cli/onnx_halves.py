"""An ONNX file of a model that tells halves of images apart."""

import onnx
import torch


def onnx_classifier(batch: int | str, last: str = "Identity") -> bytes:
    """Left against right half of a 6 x 6 image."""
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    weight = torch.tensor([1.0, 1, 1, -1, -1, -1]).repeat(6)
    values = torch.stack([weight, -weight], dim=1)
    graph = make.make_graph(
        [
            make.make_node("Flatten", ["images"], ["flat"]),
            make.make_node("MatMul", ["flat", "weight"], ["scores"]),
            make.make_node(last, ["scores"], ["logits"]),
        ],
        "halves",
        [make.make_tensor_value_info("images", kind, [batch, 1, 6, 6])],
        [make.make_tensor_value_info("logits", kind, [batch, 2])],
        [make.make_tensor("weight", kind, [36, 2], values.flatten().tolist())],
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=10).SerializeToString()
