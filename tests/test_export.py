"""The exported file: whole, reproducible, and the same function as the ensemble."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import pytest
import torch

from smdguard.catalogue import read_test_subset
from smdguard.datasets import DATASETS, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.export import OPSET, to_onnx


@pytest.fixture(scope="module")
def graph(tiny_onnx: bytes) -> onnx.ModelProto:
    return onnx.load_from_string(tiny_onnx)


@pytest.fixture(scope="module")
def images() -> numpy.ndarray:
    return parse_subset(read_test_subset("mnist")).scaled().numpy()


def run(model: bytes, images: numpy.ndarray) -> dict[str, numpy.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(None, {"images": images})
    return dict(zip((output.name for output in session.get_outputs()), outputs, strict=True))


@pytest.mark.parametrize("num_images", [1, 3, 256])
def test_any_batch_size_gives_both_outputs(tiny_onnx: bytes, images: numpy.ndarray, num_images: int) -> None:
    outputs = run(tiny_onnx, images[:num_images])
    shapes = {name: output.shape for name, output in outputs.items()}
    assert shapes == {"log_probabilities": (num_images, 10), "member_log_probabilities": (num_images, 3, 10)}
    mean = numpy.exp(outputs["member_log_probabilities"].astype(numpy.float64)).mean(1)
    assert numpy.exp(outputs["log_probabilities"]) == pytest.approx(mean, abs=1e-6)


def test_normalisation_is_inside(tiny_onnx: bytes, tiny_ensemble: Ensemble, images: numpy.ndarray) -> None:
    dataset = DATASETS["mnist"]
    normalised = torch.from_numpy((images[:20] - dataset.mean[0]) / dataset.std[0])
    logits = torch.stack([member(normalised) for member in tiny_ensemble.members], dim=1).double().numpy()
    exponentials = numpy.exp(logits - logits.max(-1, keepdims=True))
    expected = exponentials / exponentials.sum(-1, keepdims=True)
    actual = numpy.exp(run(tiny_onnx, images[:20])["member_log_probabilities"])
    assert actual == pytest.approx(expected, abs=1e-5)


def test_graph_says_what_it_takes_and_gives(graph: onnx.ModelProto) -> None:
    def shape(value: onnx.ValueInfoProto) -> list[int | str]:
        return [length.dim_param or length.dim_value for length in value.type.tensor_type.shape.dim]

    onnx.checker.check_model(graph, full_check=True)
    assert {value.name: shape(value) for value in graph.graph.input} == {"images": ["batch", 1, 28, 28]}
    assert {value.name: shape(value) for value in graph.graph.output} == {
        "log_probabilities": ["batch", 10],
        "member_log_probabilities": ["batch", 3, 10],
    }
    assert [(opset.domain, opset.version) for opset in graph.opset_import if not opset.domain] == [("", OPSET)]
    metadata = {prop.key: prop.value for prop in graph.metadata_props}
    assert {key: json.loads(value) for key, value in metadata.items()} == {"labels": list("0123456789")}


def test_file_is_whole_and_tells_nothing_of_its_maker(tiny_onnx: bytes, graph: onnx.ModelProto) -> None:
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)
    assert sum(len(tensor.raw_data) for tensor in graph.graph.initializer) >= 3 * 4 * 61_706
    assert not list(graph.functions)
    without_weights = onnx.load_from_string(tiny_onnx)
    for tensor in without_weights.graph.initializer:
        tensor.ClearField("raw_data")
    text = without_weights.SerializeToString()
    assert b"member_log_probabilities" in text
    assert not re.findall(rb"site-packages|dist-packages|\.py\b|Traceback|\0/\w+/|[A-Z]:\\\\|line \d+", text)
    assert str(Path(__file__).parent.parent).encode() not in text
    assert str(Path(torch.__file__).parent).encode() not in text


def test_export_does_not_change_the_ensemble_and_other_weights_give_another_file(
    tiny_ensemble: Ensemble, tiny_onnx: bytes
) -> None:
    other = copy.deepcopy(tiny_ensemble).train()
    with torch.no_grad():
        other.members[0].get_parameter("fc1.bias")[0] += 1
    assert to_onnx(other, DATASETS["mnist"].image_shape, DATASETS["mnist"].labels) != tiny_onnx
    assert other.training
