"""What a report shows beside its numbers agrees with them, is small, and is the same each time."""

import base64
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import numpy
import pytest
import torch
from torch import Tensor

from smdguard import render
from smdguard.attacks import FGSM, PGD
from smdguard.auditing import audit
from smdguard.auditing.pictures import MAX_SIDE
from smdguard.ensemble import Ensemble
from smdguard.report import AuditReport, Exhibits, Picture
from smdguard.threat import ThreatModel

pytestmark = pytest.mark.usefixtures("short_query")

THREAT = ThreatModel("linf", 0.05)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def run(model: object, images: Tensor, labels: Tensor, threat: ThreatModel = THREAT) -> tuple[AuditReport, Exhibits]:
    report = audit(model, images, labels, threat, attacks=[FGSM(), PGD()])  # type: ignore[arg-type]
    assert report.exhibits is not None
    return report, report.exhibits


def pixels(picture: Picture) -> numpy.ndarray:
    levels = numpy.frombuffer(base64.b64decode(picture.pixels), numpy.uint8)
    return levels.reshape(picture.shape).astype(float)


def entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.log()).sum(dim=-1)


def test_exhibits_of_an_ensemble(tiny_ensemble: Ensemble, images: Tensor) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)
    report, shown = run(tiny_ensemble, images, labels)
    assert shown == run(tiny_ensemble, images, labels)[1]
    assert 1 < len({image.label for image in shown.gallery}) == len(shown.gallery) <= 8
    for image in shown.gallery:
        change = pixels(image.adversarial) - pixels(image.clean)
        assert 0 < numpy.abs(change).max() <= 255 * THREAT.epsilon + 1
        assert image.attack in {"FGSM", "PGD"}
        attacked = torch.from_numpy(pixels(image.adversarial) / 255).float()
        assert tiny_ensemble(attacked[None]).argmax() == image.adversarial_label
    assert [len(row.maps) for row in shown.saliency] == [3] * min(3, len(shown.gallery))
    for row in shown.saliency:
        assert all(-1 <= cosine <= 1 for cosine in row.cosines)
        assert all(numpy.abs(pixels(saliency) - 128).max() == 127 for saliency in row.maps)
    assert shown.disagreement is not None
    assert len(shown.disagreement.adversarial) <= len(shown.disagreement.clean) <= 40
    assert len(render.json(report)) < 200_000


def test_what_is_shown_of_clean_images_is_what_the_members_say_of_them(tiny_ensemble: Ensemble, images: Tensor) -> None:
    images = (255 * images).round() / 255
    labels = tiny_ensemble(images).argmax(dim=1)
    _, shown = run(tiny_ensemble, images, labels)
    levels = (255 * images).round().numpy()
    normalised = tiny_ensemble.normalise(images).requires_grad_()
    logits = torch.stack([member(normalised) for member in tiny_ensemble.members])
    log_odds = logits.softmax(dim=-1)[:, range(len(labels)), labels].logit()
    gradients = [torch.autograd.grad(each.sum(), normalised, retain_graph=True)[0].flatten(1) for each in log_odds]
    probabilities = logits.softmax(dim=-1).detach()
    mean = probabilities.mean(dim=0)
    spread = entropy(mean) - entropy(probabilities).mean(dim=0)
    assert shown.gallery
    assert shown.saliency
    for image in shown.gallery:
        (row,) = numpy.flatnonzero((levels == pixels(image.clean)).all(axis=(1, 2, 3)))
        assert image.label == labels[row]
        assert image.clean_probability == pytest.approx(mean[row, labels[row]].item(), rel=1e-4)
    for maps in shown.saliency:
        (row,) = numpy.flatnonzero((levels == pixels(maps.image)).all(axis=(1, 2, 3)))
        for picture, gradient in zip(maps.maps, gradients, strict=True):
            expected = 128 + 127 * gradient[row] / gradient[row].abs().max()
            assert numpy.abs(pixels(picture).ravel() - expected.numpy()).max() < 1
        pairs = [(gradients[first][row], gradients[second][row]) for first, second in ((0, 1), (0, 2), (1, 2))]
        cosines = [torch.cosine_similarity(*pair, dim=0).item() for pair in pairs]
        assert maps.cosines == pytest.approx(cosines, abs=1e-3)
    assert shown.disagreement is not None
    # Images that fare otherwise than in the audit are left out.
    known = torch.tensor(shown.disagreement.clean)
    assert len(known) > 30
    assert (known[:, None] - spread).abs().amin(dim=1).max() < 1e-5


@pytest.mark.parametrize("switch_off", [torch.no_grad, torch.inference_mode])
def test_a_report_is_the_same_where_gradients_are_switched_off(
    tiny_ensemble: Ensemble, images: Tensor, switch_off: Callable[[], AbstractContextManager[None]]
) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)
    expected, _ = run(tiny_ensemble, images, labels)
    with switch_off():
        report, _ = run(tiny_ensemble, images.clone(), labels.clone())
    assert replace(report, seconds=0) == replace(expected, seconds=0)


@pytest.mark.parametrize(("epsilon", "fooled"), [(0.0, False), (1.0, True)])
def test_gallery_agrees_with_the_worst_case(
    tiny_ensemble: Ensemble, images: Tensor, epsilon: float, fooled: bool
) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)
    report, shown = run(tiny_ensemble, images, labels, ThreatModel("linf", epsilon))
    assert report.worst_case.robust_accuracy.value == (0 if fooled else 1)
    assert shown.gallery
    assert all((image.adversarial_label != image.label) == fooled for image in shown.gallery)


def test_other_models_have_only_a_gallery(tiny_ensemble: Ensemble, images: Tensor) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)
    _, shown = run(lambda batch: tiny_ensemble(batch), images, labels)
    assert shown.gallery
    assert (shown.saliency, shown.disagreement) == ((), None)


def test_a_model_that_works_in_place_does_not_change_what_is_shown(tiny_ensemble: Ensemble, images: Tensor) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)

    def in_place(batch: Tensor) -> Tensor:
        return tiny_ensemble(batch.mul_(1.0).sub_(0.25).add_(0.25)) + 0 * batch.sub_(0.2).sum()

    _, shown = run(in_place, images, labels)
    _, expected = run(lambda batch: tiny_ensemble(batch), images, labels)
    assert [image.clean for image in shown.gallery] == [image.clean for image in expected.gallery]


def test_a_model_that_is_always_wrong_has_nothing_to_show(tiny_ensemble: Ensemble, images: Tensor) -> None:
    labels = (tiny_ensemble(images).argmax(dim=1) + 1) % 10
    _, shown = run(tiny_ensemble, images, labels)
    assert shown == Exhibits((), (), None)


@pytest.mark.parametrize("label", [0, 1])
def test_an_image_whose_answer_is_no_number_is_not_shown_as_taken_for_a_class(label: int) -> None:
    def model(batch: Tensor) -> Tensor:
        lead = 0.52 - batch.mean(dim=(1, 2, 3)) + 0 * torch.where(batch > 0.55, torch.nan, 0).sum(dim=(1, 2, 3))
        return torch.stack([lead, -lead] if label == 0 else [-lead, lead], dim=1)

    report, shown = run(model, torch.full((5, 1, 4, 4), 0.5), torch.full((5,), label), ThreatModel("linf", 0.1))
    assert report.worst_case.robust_accuracy.value == 0
    assert shown.gallery == ()


def test_large_images_are_shown_small() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 100, 200, generator=generator)
    _, shown = run(lambda batch: batch.mean(dim=(2, 3)), images, images.mean(dim=(2, 3)).argmax(dim=1))
    picture = shown.gallery[0].clean
    assert (picture.channels, picture.height, picture.width) == (3, MAX_SIDE // 2, MAX_SIDE)


@pytest.mark.parametrize("epsilon", [0.05, 0.0005])
def test_the_change_of_large_images_is_shown_in_its_size_and_sign(epsilon: float) -> None:
    """A change so small that 8 bits do not hold it, and of both signs so close together that a mean is near none."""
    images = torch.full((3, 3, 96, 192), 0.5)
    pattern = torch.tensor([[1.0, -0.5], [-0.5, -0.5]]).repeat(48, 96)
    pattern[:, :96] *= -1

    class Printed(FGSM):
        def __call__(self, model: object, images: Tensor, *_: object, **__: object) -> Tensor:
            return images + epsilon * pattern

    report = audit(
        lambda batch: torch.stack([batch.mean(dim=(1, 2, 3)), batch.mean(dim=(1, 2, 3)) - 1], dim=1),
        images,
        torch.zeros(3, dtype=torch.long),
        ThreatModel("linf", epsilon),
        attacks=[Printed()],
    )
    assert report.exhibits is not None
    (shown,) = report.exhibits.gallery
    levels = pixels(shown.perturbation)
    assert levels.shape == (3, MAX_SIDE // 2, MAX_SIDE)
    assert (levels[:, :, :24] == 1).all()
    assert (levels[:, :, 24:] == 255).all()


def test_the_change_of_small_images_is_shown_pixel_by_pixel(tiny_ensemble: Ensemble, images: Tensor) -> None:
    _, shown = run(tiny_ensemble, images, tiny_ensemble(images).argmax(dim=1))
    assert shown.gallery
    for image in shown.gallery:
        change = (pixels(image.adversarial) - pixels(image.clean)) / (255 * THREAT.epsilon)
        assert (pixels(image.perturbation) - 128) / 127 == pytest.approx(change, abs=0.1)


def test_what_is_shown_of_attacked_images_is_what_the_ensemble_says_of_them(
    tiny_ensemble: Ensemble, images: Tensor
) -> None:
    labels = tiny_ensemble(images).argmax(dim=1)
    report, shown = run(tiny_ensemble, images, labels, ThreatModel("linf", 0.006))
    assert shown.disagreement is not None
    num_fooled = round(40 * (1 - report.worst_case.robust_accuracy.value))
    num_left_out = 40 - len(shown.disagreement.clean)
    assert 0 <= num_left_out < 5 < num_fooled < 35
    assert num_fooled - num_left_out <= len(shown.disagreement.adversarial) <= num_fooled
    for image in shown.gallery:
        attacked = torch.from_numpy(pixels(image.adversarial) / 255).float()
        probability = tiny_ensemble(attacked[None])[0, image.adversarial_label].exp().item()
        assert image.adversarial_probability == pytest.approx(probability, abs=0.01)
