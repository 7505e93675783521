"""Audits of models whose robustness is known."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, BIM, FAB, FGSM, PGD, Square, TargetedAPGD, Transfer
from smdguard.attacks.losses import cross_entropy_direction
from smdguard.auditing import audit, plan
from smdguard.auditing.presets import Preset
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.threat import ThreatModel
from tests.auditing.stripes import (
    ATTACKS,
    InPlace,
    Stripes,
    Wandering,
    checks,
    run,
    stripes,
    stripes_model,
    trained_model,
)


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
    # Where nothing may change, nothing can fall.
    assert {result.epsilon for result in report.attacks} == {0.05, 0.1, 0.15}


@pytest.mark.parametrize("kind", [list, numpy.array])
def test_three_times_a_tenth_is_the_radius_0_3(kind: Callable[[list[float]], object]) -> None:
    report = run(stripes_model(), epsilon=0.3, epsilons=kind([0.1 * step for step in range(1, 4)]))
    assert [point.epsilon for point in report.curve] == [0.1, 0.2, 0.3]


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
    model = trained_model()
    first = run(model, seed=5)
    torch.manual_seed(1)
    second = run(model, seed=5)
    assert dataclasses.replace(first, seconds=0) == dataclasses.replace(second, seconds=0)


def test_the_default_type_changes_nothing() -> None:
    images, labels, _ = stripes(60)
    model, threat, attacks = trained_model(), ThreatModel("linf", 0.08), [APGD(num_steps=5), Square(num_queries=20)]
    reports = []
    for dtype in (torch.float32, torch.float64):
        torch.set_default_dtype(dtype)
        try:
            reports.append(audit(model, images, labels, threat, attacks=attacks, store={}))
        finally:
            torch.set_default_dtype(torch.float32)
    assert dataclasses.replace(reports[0], seconds=0) == dataclasses.replace(reports[1], seconds=0)


def test_what_the_model_is_called_changes_nothing() -> None:
    attacks = [ATTACKS[1], Square(num_queries=20)]
    one, other = (run(stripes_model(), attacks=attacks, name=name) for name in ("one", "other"))
    assert [result.robust_accuracy for result in one.attacks] == [result.robust_accuracy for result in other.attacks]
    assert one.attacks[-1].robust_accuracy.value not in (0.0, 1.0)


def test_numpy_images_give_the_same_report() -> None:
    images, labels, _ = stripes()
    report = audit(
        stripes_model(), images.numpy(), labels.numpy().astype(numpy.int32), ThreatModel("linf", 0.1), attacks=ATTACKS
    )
    assert dataclasses.replace(report, seconds=0) == dataclasses.replace(run(stripes_model()), seconds=0)


def test_members_are_fooled_best_by_what_was_made_on_them() -> None:
    torch.manual_seed(1)
    members = [nn.Sequential(nn.Flatten(), nn.Linear(36, 2)) for _ in range(3)]
    for index, member in enumerate(members):
        # Each looks at two rows of its own.
        rows = slice(2 * index, 2 * index + 2)
        member[1].weight.data[0, :].view(6, 6)[rows, :3] += 1
        member[1].weight.data[1, :].view(6, 6)[rows, 3:] += 1
    report = run(Ensemble(members, mean=[0.5], std=[0.5]).eval(), attacks="quick")
    assert report.transfer is not None
    matrix = torch.tensor(report.transfer.members)
    assert matrix.shape == (3, 3)
    elsewhere = matrix[~torch.eye(3, dtype=torch.bool)]
    assert matrix.diagonal().mean() < elsewhere.mean() - 0.2
    assert [result.access for result in report.attacks].count("member") == 3
    assert any(result.name == "MORA" for result in report.attacks)


class Brightness(nn.Module):
    """The second class is what is brighter than the data set's mean, in some rows."""

    def __init__(self, rows: slice) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, images: Tensor) -> Tensor:
        bright = images[:, :, self.rows].mean(dim=(1, 2, 3))
        return torch.stack([-bright, bright], dim=1)


def test_transfer_matrix_has_a_row_for_each_member_that_was_attacked_and_a_column_for_each_that_was_asked() -> None:
    labels = torch.arange(40) % 2
    images = (0.45 + 0.1 * labels).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)
    members = [Brightness(slice(0, 2)), Brightness(slice(0, 6))]
    ensemble = Ensemble(members, mean=[0.5], std=[0.25]).eval()
    report = audit(ensemble, images, labels, ThreatModel("linf", 0.1), attacks=[PGD()])
    # What fools the member that looks at two rows leaves the others as they were; what fools the other changes all.
    assert report.transfer is not None
    assert report.transfer.members == ((0.0, 1.0), (0.0, 0.0))


@pytest.mark.parametrize(("rows", "expected"), [(slice(2, 6), 1.0), (slice(0, 6), 0.0)])
def test_what_fools_a_surrogate_counts_where_it_fools_the_audited_model(rows: slice, expected: float) -> None:
    labels = torch.arange(40) % 2
    images = (0.45 + 0.1 * labels).view(-1, 1, 1, 1).expand(-1, 1, 6, 6)
    model, surrogate = (Ensemble([Brightness(seen)], mean=[0.5], std=[0.25]).eval() for seen in (slice(0, 2), rows))
    threat = ThreatModel("linf", 0.1)
    report = audit(model, images, labels, threat, attacks=[PGD()], surrogates={"other": surrogate})
    (transferred,) = [result for result in report.attacks if result.access == "black-box"]
    assert (transferred.source, transferred.robust_accuracy.value) == ("other", expected)


class Contrast(nn.Module):
    """The second class is what is far from the data set's mean, wherever that lies."""

    def forward(self, images: Tensor) -> Tensor:
        contrast = images.square().mean(dim=(1, 2, 3)) - 0.02
        return torch.stack([-contrast, contrast], dim=1)


def test_a_member_is_attacked_with_its_normalisation() -> None:
    """The way to the mean is up for a dark pixel and down for a bright one; without normalisation it is down."""
    images = 0.5 + 0.06 * torch.tensor([1.0, -1.0]).repeat(18).view(1, 1, 6, 6).expand(10, -1, -1, -1)
    ensemble = Ensemble([Contrast(), Contrast()], mean=[0.5], std=[0.25]).eval()
    report = audit(ensemble, images, torch.ones(10, dtype=torch.long), ThreatModel("linf", 0.05), attacks=[PGD()])
    assert report.clean_accuracy.value == 1
    assert report.transfer is not None
    assert report.transfer.members == ((0.0, 0.0), (0.0, 0.0))


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


@pytest.mark.parametrize("offset", [0.1001, 0.2, 0.7, float("nan")])
def test_an_attack_that_cheats_is_refused(offset: float) -> None:
    with pytest.raises(InvalidInputError, match="left the threat model"):
        run(stripes_model(), epsilon=0.1, attacks=[Wandering(offset)])  # type: ignore[list-item]


@pytest.mark.parametrize("returned", [lambda images: images[:1], lambda images: images[:, :, 1:]])
def test_an_attack_that_returns_other_images_is_refused(
    returned: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wandering, "__call__", lambda self, model, images, *_, **__: returned(images))
    with pytest.raises(InvalidInputError, match=r"turned torch.float32 images \(250, 1, 6, 6\) on cpu into"):
        run(stripes_model(), attacks=[Wandering(0.0)])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda images: images.double(), r"torch.float64 images \(250, 1, 6, 6\) on cpu"),
        (lambda images: images.numpy(), "a ndarray"),
        (lambda images: (images, 0.1), "a tuple"),
    ],
)
def test_an_attack_that_returns_something_else_is_refused(
    returned: Callable[[Tensor], Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wandering, "__call__", lambda self, model, images, *_, **__: returned(images))
    with pytest.raises(InvalidInputError, match=rf"turned torch.float32 images \(250, 1, 6, 6\) on cpu into {told}$"):
        run(stripes_model(), attacks=[Wandering(0.0)])  # type: ignore[list-item]


def test_an_attack_that_leaves_the_box_within_the_ball_is_refused() -> None:
    images, labels = torch.full((4, 1, 6, 6), 0.95), torch.zeros(4, dtype=torch.long)
    with pytest.raises(InvalidInputError, match=r"0 outside the ball, 0\.04\d* outside \[0, 1\]"):
        audit(stripes_model(), images, labels, ThreatModel("linf", 0.09), attacks=[Wandering(0.09)])  # type: ignore[list-item]


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


class Query(PGD):
    """An attack that does without gradients, as far as an audit knows."""

    requires = "scores"


def test_attacks_along_gradients_get_no_credit_for_what_others_found_at_a_smaller_radius(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Idle(FGSM):
        """An attack that is led nowhere."""

        def __call__(self, model: object, images: Tensor, *_: object, **__: object) -> Tensor:
            return images

    monkeypatch.setattr(plan, "find_preset", lambda *_, **__: Preset((), (Idle(), Query(num_steps=20))))
    radius = stripes()[2]
    report = run(stripes_model(), epsilon=0.1, attacks="standard", epsilons=[0.08])
    idle, query = report.attacks[-2:]
    assert (idle.num_attacked, idle.robust_accuracy.value) == (len(radius), 1)
    assert query.num_attacked == (radius > 0.08).sum()
    assert "indirect_beats_white_box" in checks(report)
    assert report.verdict == "unreliable"


class Stray(nn.Module):
    """Sends back a gradient that is noise."""

    def forward(self, images: Tensor) -> Tensor:
        noise = (
            1e-3 * torch.randn(len(images), 2) * (images - images.detach()).sum(dim=(1, 2, 3), keepdim=False)[:, None]
        )
        return stripes_model()(images) + noise


class Wavering(nn.Module):
    """Gives other outputs each time."""

    def forward(self, images: Tensor) -> Tensor:
        return stripes_model()(images) + 0.01 * torch.randn(len(images), 2)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (stripes_model(), {}),
        (Stray(), {}),
        (Wavering(), {}),
        # The members meet all five attacks at the largest radius and the first of them at the other.
        (Ensemble([Stripes(), Stripes()], mean=[0.0], std=[1.0]), {"attacks": "paper"}),
        (stripes_model(), {"surrogates": {"other": stripes_model()}}),
    ],
)
def test_progress_reaches_its_total(model: nn.Module, options: dict[str, Any]) -> None:
    heard: list[tuple[int, int]] = []
    run(model.eval(), epsilons=[0.0, 0.05], progress=lambda done, total, _: heard.append((done, total)), **options)
    assert heard[-1][0] == heard[-1][1] == len(heard)
