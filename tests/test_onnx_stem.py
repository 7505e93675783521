"""Merging the members' first convolutions changes the graph and not what it computes."""

import numpy
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from smdguard import export
from smdguard.architectures import ARCHITECTURES
from smdguard.ensemble import Ensemble
from smdguard.onnx_stem import merge_first_convolutions


def run(model: bytes, images: numpy.ndarray) -> list[numpy.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})


@pytest.mark.parametrize(
    ("architecture", "shape", "negative_slope"), [("lenet", (1, 28, 28), 0.1), ("resnet20", (3, 32, 32), 0.0)]
)
def test_one_convolution_reads_the_image_and_the_outputs_stay(
    architecture: str, shape: tuple[int, int, int], negative_slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    members = [ARCHITECTURES[architecture](shape, 4, negative_slope=negative_slope) for _ in range(2)]
    # So that no log-probability is beyond -10, where rounding alone would come near the tolerance.
    ensemble = Ensemble(members, mean=[0.4] * shape[0], std=[1.0] * shape[0]).eval()
    monkeypatch.setattr(export, "merge_first_convolutions", lambda model: None)
    plain = export.to_onnx(ensemble, shape, "abcd")
    model = onnx.load_from_string(plain)
    merge_first_convolutions(model)
    onnx.checker.check_model(model, full_check=True)
    merged = model.SerializeToString()

    def num_first(content: bytes) -> int:
        convolutions = [node for node in onnx.load_from_string(content).graph.node if node.op_type == "Conv"]
        return sum(node.input[0] == convolutions[0].input[0] for node in convolutions)

    assert (num_first(plain), num_first(merged)) == (2, 1)
    images = numpy.random.default_rng(0).random((3, *shape), dtype=numpy.float32)
    for first, second in zip(run(plain, images), run(merged, images), strict=True):
        numpy.testing.assert_allclose(first, second, atol=1e-5)


def test_a_single_member_is_left_as_it_is() -> None:
    torch.manual_seed(0)
    ensemble = Ensemble([ARCHITECTURES["lenet"]((1, 28, 28), 4)], mean=[0.4], std=[0.3]).eval()
    graph = onnx.load_from_string(export.to_onnx(ensemble, (1, 28, 28), "abcd")).graph
    assert "Split" not in {node.op_type for node in graph.node}


@pytest.mark.parametrize("computed", ["kernel", "bias"])
def test_weights_that_are_computed_are_left_as_they_are(computed: str) -> None:
    """Such as those of a network whose kernels are bounded or normalised."""
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    generator = numpy.random.default_rng(0)
    shapes = {"kernel": (2, 1, 3, 3), "bias": (2,)}
    weights, nodes, outputs = [], [], []
    for member in "ab":
        for name, shape in shapes.items():
            stored = f"{name}_{member}" + ("_raw" if name == computed else "")
            weights.append(onnx.numpy_helper.from_array(generator.normal(size=shape).astype(numpy.float32), stored))
        nodes.append(make.make_node("Tanh", [f"{computed}_{member}_raw"], [f"{computed}_{member}"]))
        nodes.append(make.make_node("Conv", ["images", f"kernel_{member}", f"bias_{member}"], [f"scores_{member}"]))
        outputs.append(make.make_tensor_value_info(f"scores_{member}", kind, None))
    images = make.make_tensor_value_info("images", kind, ["batch", 1, 5, 5])
    model = make.make_model(make.make_graph(nodes, "computed", [images], outputs, weights))
    before = model.SerializeToString()
    merge_first_convolutions(model)
    assert model.SerializeToString() == before


class Twice(nn.Module):
    """Shows its first convolution the image and what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3 * 36, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(self.first(images).relu()).flatten(1))


class Grouped(Twice):
    """Its first convolution works on each colour alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 6, 3, groups=3), nn.Linear(6 * 16, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.first(images).relu().flatten(1))


@pytest.mark.parametrize("network", [Twice, Grouped])
def test_first_convolutions_of_any_network_give_the_outputs_of_pytorch(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    ensemble = Ensemble([network() for _ in range(3)], mean=[0.4] * 3, std=[0.3] * 3).eval()
    images = torch.rand(5, 3, 6, 6)
    _, members = run(export.to_onnx(ensemble, (3, 6, 6), "abcd"), images.numpy())
    with torch.no_grad():
        numpy.testing.assert_allclose(members, ensemble.member_log_probabilities(images).numpy(), atol=1e-5)
