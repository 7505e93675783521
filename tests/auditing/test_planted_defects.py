"""Audits of planted defects that must be found, and of sound models that must raise no alarm."""

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import FGSM, PGD, Attack, Square
from smdguard.auditing import audit
from smdguard.auditing.gradients import gradient_health
from smdguard.auditing.preset_names import PresetName
from smdguard.auditing.presets import find_preset
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.guard import load
from smdguard.threat import ThreatModel
from tests.auditing.stripes import ATTACKS, checks, run, stripes, stripes_model, trained_model

NEAR = ThreatModel("linf", 0.05)


class Quantised(nn.Module):
    """Rounds its input to 4 levels: no gradient comes back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 15).round() / 15)


class ZeroGradient(nn.Module):
    """Decides as the model does and sends no gradient back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).detach() + 0 * images.sum()


class SaturatedProbabilities(nn.Module):
    """Logarithm of a clamped float32 softmax of huge logits: its gradient rounds to zero."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return (1e4 * self.model(images)).softmax(dim=1).clamp_min(1e-12).log()


class Noisy(nn.Module):
    """Adds noise to its input, another at each call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + 0.3 * torch.randn_like(images))


class Misleading(nn.Module):
    """Decides as the model does but sends back a gradient that points the other way."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits.detach() - (logits - logits.detach())


class Shattered(nn.Module):
    """Adds a wave to its input that is too fine to be seen, and far steeper than the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + 0.01 * torch.sin(1e5 * images))


@pytest.mark.parametrize("defence", [Misleading, Shattered, Noisy])
def test_gradients_along_which_the_loss_does_not_rise_are_found(defence: type[nn.Module]) -> None:
    images, labels, _ = stripes()
    assert gradient_health(defence(trained_model()).eval(), [images], [labels], NEAR).misleading > 0.2
    report = run(defence(trained_model()).eval(), epsilon=0.01)
    assert "gradient_masking" in checks(report)
    assert report.verdict == "unreliable"


def test_a_classifier_by_distance_whose_gradients_vanish_far_away_is_no_defect() -> None:
    images, labels, _ = stripes()

    def classify(each: Tensor) -> Tensor:
        centres = torch.stack([images[labels == label].mean(dim=0) for label in (0, 1)])
        squares = (each[:, None] - centres).square().sum(dim=(2, 3, 4))
        return (-squares).exp()

    report = audit(classify, images, labels, NEAR, attacks=ATTACKS)
    assert "stands_at_any_distance" not in checks(report)
    assert "gradient_masking" not in checks(report)


@pytest.mark.parametrize("defence", [Quantised, SaturatedProbabilities, Noisy])
def test_broken_gradients_are_found_and_make_the_audit_unreliable(defence: type[nn.Module]) -> None:
    report = run(defence(trained_model()).eval())
    assert "gradient_masking" in checks(report)
    assert report.verdict == "unreliable"


def test_a_zero_gradient_stands_at_any_distance() -> None:
    report = run(ZeroGradient(trained_model()).eval())
    assert {"gradient_masking", "stands_at_any_distance"} <= set(checks(report))
    assert report.verdict == "unreliable"


def test_what_a_random_model_does_by_itself_is_no_attack() -> None:
    torch.manual_seed(0)
    report = run(Noisy(stripes_model()).eval(), epsilon=0.0, attacks=[FGSM()])
    assert "random_output" in checks(report)
    assert "attacks_too_weak" not in checks(report)
    # One attack is one more draw; a long run of the audit's own would be dozens.
    assert report.worst_case.robust_accuracy.value == report.attacks[0].robust_accuracy.value > 0


class Indifferent(nn.Module):
    """Always gives the same answer, whatever it is shown, with gradients as sound as any."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return 1e-3 * self.model(images) + torch.tensor([5.0, 0.0])


@pytest.mark.parametrize("share_right", [0.02, 0.5])
def test_what_does_not_look_at_its_images_is_not_robust(share_right: float) -> None:
    images, _, _ = stripes()
    labels = (torch.arange(len(images)) >= share_right * len(images)).long()
    report = audit(Indifferent(trained_model()).eval(), images, labels, ThreatModel("linf", 0.1), attacks="quick")
    assert report.worst_case.robust_accuracy.value == report.clean_accuracy.value == share_right
    assert "stands_at_any_distance" in checks(report)
    assert report.verdict == "unreliable"


class ShowsDecisions(nn.Module):
    """Answers with its decision alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return 10 * nn.functional.one_hot(self.model(images).argmax(dim=1), 2).float()


@pytest.mark.parametrize("attacks", ["quick", [Square(num_queries=50)]])
def test_a_model_that_hides_its_scores_is_not_robust(attacks: list[Attack] | str) -> None:
    report = run(ShowsDecisions(trained_model()).eval(), attacks=attacks)
    assert "no_gradients" in checks(report)
    assert report.worst_case.robust_accuracy.value > 0.6
    assert report.verdict == "unreliable"


@pytest.mark.parametrize("preset", ["quick", "standard", "full", "paper"])
def test_where_there_are_no_gradients_every_preset_asks_at_least_a_thousand_times(preset: PresetName) -> None:
    pursuits = find_preset(preset, has_gradients=False).pursuits
    assert max(attack.num_queries for attack in pursuits if isinstance(attack, Square)) >= 1000


def test_a_few_images_that_stand_are_too_few_to_tell() -> None:
    images, labels, radius = stripes()
    held = (radius > 0.02).nonzero().flatten()[:3]
    report = audit(stripes_model(), images[held], labels[held], ThreatModel("linf", 0.02), attacks=[FGSM()])
    assert (report.worst_case.robust_accuracy.value, report.verdict) == (1, "unreliable")
    assert "too few" in report.verdict_reason


def test_misleading_gradients_are_found_by_transfer() -> None:
    model = trained_model()
    report = run(Misleading(model).eval(), surrogates={"honest": model})
    finding = next(finding for finding in report.findings if finding.check == "gradient_masking")
    assert finding.severity == "high"
    assert {row["name"] for row in finding.evidence["attacks"]} == {"FGSM", "PGD", "MIM"}
    for row in finding.evidence["attacks"]:
        assert row["white_box"] - row["transferred"] >= 0.05
        assert row["p_value"] < 0.01
        assert f"{100 * row['transferred']:.1f} %" in finding.message
    assert report.verdict == "unreliable"


class StopsOneStep(nn.Module):
    """Turns the gradient round at clean images only, so a single step from them goes astray."""

    def __init__(self, model: nn.Module, clean: Tensor) -> None:
        super().__init__()
        self.model, self.clean = model, clean

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        at_clean = (images.detach().flatten(1)[:, None] == self.clean.flatten(1)[None]).all(dim=2).any(dim=1)
        return torch.where(at_clean[:, None], logits.detach() - (logits - logits.detach()), logits)


def test_a_defence_that_only_stops_fgsm_is_named() -> None:
    model = trained_model()
    report = run(
        StopsOneStep(model, stripes()[0]).eval(), attacks=[FGSM(), PGD(num_steps=40)], surrogates={"honest": model}
    )
    finding = next(finding for finding in report.findings if finding.check == "gradient_masking")
    assert [row["name"] for row in finding.evidence["attacks"]] == ["FGSM"]
    assert report.verdict != "unreliable"


@pytest.mark.parametrize("adversarial", [False, True])
def test_sound_models_raise_no_alarm(adversarial: bool) -> None:
    model = trained_model(adversarial=adversarial)
    report = run(model, attacks="standard", surrogates={"other": trained_model(seed=1)})
    assert {finding.check for finding in report.findings if finding.severity != "note"} == set()
    assert report.verdict != "unreliable"


def test_a_robust_model_is_called_robust_and_a_fragile_one_fragile() -> None:
    assert run(stripes_model(), epsilon=0.02).verdict == "robust"
    assert run(stripes_model(), epsilon=0.15).verdict == "fragile"


class OneBranch(nn.Module):
    """A large branch that lets no gradient through, and a small one that does, on the top row of the image."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            whole = stripes_model()(images)
        return whole + 0.3 * stripes_model()(images[:, :, :1])


@pytest.mark.usefixtures("without_walk")
def test_sound_gradients_of_a_part_of_the_model_do_not_make_it_robust() -> None:
    report = run(OneBranch().eval(), epsilon=0.1)
    assert report.verdict == "unreliable"
    grave = {finding.check: finding for finding in report.findings if finding.severity == "high"}
    assert set(grave) == {"approximate_gradients", "attacks_too_weak"}
    finding = grave["attacks_too_weak"]
    assert "Square with 1,000 queries" in finding.message
    # Stripes alone, which decides here, holds on far fewer.
    assert (stripes()[2] > 0.1).float().mean() < 0.5 < 0.75 < finding.evidence["attacks"]
    assert finding.evidence["with_probe"] < 0.5
    # What it found counts.
    assert report.worst_case.robust_accuracy.value < min(result.robust_accuracy.value for result in report.attacks)


def test_of_two_classes_sound_gradients_of_a_part_do_not_hide_the_boundary() -> None:
    report = run(OneBranch().eval(), epsilon=0.1)
    assert report.verdict == "fragile"
    truth = (stripes()[2] > 0.1).double().mean().item()
    assert min(result.robust_accuracy.value for result in report.attacks) > truth + 0.2
    # Of those that it was tried on.
    (found,) = [finding.evidence for finding in report.findings if "a walk along the boundary" in finding.message]
    assert found["with_probe"] == pytest.approx(truth, abs=0.06)


def test_attacks_too_weak_for_the_model_are_not_called_a_success() -> None:
    """One step leaves most of these digits standing, and that says nothing."""
    guard = load("smd-lenet-mnist", backend="torch", device="cpu")
    subset = balanced_subset(parse_subset(read_test_subset("mnist")), 50)
    threat = ThreatModel("linf", 0.2)
    weak = audit(guard.ensemble, subset.scaled(), subset.labels, threat, attacks=[FGSM()], epsilons=[0.19])
    assert all(result.robust_accuracy.value > 0.6 for result in weak.attacks if result.access == "white-box")
    # The check on the attacks counts in the worst case, and fools nearly all.
    assert weak.worst_case.robust_accuracy.value < 0.3
    # So it does at other radii: a curve that it counted in at its end alone would show a cliff there.
    assert weak.curve[0].robust_accuracy.value < 0.4
    finding = next(finding for finding in weak.findings if finding.check == "attacks_too_weak")
    assert finding.evidence["attacks"] > 0.6
    assert finding.evidence["with_probe"] >= weak.worst_case.robust_accuracy.value
    strong = audit(guard.ensemble, subset.scaled(), subset.labels, threat, attacks=[PGD(num_steps=60, step_ratio=0.1)])
    assert ("attacks_too_weak", "high") not in [(finding.check, finding.severity) for finding in strong.findings]


class Normalised(nn.Module):
    def __init__(self, model: nn.Module, images: Tensor, times: int) -> None:
        super().__init__()
        self.model, self.mean, self.std, self.times = model, images.mean(), images.std(), times

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(self.times):
            images = (images - self.mean) / self.std
        return self.model(images)


def test_a_model_that_normalises_twice_is_found() -> None:
    # Bright and dark images that differ by less than their pixels do: a shift decides.
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (400,), generator=generator)
    noise = 0.7 * (torch.rand(400, 1, 6, 6, generator=generator) - 0.5)
    images = 0.4 + 0.2 * labels.view(-1, 1, 1, 1) + noise
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[1].weight[:] = torch.tensor([[-1.0], [1.0]])
        model[1].bias[:] = 0
    threat = ThreatModel("linf", 0.01)
    reports = [
        audit(Normalised(model, images, times).eval(), images, labels, threat, attacks=[FGSM()]) for times in (1, 2)
    ]
    assert ["normalised_twice" in checks(report) for report in reports] == [False, True]
