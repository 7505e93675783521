"""Predictions: the same from both back ends, in any batch, from any kind of source."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image

import smdguard as sg
from smdguard.catalogue import read_manifest, read_test_subset
from smdguard.dataset_folders import load_split
from smdguard.datasets import DATASETS, dataset_of, parse_subset
from smdguard.errors import BackendError, ImageError, InvalidInputError
from smdguard.guard import Guard
from smdguard.model_folder import ONNX

BACKENDS = ("onnx", "torch")
TINY = "tiny"


@pytest.fixture(scope="module")
def digits() -> numpy.ndarray:
    """All bundled images of MNIST (1000, 1, 28, 28), of 8 bits."""
    return parse_subset(read_test_subset("mnist")).images.numpy()


@pytest.fixture(scope="module", params=BACKENDS)
def guard(request: pytest.FixtureRequest, tiny_folder: Path) -> Guard:
    return sg.load(str(tiny_folder), backend=request.param, device="cpu")


def member_probabilities(guard: Guard, images: numpy.ndarray) -> numpy.ndarray:
    scaled = images.astype(numpy.float32) / numpy.float32(255)
    return numpy.exp(guard.backend.member_log_probabilities(scaled))


def note_work(guard: Guard, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a guard does from now on, with batches of so many images."""
    done: list[str] = []
    prepare, run = guard.prepare, guard.backend.member_log_probabilities

    def noted_prepare(*arguments: Any, **options: Any) -> numpy.ndarray:
        done.append("prepare")
        return prepare(*arguments, **options)

    def noted_run(images: numpy.ndarray) -> numpy.ndarray:
        done.append(f"run {len(images)}")
        return run(images)

    monkeypatch.setattr(Guard, "batch_size", batch_size)
    monkeypatch.setattr(guard, "prepare", noted_prepare)
    monkeypatch.setattr(guard.backend, "member_log_probabilities", noted_run)
    return done


@pytest.mark.parametrize("model", [TINY, *(entry.name for entry in read_manifest().models)])
def test_back_ends_agree_on_every_bundled_image(model: str, tiny_folder: Path) -> None:
    guards = [sg.load(str(tiny_folder) if model == TINY else model, backend=name, device="cpu") for name in BACKENDS]
    data = parse_subset(read_test_subset(guards[0].config.training.dataset))
    onnx, torch_ = (
        numpy.concatenate([member_probabilities(guard, rows) for rows in numpy.split(data.images.numpy(), 4)])
        for guard in guards
    )
    assert onnx.shape == (1000, guards[0].config.architecture.num_members, len(guards[0].config.labels))
    assert numpy.abs(onnx - torch_).max() <= 1e-5
    assert numpy.abs(onnx.mean(1) - torch_.mean(1)).max() <= 1e-5
    assert numpy.abs(onnx.sum(-1) - 1).max() <= 1e-5


def test_prediction_does_not_depend_on_the_batch(guard: Guard, digits: numpy.ndarray) -> None:
    images = list(digits[::3])  # More than one batch.
    together = guard.predict(images)
    assert [prediction.label for prediction in together] == [one.label for one in guard.predict(iter(images))]
    for image, prediction in list(zip(images, together, strict=True))[::37]:
        alone = guard.predict(image)
        assert alone.label == prediction.label
        assert alone.agreement == prediction.agreement
        assert alone.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
        assert alone.disagreement == pytest.approx(prediction.disagreement, abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "num_images"), [((1, 28, 28), 256), ((3, 224, 224), 13), ((3, 1024, 1024), 1)], ids=str
)
def test_the_larger_the_images_the_fewer_are_shown_at_a_time(
    shape: tuple[int, int, int], num_images: int, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "image_shape", shape)
    assert sg.load(str(tiny_folder), device="cpu").batch_size == num_images


def test_of_a_long_list_no_more_than_a_batch_is_prepared_at_a_time(
    tiny_folder: Path, digits: numpy.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = sg.load(str(tiny_folder), device="cpu")
    images = list(digits[::150])
    expected = guard.predict(images)
    done = note_work(guard, 3, monkeypatch)
    assert guard.predict(images) == expected
    assert done == ["prepare", "prepare", "prepare", "run 3"] * 2 + ["prepare", "run 1"]


def test_list_gives_a_list_in_its_order(guard: Guard, digits: numpy.ndarray) -> None:
    images = [image[0] for image in digits[::100]]
    labels = [guard.predict(image).label for image in images]
    assert len(set(labels)) > 1
    assert [prediction.label for prediction in guard.predict(images)] == labels
    assert [prediction.label for prediction in guard.predict(images[::-1])] == labels[::-1]
    assert guard.predict([]) == []


def test_every_kind_of_source_gives_the_same(guard: Guard, digits: numpy.ndarray, tmp_path: Path) -> None:
    pixels = digits[321, 0]
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    path = tmp_path / "digit.png"
    path.write_bytes(buffer.getvalue())
    expected = guard.predict(pixels)
    sources: list[Any] = [path, str(path), buffer.getvalue(), image, image.convert("RGB"), pixels[None]]
    sources += [pixels[:, :, None], pixels.astype(numpy.float32) / numpy.float32(255), pixels / 255]
    for source in sources:
        assert guard.predict(source) == expected


def dark_on_light(file: Path) -> Path:
    """A drawing with its thing aside, of another size than the model's: fitted and resized it differs."""
    picture = Image.new("L", (60, 40), 230)
    picture.paste(40, (5, 8, 15, 32))
    file.parent.mkdir(parents=True)
    picture.save(file)
    return file


def test_a_model_of_a_folder_sees_what_its_training_and_its_audit_see(
    tiny_copy: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset="drawings"))
    file = dark_on_light(tmp_path / "drawings" / "test" / "7" / "a.png")
    guard = sg.load(str(tiny_copy), device="cpu")
    audited = load_split(dataset_of(guard.config), tmp_path / "drawings", "test").scaled().numpy()[0]
    for source in (file, file.read_bytes(), Image.open(file), numpy.asarray(Image.open(file))):
        numpy.testing.assert_array_equal(guard.prepare(source), audited)
    assert guard.predict(file) == guard.predict(audited) != guard.predict(file, preprocess="fit")


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_model_of_a_known_data_set_sees_images_as_that_was_made(
    dataset: str, tiny_copy: Path, edit_config: Callable[..., None], tmp_path: Path
) -> None:
    edit_config(tiny_copy, lambda config: config["training"].update(dataset=dataset))
    file = dark_on_light(tmp_path / "pictures" / "a.png")
    guard = sg.load(str(tiny_copy), device="cpu")
    assert guard.predict(file) == guard.predict(file, preprocess="fit") != guard.predict(file, preprocess="resize")


def test_prediction_is_read_off_the_members(guard: Guard, digits: numpy.ndarray) -> None:
    images = digits[::50]
    members = member_probabilities(guard, images).astype(numpy.float64)
    mean = members.mean(1)

    def entropy(probabilities: numpy.ndarray) -> numpy.ndarray:
        return -(probabilities * numpy.log(probabilities)).sum(-1)

    agreements = (members.argmax(-1) == mean.argmax(-1)[:, None]).mean(1)
    assert len(set(agreements)) > 1
    predictions = guard.predict(list(images))
    assert [p.class_index for p in predictions] == mean.argmax(-1).tolist()
    assert [p.label for p in predictions] == [guard.config.labels[index] for index in mean.argmax(-1)]
    assert [p.probability for p in predictions] == pytest.approx(mean.max(-1), abs=1e-6)
    assert numpy.array([p.probabilities for p in predictions]) == pytest.approx(mean, abs=1e-6)
    assert [p.agreement for p in predictions] == pytest.approx(agreements)
    disagreements = entropy(mean) - entropy(members).mean(1)
    assert [p.disagreement for p in predictions] == pytest.approx(disagreements, abs=1e-5)


def test_suspicious_is_what_disagrees_by_more_than_the_threshold(
    tiny_copy: Path, edit_config: Callable[..., None], digits: numpy.ndarray
) -> None:
    images = list(digits[::50])
    uncalibrated = sg.load(str(tiny_copy), device="cpu").predict(images)
    assert {prediction.suspicious for prediction in uncalibrated} == {None}
    threshold = sorted(prediction.disagreement for prediction in uncalibrated)[12]
    suspicion = {"threshold": threshold, "quantile": 0.99, "num_images": 1, "test_rate": 0.01}
    edit_config(tiny_copy, lambda config: config.update(suspicion=suspicion))
    predictions = sg.load(str(tiny_copy), device="cpu").predict(images)
    # An image exactly at the threshold is not suspicious.
    assert [p.suspicious for p in predictions] == [p.disagreement > threshold for p in uncalibrated]
    assert sum(p.suspicious is True for p in predictions) == 7


@pytest.mark.parametrize(("factor", "total"), [(numpy.nan, "nan"), (-1000, "inf"), (0, "10")])
def test_an_answer_without_probabilities_is_an_error(
    tiny_folder: Path, digits: numpy.ndarray, monkeypatch: pytest.MonkeyPatch, factor: float, total: str
) -> None:
    broken = sg.load(str(tiny_folder), device="cpu")
    answer = broken.backend.member_log_probabilities(digits[:1].reshape(1, 1, 28, 28).astype(numpy.float32) / 255)
    monkeypatch.setattr(broken.backend, "member_log_probabilities", lambda images: answer * numpy.float32(factor))
    with pytest.raises(BackendError, match=rf"not probabilities \(for one image they sum to {total}\);"):
        broken.predict(digits[0])


def test_a_class_that_no_member_thinks_possible_is_not_the_label(
    tiny_folder: Path, digits: numpy.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = sg.load(str(tiny_folder), device="cpu")
    masked = numpy.log(numpy.array([0.2, 0.5, 0.3], numpy.float32)).tolist() + [-numpy.inf] * 7
    answer = numpy.array([[masked] * 3], numpy.float32)
    monkeypatch.setattr(guard.backend, "member_log_probabilities", lambda images: answer)
    prediction = guard.predict(digits[0])
    assert (prediction.label, prediction.agreement) == ("1", 1)
    assert prediction.probabilities == pytest.approx([0.2, 0.5, 0.3, *[0] * 7])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU")
def test_cuda_without_a_gpu_is_an_error(tiny_folder: Path, backend: Any) -> None:
    with pytest.raises(BackendError, match=r"device 'cuda' was asked for, but .* use --device cpu"):
        sg.load(str(tiny_folder), backend=backend, device="cuda")


@pytest.mark.parametrize("backend", BACKENDS)
def test_unknown_device_is_an_error(tiny_folder: Path, backend: Any) -> None:
    with pytest.raises(InvalidInputError, match="the device must be auto, cpu or cuda, not 'gpu'"):
        sg.load(str(tiny_folder), backend=backend, device="gpu")


def test_unknown_back_end_is_an_error(tiny_folder: Path) -> None:
    unknown: Any = "tensorflow"
    with pytest.raises(InvalidInputError, match="the back end must be auto, onnx or torch, not 'tensorflow'"):
        sg.load(str(tiny_folder), backend=unknown)


def test_auto_is_onnx_where_the_model_has_it(tiny_copy: Path, edit_config: Callable[..., None]) -> None:
    assert sg.load(str(tiny_copy), device="cpu").backend.name == "onnx"
    edit_config(tiny_copy, lambda config: config["files"].pop(ONNX))
    assert sg.load(str(tiny_copy), device="cpu").backend.name == "torch"
    with pytest.raises(BackendError, match="has no ONNX file; make one with smdguard export"):
        sg.load(str(tiny_copy), backend="onnx", device="cpu")


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("no/such/file.png", ImageError),
        ("/dev/zero", ImageError),
        ("a" * 5000, ImageError),
        ("a\0b.png", ImageError),
        (b"neither PNG nor JPEG", ImageError),
        (numpy.full((28, 28), numpy.nan), InvalidInputError),
        (numpy.full((28, 28), 1.01), InvalidInputError),
        (numpy.zeros((5, 1, 28, 28), numpy.uint8), InvalidInputError),
        (numpy.zeros((28, 28), numpy.int64), InvalidInputError),
    ],
)
def test_what_is_no_image_is_refused(guard: Guard, source: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        guard.predict(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "kind"),
    [(torch.zeros(1, 28, 28), "Tensor"), (torch.zeros(2, 1, 28, 28), "Tensor"), (7, "int"), ([None], "NoneType")],
)
def test_what_is_of_no_accepted_kind_is_told_which_there_are(guard: Guard, source: Any, kind: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        guard.predict(source)
    assert str(caught.value) == (
        f"an image cannot be of type {kind}; give a path, the bytes of a PNG or JPEG file, a PIL image, or a numpy "
        "array"
    )


def test_prepared_images_are_taken_as_prepare_gives_them_or_not_at_all(guard: Guard, digits: numpy.ndarray) -> None:
    assert guard.predict_prepared(numpy.zeros((0, 1, 28, 28), numpy.float32)) == []
    prepared = guard.prepare(digits[0])[None]
    assert guard.predict_prepared(prepared) == [guard.predict(digits[0])]
    wanted = r"^prepared images must be of float32 \(B, 1, 28, 28\), as prepare gives them, not of "
    with pytest.raises(InvalidInputError, match=wanted + r"float64 \(1, 1, 28, 28\)$"):
        guard.predict_prepared(prepared.astype(numpy.float64))
    with pytest.raises(InvalidInputError, match=wanted + r"float32 \(1, 28, 28\)$"):
        guard.predict_prepared(prepared[0])


def test_onnx_prediction_is_quiet_and_does_not_import_torch(tiny_folder: Path) -> None:
    script = (
        "import sys, smdguard as sg\n"
        "assert not {'numpy', 'torch', 'PIL', 'onnxruntime'} & set(sys.modules), 'imported by smdguard itself'\n"
        f"guard = sg.load({str(tiny_folder)!r})\n"
        "print(guard.predict('zoo/samples/digit-7.png').label, 'torch' in sys.modules)\n"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-W", "error", "-c", script]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.stderr == ""
    label, torch_was_imported = answer.stdout.split()
    assert label in "0123456789"
    assert torch_was_imported == "False"
