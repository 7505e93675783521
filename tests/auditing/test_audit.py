"""Audits of models whose robustness is known, and of planted defects that must be found."""

import dataclasses

import numpy
import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, BIM, FAB, FGSM, MIM, PGD, Attack, Square, TargetedAPGD, Transfer
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing import audit
from smdguard.auditing.gradients import gradient_health
from smdguard.catalogue import read_test_subset
from smdguard.datasets import balanced_subset, parse_subset
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.guard import load
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel

NUM_IMAGES = 300
ATTACKS = [FGSM(), PGD(), MIM()]


class Stripes(nn.Module):
    """Decides whether the left or the right half is brighter: robust up to half the difference of the means."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
        return 20 * torch.stack([left - right, right - left], dim=1)


def stripes_model() -> nn.Module:
    return Stripes().eval()


def stripes(num_images: int = NUM_IMAGES) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and the radius (B,) up to which Stripes holds."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (num_images,), generator=generator)
    contrast = 0.02 + 0.3 * torch.rand(num_images, generator=generator)
    side = torch.where(labels == 0, 1.0, -1.0) * contrast / 2
    images = torch.full((num_images, 1, 6, 6), 0.5)
    images[..., :3] += side.view(-1, 1, 1, 1)
    images[..., 3:] -= side.view(-1, 1, 1, 1)
    return images, labels, contrast / 2


def trained_model() -> nn.Module:
    """A small network that has learned the stripes from noisy images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 2))
    images, labels, _ = stripes(2000)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        noisy = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(noisy), labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def run(model: object, epsilon: float = 0.1, attacks: list[Attack] | str = ATTACKS, **options: object) -> AuditReport:  # type: ignore[assignment]
    images, labels, _ = stripes()
    threat = ThreatModel(norm="linf", epsilon=epsilon)
    return audit(model, images, labels, threat, attacks=attacks, **options)  # type: ignore[arg-type]


def checks(report: AuditReport) -> list[str]:
    return [finding.check for finding in report.findings]


def test_worst_case_of_a_linear_model_is_exact() -> None:
    report = run(stripes_model(), epsilon=0.1)
    expected = (stripes()[2] > 0.1).double().mean().item()
    assert report.clean_accuracy.value == 1
    assert report.worst_case.robust_accuracy.value == pytest.approx(expected, abs=1e-9)
    assert checks(report) == ["too_few_steps"]


def test_curve_of_a_linear_model_is_exact_and_ends_at_the_worst_case() -> None:
    report = run(stripes_model(), epsilon=0.15, epsilons=[0.0, 0.05, 0.1])
    radius = stripes()[2]
    assert [point.epsilon for point in report.curve] == [0.0, 0.05, 0.1, 0.15]
    for point in report.curve:
        expected = (radius > point.epsilon).double().mean().item()
        assert point.robust_accuracy.value == pytest.approx(expected, abs=1e-9)
    assert report.curve[-1].robust_accuracy == report.worst_case.robust_accuracy


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_worst_case_never_exceeds_any_attack_or_the_clean_accuracy(preset: str) -> None:
    images, labels, _ = stripes(60)
    report = audit(trained_model(), images, labels, ThreatModel("linf", 0.08), attacks=preset)  # type: ignore[arg-type]
    worst = report.worst_case.robust_accuracy.value
    assert worst <= report.clean_accuracy.value
    assert all(worst <= result.robust_accuracy.value for result in report.attacks)


def test_images_wrong_from_the_start_never_stand() -> None:
    images, labels, _ = stripes()
    report = audit(stripes_model(), images, 1 - labels, ThreatModel("linf", 0.01), attacks=ATTACKS)
    assert report.clean_accuracy.value == 0
    assert all(result.robust_accuracy.value == 0 for result in report.attacks)


def test_same_seed_same_report_whatever_else_is_drawn() -> None:
    first = run(trained_model(), seed=5)
    torch.rand(7)
    second = run(trained_model(), seed=5)
    assert dataclasses.replace(first, seconds=0) == dataclasses.replace(second, seconds=0)


def test_numpy_images_give_the_same_report() -> None:
    images, labels, _ = stripes()
    report = audit(
        stripes_model(), images.numpy(), labels.numpy().astype(numpy.int32), ThreatModel("linf", 0.1), attacks=ATTACKS
    )
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(run(stripes_model()), seconds=0)


def test_members_are_fooled_best_by_what_was_made_on_them() -> None:
    torch.manual_seed(1)
    members = [nn.Sequential(nn.Flatten(), nn.Linear(36, 2)) for _ in range(3)]
    for member in members:
        member[1].weight.data[0, :].view(6, 6)[:, :3] += 1
        member[1].weight.data[1, :].view(6, 6)[:, 3:] += 1
    report = run(Ensemble(members, mean=[0.5], std=[0.5]).eval(), attacks="quick")
    assert report.transfer is not None
    matrix = torch.tensor(report.transfer.members)
    assert matrix.shape == (3, 3)
    elsewhere = matrix[~torch.eye(3, dtype=torch.bool)]
    assert matrix.diagonal().mean() < elsewhere.mean()
    assert [result.access for result in report.attacks].count("member") == 3
    assert any(result.name == "MORA" for result in report.attacks)


def test_paper_preset_makes_each_of_its_attacks_on_each_member() -> None:
    report = run(Ensemble([stripes_model() for _ in range(2)], mean=[0.0], std=[1.0]).eval(), attacks="paper")
    assert report.transfer is not None
    matrices = (report.transfer, *report.further_transfers)
    assert [matrix.name for matrix in matrices] == ["PGD", "FGSM", "R-FGSM", "BIM", "MIM"]
    made = [(result.name, result.source) for result in report.attacks if result.access == "member"]
    assert made == [(matrix.name, f"member {member}") for matrix in matrices for member in range(2)]
    # The members are equal, so what is made on one fools the other as well; from a random start it may stop short.
    expected = (stripes()[2] > 0.1).double().mean().item()
    shares = {matrix.name: {share for row in matrix.members for share in row} for matrix in matrices}
    assert [shares[name] for name in ("FGSM", "BIM", "MIM")] == [{expected}] * 3
    assert all(len(shares[name]) == 2 and min(shares[name]) >= expected for name in ("PGD", "R-FGSM"))


class Quantised(nn.Module):
    """Rounds its input to 4 levels: no gradient comes back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images * 15).round() / 15)


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


class InPlace(nn.Module):
    """Normalises the images where they lie."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.sub_(0.25).add_(0.25))


class Shattered(nn.Module):
    """Adds a wave to its input that is too fine to be seen, and far steeper than the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + 0.01 * torch.sin(1e5 * images))


class StraightThrough(nn.Module):
    """Rounds its input to 8 bits, with the gradient of no rounding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images + ((images * 255).round() / 255 - images).detach())


@pytest.mark.parametrize("defence", [Misleading, Shattered, Noisy])
def test_gradients_along_which_the_loss_does_not_rise_are_found(defence: type[nn.Module]) -> None:
    images, labels, _ = stripes()
    assert gradient_health(defence(trained_model()).eval(), [images], [labels]).misleading > 0.2
    report = run(defence(trained_model()).eval(), epsilon=0.01)
    assert "gradient_masking" in checks(report)
    assert report.verdict == "unreliable"


@pytest.mark.parametrize("defence", [nn.Sequential, StraightThrough, InPlace])
def test_gradients_that_can_be_followed_raise_no_alarm(defence: type[nn.Module]) -> None:
    images, labels, _ = stripes()
    model = defence(trained_model())
    health = gradient_health(lambda each: model(each.clone()), [images], [labels])
    assert health.misleading < 0.02
    assert not health.broken


@pytest.mark.parametrize("defence", [Quantised, SaturatedProbabilities, Noisy])
def test_broken_gradients_are_found_and_make_the_audit_unreliable(defence: type[nn.Module]) -> None:
    report = run(defence(trained_model()).eval())
    assert "gradient_masking" in checks(report)
    assert report.verdict == "unreliable"


def test_what_a_random_model_does_by_itself_is_no_attack() -> None:
    torch.manual_seed(0)
    report = run(Noisy(stripes_model()).eval(), epsilon=0.0, attacks=[FGSM()])
    assert "random_output" in checks(report)
    assert "attacks_too_weak" not in checks(report)
    # One attack is one more draw; a long run of the audit's own would be dozens.
    assert report.worst_case.robust_accuracy.value == report.attacks[0].robust_accuracy.value > 0


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


@pytest.mark.parametrize("epsilon", [0.0, 0.02])
def test_a_few_images_that_stand_are_too_few_to_tell(epsilon: float) -> None:
    images, labels, radius = stripes()
    held = (radius > 0.02).nonzero().flatten()[:3]
    report = audit(stripes_model(), images[held], labels[held], ThreatModel("linf", epsilon), attacks=[FGSM()])
    assert (report.worst_case.robust_accuracy.value, report.verdict) == (1, "unreliable")
    assert "too few" in report.verdict_reason


def test_a_model_that_works_in_place_is_audited_like_any_other() -> None:
    images, labels, _ = stripes()
    before = images.clone()
    report = audit(InPlace(trained_model()).eval(), images, labels, ThreatModel("linf", 0.1), attacks=ATTACKS)
    assert torch.equal(images, before)
    assert report.impossible == ()
    expected = run(trained_model()).attacks
    assert [result.name for result in report.attacks] == [result.name for result in expected]
    for result, plain in zip(report.attacks, expected, strict=True):
        assert result.robust_accuracy.value == pytest.approx(plain.robust_accuracy.value, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_output_of_any_float_type_is_attacked(dtype: torch.dtype) -> None:
    attacks = [FGSM(), APGD(num_steps=5), TargetedAPGD(num_steps=5), FAB(num_steps=5), Square(num_queries=20)]
    exact = run(stripes_model(), attacks=attacks)
    report = run(lambda images: stripes_model()(images).to(dtype), attacks=attacks)
    difference = report.worst_case.robust_accuracy.value - exact.worst_case.robust_accuracy.value
    assert abs(difference) < 0.05


def test_fab_is_not_transferred() -> None:
    report = run(stripes_model(), attacks=[FAB(num_steps=3), FGSM()], surrogates={"other": trained_model()})
    assert [(result.name, result.access) for result in report.attacks] == [
        ("FAB-T", "white-box"),
        ("FGSM", "white-box"),
        ("FGSM", "black-box"),
    ]


def test_targeted_apgd_is_transferred_to_the_end() -> None:
    images, labels, _ = stripes(40)
    attack = TargetedAPGD(num_steps=5)
    model, threat = trained_model(), ThreatModel("linf", 0.2)

    with torch.no_grad():
        assert (model(images).argmax(dim=1) == labels).all()
    losses = [
        cross_entropy_direction(model(made(model, images, labels, threat, generator=torch.Generator())), labels).mean()
        for made in (attack, Transfer("other", attack))
    ]
    assert losses[1] > losses[0]


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


def test_a_plain_model_raises_no_alarm() -> None:
    torch.manual_seed(9)
    report = run(trained_model(), surrogates={"other": stripes_model()})
    assert "gradient_masking" not in checks(report)
    assert report.verdict in ("fragile", "robust")


def test_a_robust_model_is_called_robust_and_a_fragile_one_fragile() -> None:
    assert run(stripes_model(), epsilon=0.02).verdict == "robust"
    assert run(stripes_model(), epsilon=0.15).verdict == "fragile"


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
    assert "attacks_too_weak" not in checks(strong)


class Wandering:
    """An attack that leaves the ball or the box."""

    name = "Wandering"
    requires = "labels"
    needs_members = False

    def __init__(self, offset: float) -> None:
        self.offset = offset

    def __call__(self, model: object, images: Tensor, *_: object, **__: object) -> Tensor:
        return images + self.offset


@pytest.mark.parametrize("offset", [0.2, 0.7, float("nan")])
def test_an_attack_that_cheats_is_refused(offset: float) -> None:
    with pytest.raises(InvalidInputError, match="left the threat model"):
        run(stripes_model(), epsilon=0.1, attacks=[Wandering(offset)])  # type: ignore[list-item]


def fooled_on_the_way(images: Tensor) -> Tensor:
    """Takes images for the second class from 0.53 to 0.57 of brightness only, and rising brightness for a way there."""
    brightness = images.mean(dim=(1, 2, 3))
    second = brightness - 1 + 2 * ((brightness > 0.53) & (brightness < 0.57))
    return torch.stack([torch.zeros_like(second), second], dim=1)


@pytest.mark.parametrize("early_stop", [True, False])
def test_without_early_stop_the_last_iterate_is_what_is_counted(early_stop: bool) -> None:
    images, labels = torch.full((5, 1, 6, 6), 0.5), torch.zeros(5, dtype=torch.long)
    attack = BIM(num_steps=10, early_stop=early_stop)
    report = audit(fooled_on_the_way, images, labels, ThreatModel("linf", 0.1), attacks=[attack])
    assert report.attacks[0].robust_accuracy.value == (0 if early_stop else 1)


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


def test_wrong_radii_and_presets_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"between 0 and 0\.1"):
        run(stripes_model(), epsilons=[0.2])
    with pytest.raises(InvalidInputError, match="quick"):
        run(stripes_model(), attacks="strong")


def test_progress_reaches_its_total() -> None:
    heard: list[tuple[int, int]] = []
    run(stripes_model(), epsilons=[0.05], progress=lambda done, total, _: heard.append((done, total)))
    assert heard[-1][0] == heard[-1][1] == len(heard)
