"""Figures that flatter a model are not believed: answers that are not its own, at random, by chance, or unattacked."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import smdguard as sg
from smdguard.auditing.input_probes import probe_input
from smdguard.errors import InvalidInputError
from smdguard.threat import Norm


def images_and_labels(num_classes: int = 4) -> tuple[Tensor, Tensor]:
    """Each class lights up a pixel of its own."""
    labels = torch.arange(40) % num_classes
    images = 0.2 * torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images.view(40, -1)[torch.arange(40), labels] += 0.7
    return images, labels


def classify(images: Tensor) -> Tensor:
    return 10 * images.flatten(1)[:, :4]


def checks(model: object, images: Tensor, labels: Tensor) -> list[tuple[str, str]]:
    found = probe_input(model, images, labels, has_gradients=True)  # type: ignore[arg-type]
    return [(finding.check, finding.severity) for finding in found]


def test_nothing_is_found_on_a_sound_model() -> None:
    assert checks(classify, *images_and_labels()) == []


def test_answers_that_depend_on_the_other_images_are_found() -> None:
    images, labels = images_and_labels()
    assert checks(lambda batch: classify(batch) - classify(batch).mean(dim=0), images, labels) == [
        ("depends_on_batch", "high")
    ]


def beside_a_huge_score(outputs: Tensor) -> Tensor:
    return nn.functional.pad(outputs, (0, 1), value=-1e9)


def beside_many_huge_scores(outputs: Tensor) -> Tensor:
    return nn.functional.pad(outputs, (0, 9), value=-1e9)


def far_from_zero(outputs: Tensor) -> Tensor:
    return outputs + 1e4


def in_small_units(outputs: Tensor) -> Tensor:
    return outputs / 1000


@pytest.mark.parametrize("shape", [beside_a_huge_score, beside_many_huge_scores, far_from_zero, in_small_units])
def test_no_size_of_scores_hides_that_answers_change(shape: Callable[[Tensor], Tensor]) -> None:
    images, labels = images_and_labels()
    assert checks(lambda batch: shape(classify(batch)), images, labels) == []

    def random(batch: Tensor) -> Tensor:
        return shape(classify(batch) + 0.1 * torch.randn(len(batch), 4))

    def of_its_batch(batch: Tensor) -> Tensor:
        return shape(classify(batch) - classify(batch).mean(dim=0))

    def otherwise_for_attacks(batch: Tensor) -> Tensor:
        return shape((1 + torch.is_grad_enabled()) * classify(batch))

    found = [checks(model, images, labels) for model in (random, of_its_batch, otherwise_for_attacks)]
    assert [finding for of_model in found for finding in of_model] == [
        ("random_output", "high"),
        ("depends_on_batch", "high"),
        ("answers_attacks_otherwise", "high"),
    ]


def test_a_figure_of_answers_that_depend_on_the_batch_is_not_believed_beside_a_huge_score() -> None:
    images, labels = images_and_labels()

    def model(batch: Tensor) -> Tensor:
        return beside_a_huge_score(classify(batch) - classify(batch).mean(dim=0))

    report = sg.audit(model, images, labels, sg.ThreatModel("linf", 0.05), attacks=[sg.PGD(), sg.APGD()])
    assert "depends_on_batch" in [finding.check for finding in report.findings]
    assert (report.worst_case.robust_accuracy.value, report.verdict) == (1.0, "unreliable")


@pytest.mark.parametrize("score", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("alone", [True, False])
def test_a_score_that_is_finite_only_for_some_who_ask_is_another_answer(score: float, alone: bool) -> None:
    def model(batch: Tensor) -> Tensor:
        last = score if (len(batch) == 1) == alone else -1.0
        return nn.functional.pad(classify(batch), (0, 1), value=last)

    assert ("depends_on_batch", "high") in checks(model, *images_and_labels())


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_the_last_digit_of_scores_far_from_zero_is_no_other_answer(unit: float) -> None:
    """Such as those of the nearest mean, whose lead is little of them."""

    def model(batch: Tensor) -> Tensor:
        scores = unit * (1e-4 * classify(batch) - 4600)
        return torch.nextafter(scores, torch.tensor(0.0)) if len(batch) == 1 else scores

    assert "depends_on_batch" not in [check for check, _ in checks(model, *images_and_labels())]


@pytest.mark.parametrize("score", [torch.nan, -torch.inf])
def test_a_score_that_is_never_a_number_is_no_other_answer(score: float) -> None:
    found = checks(lambda batch: nn.functional.pad(classify(batch), (0, 1), value=score), *images_and_labels())
    assert not {"random_output", "depends_on_batch", "answers_attacks_otherwise"} & {check for check, _ in found}


@pytest.mark.parametrize("logarithm", [False, True])
@pytest.mark.parametrize("largest", [8, 48])
def test_rounding_in_half_precision_is_no_other_answer(largest: int, logarithm: bool) -> None:
    images, labels = images_and_labels()

    def model(batch: Tensor) -> Tensor:
        # Rounded alone to other numbers than among others, as kernels for batches of other sizes do.
        outputs = classify(batch) + largest - 8
        rounded = (outputs * (1 + 0.004 * (len(batch) == 1))).bfloat16().float()
        return rounded.log_softmax(dim=1) if logarithm else rounded

    assert checks(model, images, labels) == []


def test_answers_at_random_are_not_taken_for_ones_that_depend_on_the_batch() -> None:
    images, labels = images_and_labels()
    assert checks(lambda batch: classify(batch) + torch.randn(len(batch), 4), images, labels) == [
        ("random_output", "high")
    ]


def hard(decide: Callable[[Tensor], Tensor], decoy: Tensor) -> Callable[[Tensor], Tensor]:
    """Tells the decision alone, and beside it a slope (pixels, K) that has nothing to do with it."""

    def model(batch: Tensor) -> Tensor:
        outputs = decide(batch.detach())
        return 60.0 * nn.functional.one_hot(outputs.argmax(dim=1), outputs.shape[1]) + batch.flatten(1) @ decoy

    return model


def test_a_decision_that_the_scores_do_not_show_is_found_in_whatever_order_the_classes_come() -> None:
    images, labels = images_and_labels()
    model = hard(classify, torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))
    assert checks(model, images, labels) == [("scores_jump", "high")]
    # So many of each class, one class after another, as a folder has them.
    order = labels.argsort(stable=True).repeat_interleave(5)
    assert checks(model, images[order], labels[order]) == [("scores_jump", "high")]


def test_a_decision_that_the_scores_hide_for_some_classes_is_found() -> None:
    images, labels = images_and_labels()
    hiding = hard(classify, torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))

    def model(batch: Tensor) -> Tensor:
        outputs = classify(batch)
        return torch.where((outputs.argmax(dim=1) < 2)[:, None], hiding(batch), outputs)

    assert checks(model, images, labels) == [("scores_jump", "high")]


@pytest.mark.parametrize("slope", [100, 1000, 1e4])
def test_a_decision_that_shows_only_within_a_step_is_found(slope: float) -> None:
    """The scores rise from one class's to the other's over a hundredth of the way, or a ten-thousandth."""
    images, labels = images_and_labels(2)

    def model(batch: Tensor) -> Tensor:
        difference = batch.flatten(1)[:, 0] - batch.flatten(1)[:, 1]
        lead = (slope * difference).clamp(-1, 1) * (1 + batch.flatten(1)[:, 5])
        return torch.stack([lead, -lead], dim=1)

    assert checks(model, images, labels) == [("scores_jump", "high")]


def decoyed() -> sg.AuditReport:
    """The audit of a model all of whose images fall, which gives attacks a decoy that none of them does well along."""
    generator = torch.Generator().manual_seed(0)
    prototypes = 0.5 + 0.1 * torch.randn(2, 64, generator=generator).sign()
    labels = torch.arange(60) % 2
    images = (prototypes[labels] + 0.02 * torch.randn(60, 64, generator=generator)).view(60, 1, 8, 8)

    def honest(batch: Tensor) -> Tensor:
        return 20 * (batch.flatten(1) - prototypes.mean(dim=0)) @ (prototypes - prototypes.mean(dim=0)).T

    decoy = 2 * torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    threat, attacks = sg.ThreatModel("linf", 0.25), [sg.PGD(), sg.APGD()]
    assert sg.audit(honest, images, labels, threat, attacks=attacks).worst_case.robust_accuracy.value == 0
    return sg.audit(hard(honest, decoy), images, labels, threat, attacks=attacks)


@pytest.mark.usefixtures("without_walk")
def test_a_figure_that_attacks_along_a_decoy_leave_is_not_believed() -> None:
    report = decoyed()
    # All that the audit asks brings few of them down, and the attacks none.
    assert [result.robust_accuracy.value for result in report.attacks] == [1, 1]
    assert report.worst_case.robust_accuracy.value >= 0.9
    assert "scores_jump" in [finding.check for finding in report.findings]
    assert report.verdict == "unreliable"


def test_of_two_classes_a_decoy_does_not_hide_the_boundary() -> None:
    report = decoyed()
    assert [result.robust_accuracy.value for result in report.attacks] == [1, 1]
    assert report.worst_case.robust_accuracy.value == 0
    assert report.verdict == "fragile"


def test_scores_of_a_quantised_input_and_of_a_steep_model_do_not_jump() -> None:
    images, labels = images_and_labels()
    assert checks(lambda batch: classify((255 * batch).round() / 255), images, labels) == []
    assert checks(lambda batch: 1e4 * classify(batch), images, labels) == []


def test_scores_that_are_steep_everywhere_do_not_jump() -> None:
    """As those of deep networks are between large images: each thousandth of the way changes half a margin."""
    images, labels = images_and_labels(2)

    def model(batch: Tensor) -> Tensor:
        difference = batch.flatten(1)[:, 0] - batch.flatten(1)[:, 1]
        lead = difference + 2 * (150 * batch.flatten(1).sum(dim=1)).sin()
        return torch.stack([lead, -lead], dim=1)

    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    assert "scores_jump" not in [check for check, _ in checks(model, images, labels)]


def test_a_model_that_always_gives_one_answer_is_no_better_than_chance_and_not_robust() -> None:
    images, labels = images_and_labels()
    constant = torch.tensor([1.0, 0.0, 0.0, 0.0])

    def model(batch: Tensor) -> Tensor:
        return constant + 1e-3 * classify(batch)

    assert checks(model, images, labels) == [("no_better_than_chance", "high")]
    report = sg.audit(model, images, labels, sg.ThreatModel("linf", 0.1), attacks=[sg.PGD()])
    assert (report.worst_case.robust_accuracy.value, report.verdict) == (0.25, "unreliable")


def mostly_dark(num_bright: int) -> tuple[Tensor, Tensor]:
    """A hundred images, of which so many are bright and of the second class."""
    labels = (torch.arange(100) < num_bright).long()
    noise = torch.rand(100, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return 0.2 * noise + 0.5 * labels.view(-1, 1, 1, 1), labels


def by_brightness(images: Tensor, *, above: float) -> Tensor:
    brightness = images.mean(dim=(1, 2, 3))
    return 20 * torch.stack([above - brightness, brightness - above], dim=1)


def test_answering_with_the_commonest_class_is_no_better_than_chance() -> None:
    images, labels = mostly_dark(10)
    assert ("no_better_than_chance", "high") in checks(lambda batch: by_brightness(batch, above=0.95), images, labels)
    # Here the scores tell the classes apart, though not many images are of the second.
    assert checks(lambda batch: by_brightness(batch, above=0.35), images, labels) == []
    wrong = labels.clone()
    wrong[:3] = 0
    assert checks(lambda batch: by_brightness(batch, above=0.35), images, wrong) == []


def test_images_of_one_class_alone_can_be_told_by_more_than_chance() -> None:
    images, labels = mostly_dark(0)
    right = by_brightness(images, above=0.12).argmax(dim=1) == labels
    assert 0.6 < right.double().mean() < 1
    assert checks(lambda batch: by_brightness(batch, above=0.12), images, labels) == []


def test_a_few_images_that_are_all_right_are_no_chance() -> None:
    images, labels = images_and_labels(2)
    assert checks(lambda batch: classify(batch)[:, :2], images[:2], labels[:2]) == []


def test_images_that_only_the_check_on_the_attacks_fools_are_told_of_where_they_are_few() -> None:
    images, labels = images_and_labels()

    def model(batch: Tensor) -> Tensor:
        # Of one image the gradient at the image itself, which is all that one step sees, leads the wrong way.
        outputs, clean = classify(batch), (batch == images[0]).flatten(1).all(dim=1, keepdim=True)
        return torch.where(clean, outputs.detach() - (outputs - outputs.detach()), outputs)

    report = sg.audit(model, images, labels, sg.ThreatModel("linf", 0.45), attacks=[sg.FGSM()])
    (finding,) = [finding for finding in report.findings if finding.check == "attacks_too_weak"]
    assert finding.severity == "note"
    assert finding.evidence["attacks"] - finding.evidence["with_probe"] == pytest.approx(1 / 40)


def test_batch_normalisation_in_training_mode_is_refused() -> None:
    images, labels = images_and_labels()
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()
    model[0].train()
    with pytest.raises(InvalidInputError, match="batch normalisation in training mode"):
        sg.audit(model, images, labels, sg.ThreatModel("linf", 0.1), attacks=[sg.FGSM()])


def test_nothing_is_robust_at_a_radius_of_zero() -> None:
    images, labels = images_and_labels()
    report = sg.audit(classify, images, labels, sg.ThreatModel("linf", 0.0), attacks=[sg.PGD()])
    assert (report.worst_case.robust_accuracy.value, report.verdict) == (1.0, "unreliable")
    assert "a radius of 0 allows no change" in report.verdict_reason


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_nothing_is_robust_at_a_radius_that_changes_no_8_bit_image(norm: Norm) -> None:
    images, labels = images_and_labels()
    below, above = (
        sg.audit(classify, images, labels, sg.ThreatModel(norm, k / 255), attacks=[sg.PGD()]) for k in (0.4, 0.6)
    )
    assert (below.worst_case.robust_accuracy.value, below.verdict) == (1.0, "unreliable")
    assert "no pixel of an 8-bit image can become another" in below.verdict_reason
    assert above.verdict == "robust"


def test_successes_of_the_check_count_only_where_the_model_says_so_when_asked_plainly() -> None:
    images, labels = images_and_labels()

    def model(batch: Tensor) -> Tensor:
        # Whoever asks for gradients is told another class.
        outputs = classify(batch)
        wrong = nn.functional.one_hot(outputs.argmax(dim=1), 4) * torch.is_grad_enabled()
        return outputs - 100 * wrong

    report = sg.audit(model, images, labels, sg.ThreatModel("linf", 0.01), attacks=[sg.PGD()])
    assert report.worst_case.robust_accuracy.value == 1.0
    assert "answers_attacks_otherwise" in [finding.check for finding in report.findings]
    assert report.verdict == "unreliable"
    # Where the images can be fooled, attacks stop at what is no success; the check on them goes on.
    fallen = sg.audit(model, images, labels, sg.ThreatModel("linf", 0.45), attacks=[sg.PGD()])
    assert fallen.attacks[0].robust_accuracy.value > 0.8
    assert fallen.worst_case.robust_accuracy.value < 0.1
