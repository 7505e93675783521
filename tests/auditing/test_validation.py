"""Wrong use of an audit is told in one line, before anything is attacked."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from smdguard import render
from smdguard.attacks import FGSM, PGD, MemberReweighing
from smdguard.auditing import audit
from smdguard.auditing.validation import check_model, checked_images
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel
from tests.auditing.stripes import ATTACKS, Stripes, run, stripes, stripes_model

PIXELS = numpy.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=numpy.uint8)
LABELS = numpy.array([0, 1, 2, 0, 1, 2])
THREAT = ThreatModel("linf", 0.1)


def linear_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval().requires_grad_(False)


@pytest.mark.parametrize(
    "images",
    [PIXELS / 255, (PIXELS / 255).astype(numpy.float16), torch.from_numpy(PIXELS).bfloat16() / 255],
    ids=["float64", "float16", "bfloat16"],
)
def test_images_of_any_float_type_are_audited_as_32_bits(images: Any) -> None:
    checked = checked_images(images)
    assert checked.dtype == torch.float32
    torch.testing.assert_close(checked, torch.from_numpy(PIXELS).float() / 255, rtol=0, atol=2e-3)
    given, converted = (audit(linear_model(), each, LABELS, THREAT, attacks=[FGSM()]) for each in (images, checked))
    assert given.attacks == converted.attacks


def test_images_and_labels_may_lie_in_memory_in_any_order() -> None:
    twice, labels = numpy.repeat(PIXELS / 255, 2, axis=0), numpy.repeat(LABELS, 2)
    plain = audit(linear_model(), PIXELS[::-1].copy() / 255, LABELS[::-1].copy(), THREAT, attacks=[FGSM()], store={})
    for images, truth in (
        (twice[::-2], labels[::-2]),
        (torch.from_numpy(twice).flip(0)[::2], torch.from_numpy(labels).flip(0)[::2]),
    ):
        report = audit(linear_model(), images, truth, THREAT, attacks=[FGSM()], store={})
        assert dataclasses.replace(report, seconds=plain.seconds) == plain


def test_images_and_labels_may_lie_in_memory_that_is_only_read(tmp_path: Path) -> None:
    numpy.save(tmp_path / "images.npy", PIXELS / numpy.float32(255))
    numpy.save(tmp_path / "labels.npy", LABELS)
    images, labels = (numpy.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("images", "labels"))
    audit(linear_model(), images, labels, THREAT, attacks=[FGSM()])


def test_rounding_above_one_is_no_reason_to_refuse() -> None:
    images = numpy.full((1, 1, 2, 2), 1 + 1e-12)
    assert checked_images(images).max().item() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y), "shape"),
        (lambda x, y: (x * 255, y), r"\[0, 1\]"),
        (lambda x, y: (x - 0.5, y), r"\[0, 1\]"),
        (lambda x, y: (x.masked_fill(x > 0.5, float("nan")), y), "NaN"),
        (lambda x, y: ((x * 255).byte(), y), "floats"),
        (lambda x, y: (x, y[:-1]), "one for each image"),
        (lambda x, y: (x, y.float()), "integers"),
        (lambda x, y: (x, y + 1), "0 to 1"),
        (lambda x, y: (x, y - 1), "0 to 1"),
        (lambda x, y: (x[:0], y[:0]), "B at least 1"),
        (lambda x, y: (x[..., :0], y), "pixels in each"),
        (
            lambda x, y: ("x.png", y),
            r"images must be a tensor or an array of numbers, not str \(TypeError: .* 'str'\)$",
        ),
        (lambda x, y: (None, y), "images must be a tensor or an array of numbers, not NoneType"),
        (lambda x, y: (numpy.full(len(x), None), y), "images must be a tensor or an array of numbers, not ndarray"),
        (lambda x, y: (x, ["a"] * len(y)), "labels must be a tensor or an array of numbers, not list"),
    ],
)
def test_wrong_images_and_labels_are_refused(change, message: str) -> None:
    images, labels = change(*stripes()[:2])
    with pytest.raises(InvalidInputError, match=message):
        audit(stripes_model(), images, labels, ThreatModel("linf", 0.1), attacks=ATTACKS)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Stripes().train(), "training mode"),
        (lambda images: images, "logits"),
        (lambda images: 3, "logits"),
        (lambda images: stripes_model()(images).softmax(dim=1), "probabilities"),
    ],
)
def test_wrong_models_are_refused(model: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run(model)


@dataclass
class ImageClassifierOutput:
    """As transformers' models give it."""

    logits: Tensor


WRAPPED: list[tuple[Any, str]] = [
    (ImageClassifierOutput, "ImageClassifierOutput; wrap it in a function that returns its .logits"),
    (lambda logits: (logits, None), "tuple of 2; wrap it in a function that returns the tensor of logits alone"),
    (
        lambda logits: {"logits": logits, "features": logits},
        "dict with 'logits', 'features'; wrap it in a function that returns the tensor of logits alone",
    ),
    (lambda logits: logits.numpy(), "ndarray; wrap it in a function that returns the tensor of logits alone"),
]


@pytest.mark.parametrize(("wrap", "message"), WRAPPED)
def test_what_holds_the_logits_is_refused_with_what_to_do(wrap: Any, message: str) -> None:
    model = linear_model()
    with pytest.raises(InvalidInputError) as caught:
        audit(lambda images: wrap(model(images)), PIXELS / 255, LABELS, THREAT, attacks=[FGSM()])
    assert str(caught.value) == f"the model must turn 2 images into logits (2, K), but gave {message}"


def test_wrong_radii_and_presets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"between 0 and 0\.1"):
        run(stripes_model(), epsilons=[0.2])
    for strange in (["a"], None, 0.05, [None]):
        with pytest.raises(InvalidInputError, match=r"^epsilons must be a sequence of numbers, not "):
            run(stripes_model(), epsilons=strange)
    with pytest.raises(InvalidInputError, match="quick"):
        run(stripes_model(), attacks="strong")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_model_without_finite_output_is_refused(value: float) -> None:
    def broken(images: Tensor) -> Tensor:
        return linear_model()(images).index_fill(1, torch.tensor([1]), value)

    with pytest.raises(InvalidInputError, match="gave NaN or infinite values for the first images"):
        check_model(broken, checked_images(PIXELS / 255), torch.from_numpy(LABELS))


def test_surrogates_are_tried_before_anything_is_attacked() -> None:
    calls = []

    def audited(images: Tensor) -> Tensor:
        calls.append(len(images))
        return linear_model()(images)

    surrogates = {"blind": lambda images: linear_model()(images.detach())}
    with pytest.raises(InvalidInputError, match="surrogate blind gives no input gradients"):
        audit(audited, PIXELS / 255, LABELS, THREAT, attacks=[FGSM()], surrogates=surrogates)
    with pytest.raises(InvalidInputError, match=r"surrogate training is in training mode"):
        audit(audited, PIXELS / 255, LABELS, THREAT, attacks=[FGSM()], surrogates={"training": linear_model().train()})
    assert max(calls) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("num_classes", [3, 1000])
def test_probabilities_are_refused_in_whatever_precision(dtype: torch.dtype, num_classes: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, num_classes), nn.Softmax(dim=1)).eval()
    with pytest.raises(InvalidInputError, match="seems to give probabilities"):
        check_model(lambda each: network(each).to(dtype), checked_images(PIXELS / 255), torch.from_numpy(LABELS))


def test_weights_that_allow_no_gradient_are_refused() -> None:
    with torch.inference_mode():
        model = linear_model()
    with pytest.raises(InvalidInputError, match=r"^the model has weights made under torch.inference_mode\(\)"):
        audit(model, PIXELS / 255, LABELS, THREAT, attacks=[FGSM()])


def test_a_model_of_another_type_is_refused_with_what_it_was_given() -> None:
    images = checked_images(PIXELS / 255)
    with pytest.raises(InvalidInputError, match=r"cannot be asked about torch.float32 images \(2, 1, 4, 4\) on cpu: "):
        check_model(linear_model().double(), images, torch.from_numpy(LABELS))


def test_a_model_that_leaves_out_the_row_of_a_single_image_is_refused() -> None:
    model = linear_model()
    with pytest.raises(InvalidInputError, match=r"must turn 1 images into logits \(1, K\), but gave shape \(3,\)"):
        check_model(lambda images: model(images).squeeze(), checked_images(PIXELS / 255), torch.from_numpy(LABELS))


def test_which_surrogate_takes_other_images_is_told() -> None:
    ensemble = Ensemble([linear_model()], mean=[0.5] * 3, std=[0.25] * 3).eval()
    with pytest.raises(InvalidInputError, match=r"^the surrogate theirs cannot be asked about .*the ensemble takes"):
        audit(linear_model(), PIXELS / 255, LABELS, THREAT, attacks=[FGSM()], surrogates={"theirs": ensemble})


def test_outputs_on_another_device_than_the_images_are_refused() -> None:
    model = linear_model()
    with pytest.raises(InvalidInputError, match="was given images on cpu, but gave its outputs on meta"):
        check_model(lambda images: model(images).to("meta"), checked_images(PIXELS / 255), torch.from_numpy(LABELS))


def test_members_are_attacked_only_where_their_probabilities_are_averaged() -> None:
    """A mean of logits decides by something else than what the attack on members watches."""

    class MeanOfLogits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.members = nn.ModuleList([linear_model() for _ in range(3)]).eval()

        def member_logits(self, images: Tensor) -> Tensor:
            return torch.stack([member(images) for member in self.members])

        def forward(self, images: Tensor) -> Tensor:
            return self.member_logits(images).mean(dim=0)

    report = audit(MeanOfLogits().eval(), PIXELS / 255, LABELS, THREAT, attacks=[FGSM(), MemberReweighing()])
    assert [result.name for result in report.attacks] == ["FGSM"]
    assert [left.name for left in report.impossible] == ["MORA"]


@pytest.mark.parametrize(
    ("surrogates", "message"),
    [({}, "there is no surrogate"), ({"other": linear_model()}, "none can be made on a surrogate")],
)
def test_where_no_attack_is_possible_the_reasons_are_said(surrogates: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"^no attack is possible on this model, and {message} \(MORA: "):
        audit(linear_model(), PIXELS / 255, LABELS, THREAT, attacks=[MemberReweighing()], surrogates=surrogates)


def test_surrogates_of_other_classes_are_refused() -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS[0].size, 7)).eval()
    with pytest.raises(InvalidInputError, match=r"^the surrogate other has 7 classes, and the model \d$"):
        audit(linear_model(), PIXELS / 255, LABELS, THREAT, attacks=[FGSM()], surrogates={"other": other})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "smd-lenet-mnist"}, "the model must be a function of images, such as a torch.nn.Module, not str"),
        ({"surrogates": {"a": "b"}}, "the surrogate a must be a function of images"),
        ({"threat": 0.03}, r"threat must be a ThreatModel, such as ThreatModel\('linf', 0.1\), not 0.03"),
        ({"seed": 2.5}, "seed must be an integer, not 2.5"),
        ({"seed": None}, "seed must be an integer, not None"),
        ({"class_names": "abcd"}, "class_names must be a sequence of strings, not 'abcd'"),
        ({"class_names": [1, 2]}, r"class_names must be a sequence of strings, not \[1, 2\]"),
        ({"class_names": None}, "class_names must be a sequence of strings, not None"),
        ({"class_names": numpy.array([1, 2])}, r"class_names must be a sequence of strings, not array\(\[1, 2\]\)"),
        ({"class_names": {"a"}}, r"class_names must be a sequence of strings, not \{'a'\}"),
        ({"seed": True}, "seed must be an integer, not True"),
        ({"class_names": ["a"]}, r"class_names has 1 names, and the model \d classes"),
    ],
)
def test_what_else_an_audit_is_given_is_checked(settings: dict[str, Any], message: str) -> None:
    given = {"model": linear_model(), "images": PIXELS / 255, "labels": LABELS, "threat": THREAT, "attacks": [FGSM()]}
    with pytest.raises(InvalidInputError, match=f"^{message}"):
        audit(**(given | settings))


def test_numpy_s_seeds_and_names_are_as_good_as_python_s() -> None:
    given: Any = {"seed": numpy.int64(3), "class_names": numpy.array(["a", "b", "c"])}
    plain: Any = {"seed": 3, "class_names": ["a", "b", "c"]}
    reports = [
        audit(linear_model(), PIXELS / 255, LABELS, THREAT, attacks=[FGSM(), PGD()], **settings)
        for settings in (given, plain)
    ]
    of_numpy, of_python = (render.json(dataclasses.replace(report, seconds=0)) for report in reports)
    assert of_numpy == of_python
