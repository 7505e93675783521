"""An ONNX graph is held to the configuration beside it when it is loaded, not when it mislabels an image."""

from pathlib import Path
from typing import Any

import numpy
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

from smdguard.backends import onnx as onnx_backend
from smdguard.backends.onnx import OnnxBackend, OnnxClassifier
from smdguard.errors import BackendError, IntegrityError
from smdguard.manifest import Architecture, Input

IMAGES = ["batch", 1, 2, 3]
OUTPUT = "member_log_probabilities"


def graph(
    *,
    images: list[Any] = IMAGES,
    kind: int = TensorProto.FLOAT,
    reshaped: tuple[int, ...] = (-1, 2, 4),
    output: str = OUTPUT,
    output_kind: int = TensorProto.FLOAT,
    num_inputs: int = 1,
) -> bytes:
    """A linear layer from images to eight numbers, which are shown as the scores of two members and four classes."""
    generator = numpy.random.default_rng(0)
    num_pixels = int(numpy.prod([length for length in images[1:] if isinstance(length, int)]))
    weight = generator.normal(size=(num_pixels, 8)).astype(numpy.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["floats"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["numbers"]),
        helper.make_node("Reshape", ["numbers", "shape"], ["logits"]),
        helper.make_node("LogSoftmax", ["logits"], ["scores"], axis=-1),
        helper.make_node("Cast", ["scores"], [output], to=output_kind),
    ]
    others = [helper.make_tensor_value_info(f"other{number}", kind, images) for number in range(1, num_inputs)]
    model = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", kind, images), *others],
        [helper.make_tensor_value_info(output, output_kind, None)],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(numpy.array(reshaped, numpy.int64), "shape"),
        ],
    )
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(model, opset_imports=opsets, ir_version=10).SerializeToString()


def open_backend(model: bytes) -> OnnxBackend:
    """As the guard opens it for a configuration of two members, four classes and 1 x 2 x 3 images."""
    architecture = Architecture(name="lenet", num_members=2, num_classes=4)
    image_input = Input(channels=1, height=2, width=3, mean=(0.0,), std=(1.0,))
    return OnnxBackend(architecture, image_input, model, "model.onnx", "cpu")


@pytest.mark.parametrize("batch", ["batch", None])
@pytest.mark.parametrize("num_images", [1, 2, 5])
def test_a_graph_that_fits_is_run(batch: str | None, num_images: int) -> None:
    images = numpy.random.default_rng(1).random((num_images, 1, 2, 3), numpy.float32)
    scores = open_backend(graph(images=[batch, *IMAGES[1:]])).member_log_probabilities(images)
    assert scores.shape == (num_images, 2, 4)
    assert numpy.exp(scores).sum(-1) == pytest.approx(numpy.ones((num_images, 2)))


INPUT = r"^model\.onnx must take one tensor\(float\) \(B, 1, 2, 3\) for any B, as config\.json says, but takes "
SCORES = r"^model\.onnx must give member_log_probabilities \(2, 2, 4\) for 2 images, as config\.json says, but gives "
NO_OUTPUT = r"^model\.onnx has no output member_log_probabilities of tensor\(float\); export it with smdguard export"
MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "other height": ({"images": ["batch", 1, 5, 3]}, INPUT + r"'images' tensor\(float\) \['batch', 1, 5, 3\]$"),
    "other width": ({"images": ["batch", 1, 2, 4]}, INPUT),
    "other channels": ({"images": ["batch", 3, 2, 3]}, INPUT),
    "height and width exchanged": ({"images": ["batch", 1, 3, 2]}, INPUT),
    "any height": ({"images": ["batch", 1, "height", 3]}, INPUT),
    "no channels": ({"images": ["batch", 2, 3]}, INPUT),
    "numbers": ({"images": ["batch"]}, INPUT + r"'images' tensor\(float\) \['batch'\]$"),
    "two images at a time": ({"images": [2, 1, 2, 3]}, INPUT + r"'images' tensor\(float\) \[2, 1, 2, 3\]$"),
    "8-bit images": ({"kind": TensorProto.UINT8}, INPUT + r"'images' tensor\(uint8\)"),
    "two inputs": ({"num_inputs": 2}, INPUT + "'images' .*, 'other1' "),
    "other name": ({"output": "log_probabilities"}, NO_OUTPUT),
    "whole numbers": ({"output_kind": TensorProto.INT64}, NO_OUTPUT),
    "fewer classes, more members": ({"reshaped": (-1, 4, 2)}, SCORES + r"\(2, 4, 2\)$"),
    "fewer members": ({"reshaped": (-1, 1, 8)}, SCORES + r"\(2, 1, 8\)$"),
    "members as images": ({"reshaped": (-1, 1, 4)}, SCORES + r"\(4, 1, 4\)$"),
    "no members": ({"reshaped": (-1, 8)}, SCORES + r"\(2, 8\)$"),
    "one image at a time": ({"reshaped": (1, 2, 4)}, r"^model\.onnx cannot be run by ONNX Runtime: "),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_graph_that_does_not_fit_is_refused_in_one_line(case: str) -> None:
    changes, message = MISFITS[case]
    with pytest.raises(IntegrityError, match=message) as caught:
        open_backend(graph(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reshaped", "message"),
    [
        ((2, 2, 4), r"^model\.onnx cannot be run by ONNX Runtime: "),
        ((2, 2, -1), r"^model\.onnx must give .* \(4, 2, 4\) for 4 images, .* but gives \(2, 2, 8\)$"),
    ],
)
def test_a_graph_that_fits_two_images_only_is_one_line_for_four(reshaped: tuple[int, ...], message: str) -> None:
    backend = open_backend(graph(reshaped=reshaped))
    with pytest.raises(BackendError, match=message) as caught:
        backend.member_log_probabilities(numpy.zeros((4, 1, 2, 3), numpy.float32))
    assert "\n" not in str(caught.value)


def test_what_a_graph_declares_of_its_output_is_not_trusted() -> None:
    model = onnx.load_from_string(graph(reshaped=(-1, 4, 2)))
    declared = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 2, 4])
    model.graph.output[0].CopyFrom(declared)
    with pytest.raises(IntegrityError, match=SCORES):
        open_backend(model.SerializeToString())


@pytest.mark.parametrize(
    "images",
    [
        *(["b", 8, 8, 3], ["b", 4, 8, 8], ["b", "c", 8, 8], ["b", 3, "h", 8], ["b", 192]),
        *([0, 3, 8, 8], ["b", 1, 0, 8], ["b", 1, 8, 4097], [2**40, 1, 8, 8]),
    ],
)
def test_a_classifier_that_takes_no_images_with_channels_first_is_refused(images: list[Any]) -> None:
    with pytest.raises(IntegrityError) as caught:
        OnnxClassifier(graph(images=images), "keras.onnx", "cpu")
    assert str(caught.value) == (
        "keras.onnx must take one tensor(float) (B, C, H, W) of fixed size, with C 1 or 3 and no length above 4096, "
        f"but takes 'images' tensor(float) {images}; where channels come last, transpose inside the graph"
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_classifier_of_grey_or_of_coloured_images_is_opened(channels: int) -> None:
    assert OnnxClassifier(graph(images=["b", channels, 8, 6]), "any.onnx", "cpu").image_shape == (channels, 8, 6)


def test_missing_cuda_libraries_are_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    preloads = []

    def preload_dlls() -> None:
        preloads.append(True)
        print("Failed to load libcublasLt.so.12")

    monkeypatch.setattr(onnx_backend, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload_dlls)
    OnnxClassifier(graph(), "model.onnx", "auto")
    assert preloads
    assert capsys.readouterr().out == ""


def test_going_on_without_a_gpu_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = onnxruntime.InferenceSession

    def session(*arguments: Any, **settings: Any) -> onnxruntime.InferenceSession:
        print("*************** EP Error ***************")
        assert settings.pop("providers") == ["CUDAExecutionProvider", "CPUExecutionProvider"]
        return real(*arguments, **settings, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnx_backend, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    OnnxClassifier(graph(), "model.onnx", "auto")
    assert capsys.readouterr().out == ""


def test_a_runtime_that_was_built_without_cuda_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would warn on standard error, whatever it is told."""
    requests = []

    def session(*arguments: Any, providers: list[str]) -> onnxruntime.InferenceSession:
        requests.append(providers)
        return open_session(*arguments, providers=["CPUExecutionProvider"])

    open_session = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnx_backend, "_has_nvidia_driver", lambda: True)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    OnnxClassifier(graph(), "model.onnx", "auto")
    with pytest.raises(BackendError, match="device 'cuda' was asked for"):
        OnnxClassifier(graph(), "model.onnx", "cuda")
    assert requests == [["CPUExecutionProvider"]] * 2


@pytest.mark.parametrize(
    ("labels", "expected"),
    [('["a", 1]', ("a", "1")), (r'["\ud800"]', ("?",)), ('{"a": 1}', None), ("a, b", None), ("[" * 100_000, None)],
)
def test_labels_that_cannot_be_read_are_none(labels: str, expected: tuple[str, ...] | None) -> None:
    model = onnx.load_from_string(graph())
    helper.set_model_props(model, {"labels": labels})
    assert OnnxClassifier(model.SerializeToString(), "model.onnx", "cpu").labels == expected


def test_weights_in_another_file_are_refused_even_where_they_lie_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.load_from_string(graph())
    convert_model_to_external_data(model, location="weights.bin", size_threshold=100, convert_attribute=False)
    onnx.save(model, tmp_path / "model.onnx")
    assert (tmp_path / "weights.bin").exists()
    monkeypatch.chdir(tmp_path)
    content = (tmp_path / "model.onnx").read_bytes()
    # The runtime itself would read them from there, unverified.
    onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    with pytest.raises(IntegrityError, match=r"^model\.onnx keeps its weights in another file, which is not verified"):
        open_backend(content)


def test_what_pytorch_exports_is_opened_where_the_refusal_s_advice_is_followed(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10)).eval()
    path = tmp_path / "classifier.onnx"
    torch.onnx.export(network, (torch.zeros(2, 3, 8, 8),), path, verbose=False)
    with pytest.raises(IntegrityError, match=r"with torch\.onnx\.export\(\.\.\., external_data=False\)$"):
        OnnxClassifier(path.read_bytes(), "classifier.onnx", "cpu")
    torch.onnx.export(network, (torch.zeros(2, 3, 8, 8),), path, verbose=False, external_data=False)
    assert OnnxClassifier(path.read_bytes(), "classifier.onnx", "cpu").image_shape == (3, 8, 8)


def test_what_fails_is_logged_by_the_sessions_of_others_alone(capfd: pytest.CaptureFixture[str]) -> None:
    fits_two, images = graph(reshaped=(2, 2, 4)), numpy.zeros((4, 1, 2, 3), numpy.float32)
    with pytest.raises(BackendError):
        open_backend(fits_two).member_log_probabilities(images)
    assert capfd.readouterr().err == ""
    others = onnxruntime.InferenceSession(fits_two, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="Reshape"):
        others.run(None, {others.get_inputs()[0].name: images})
    assert "Reshape" in capfd.readouterr().err
