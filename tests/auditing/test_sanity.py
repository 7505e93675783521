"""Findings on planted outcomes and traces, and no false alarm on a plain and on an adversarially trained model."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack, Square, Transfer
from smdguard.auditing import audit
from smdguard.auditing.gradients import GradientHealth
from smdguard.auditing.outcomes import Outcome, comparison, worst_case
from smdguard.auditing.probes import (
    FEW_STEPS,
    MANY_STEPS,
    _loss_still_rising,
    _more_steps_do_worse,
    _success_lost_on_the_way,
    _too_few_steps,
    _Trace,
    probe_rows,
)
from smdguard.auditing.sanity import sanity_findings
from smdguard.auditing.statistics import wilson_interval
from smdguard.auditing.verdict import judge
from smdguard.report import AuditReport, Finding, Severity
from smdguard.threat import ThreatModel

EPSILON = 0.1
NUM_IMAGES = 200
RIGHT = wilson_interval(95, 100)
USABLE = GradientHealth(0.0, 0.0, 0.0, 0.0)


def outcome(attack: Attack, num_standing: int, *, access: str = "white-box", pursued: bool = False) -> Outcome:
    standing = torch.arange(NUM_IMAGES) < num_standing
    return Outcome(attack, access, "model", EPSILON, standing, NUM_IMAGES if pursued else None)  # type: ignore[arg-type]


def findings(*outcomes: Outcome) -> list[tuple[str, str]]:
    return [(finding.check, finding.severity) for finding in sanity_findings(outcomes, EPSILON, USABLE, RIGHT)]


def test_outcomes_in_order_raise_nothing() -> None:
    surrogate = outcome(Transfer("other", PGD()), 80, access="black-box")
    assert findings(outcome(FGSM(), 100), outcome(BIM(), 40), outcome(PGD(), 38), surrogate) == []


def test_what_is_said_of_an_attack_on_a_single_member_is_true_of_it() -> None:
    member = outcome(Transfer("member 0", PGD()), 40, access="member")
    masked, missed = sanity_findings([outcome(PGD(), 100), member], EPSILON, USABLE, RIGHT)
    assert "The same steps made elsewhere do better" in masked.message
    assert "PGD does without the gradients of the whole model" in missed.message


def test_every_attack_that_its_transferred_version_beats_is_named_with_both_numbers() -> None:
    def both(attack: Attack, direct: int, transferred: int) -> list[Outcome]:
        return [outcome(attack, direct), outcome(Transfer("other", attack), transferred, access="black-box")]

    by_much, by_little = both(FGSM(), 100, 60), both(MIM(), 50, 42)
    by_chance, not_at_all = both(RFGSM(), 50, 47), both(PGD(), 40, 45)
    (finding,) = sanity_findings([*by_much, *by_little, *by_chance, *not_at_all], EPSILON, USABLE, RIGHT)
    assert (finding.check, finding.severity) == ("gradient_masking", "high")
    named = "FGSM 50.0 % white-box, 30.0 % transferred from model; MIM 25.0 % white-box, 21.0 % transferred from model."
    assert f"mislead attacks: {named}" in finding.message
    assert [row["name"] for row in finding.evidence["attacks"]] == ["FGSM", "MIM"]
    assert findings(*by_little, *by_chance, *not_at_all) == []


def test_single_step_that_beats_iterative_ones_is_found() -> None:
    assert findings(outcome(FGSM(), 50), outcome(MIM(), 70)) == [("single_step_beats_iterative", "high")]


def test_query_attack_that_beats_gradients_is_found_and_by_a_little_noted() -> None:
    much = findings(outcome(PGD(), 100), outcome(Square(), 80, pursued=True))
    assert much == [("indirect_beats_white_box", "high")]
    assert findings(outcome(PGD(), 100), outcome(Square(), 92, pursued=True)) == [("indirect_beats_white_box", "note")]
    assert findings(outcome(PGD(), 100), outcome(Square(), 97, pursued=True)) == []


def test_query_attack_that_does_far_better_on_few_images_is_noted_though_it_may_be_chance() -> None:
    few, fewer = (
        dataclasses.replace(outcome(attack, num), standing=torch.arange(20) < num)
        for attack, num in ((PGD(), 18), (Square(), 17))
    )
    assert findings(few, fewer) == [("indirect_beats_white_box", "note")]


def judged(
    *outcomes: Outcome,
    health: GradientHealth | None = USABLE,
    found: str = "",
    severity: Severity = "high",
    clean: int = 190,
    worst: int = 160,
    num_images: int = NUM_IMAGES,
    partial: bool = False,
) -> tuple[str, str]:
    return judge(
        outcomes or [outcome(PGD(), worst), outcome(Square(), worst, pursued=True)],
        [Finding(found, severity, "")] if found else [],
        ThreatModel("linf", EPSILON),
        health,
        clean=wilson_interval(clean, num_images),
        worst=wilson_interval(worst, num_images),
        partial=partial,
    )


def test_what_stands_is_believed_where_nothing_speaks_against_it() -> None:
    assert judged()[0] == "robust"
    assert judged(found="too_few_steps", severity="note")[0] == "robust"
    # FGSM may be misled while stronger attacks are not.
    assert judged(found="gradient_masking")[0] == "robust"


@pytest.mark.parametrize(
    ("doubt", "reason"),
    [
        ({"found": "attacks_too_weak"}, "checks failed (attacks_too_weak): the true figure may lie far below 80.0 %"),
        ({"health": None}, "gradients cannot be had, and attacks that do without are weak"),
        (
            {"health": GradientHealth(0.02, 0.0, 0.0, 0.0)},
            "are zero, not finite, random or misleading, and attacks that do without",
        ),
        ({"partial": True}, "stopped before all attacks were made"),
    ],
)
def test_what_stands_is_not_believed_where_something_speaks_against_it(doubt: dict[str, Any], reason: str) -> None:
    verdict, why = judged(**doubt)
    assert verdict == "unreliable"
    assert reason in why
    # What has fallen has fallen all the same.
    assert judged(**doubt, worst=20)[0] == "fragile"


def test_attacks_without_gradients_that_do_better_make_the_figure_unreliable_unless_nothing_is_left() -> None:
    misled = outcome(PGD(), 60), outcome(Square(), 20, pursued=True)
    verdict, reason = judged(*misled, worst=20)
    assert verdict == "unreliable"
    assert "white-box attacks are being misled: at linf 0.1 the true figure is likely below the 10.0 %" in reason
    assert judged(*misled, worst=0)[0] == "fragile"


def test_a_model_that_is_never_right_is_not_robust() -> None:
    verdict, reason = judged(clean=0, worst=0)
    assert verdict == "unreliable"
    assert "right on none of the clean images" in reason


def test_few_images_tell_nothing_where_none_fell_and_enough_where_some_did() -> None:
    assert judged(clean=2, worst=2, num_images=2) == (
        "unreliable",
        "no attack fooled an image at linf 0.1, but the images are too few to tell how the model does on others of "
        "their kind: on 34.2 % of them, or on more.",
    )
    assert judged(clean=2, worst=1, num_images=2)[0] == "fragile"
    assert judged(clean=20, worst=20, num_images=20)[0] == "robust"


def test_an_attack_on_what_others_left_is_not_credited_with_what_they_did() -> None:
    others = outcome(PGD(), 100)
    assert comparison(outcome(FGSM(), 80), others) == "FGSM leaves 40.0 % standing, the best white-box attack 50.0 %"
    assert comparison(outcome(Square(), 80, pursued=True), others) == (
        "white-box attacks leave 50.0 % standing, and Square, made on those, leaves 40.0 %"
    )


def test_what_fell_in_a_smaller_ball_has_fallen_in_a_larger_one_and_not_the_other_way_round() -> None:
    small, large = (
        dataclasses.replace(outcome(PGD(), 0), epsilon=radius, standing=torch.arange(4) != fallen)
        for radius, fallen in ((0.05, 0), (0.1, 1))
    )
    clean = torch.arange(4) != 3
    assert worst_case([large, small], clean, 0.1).tolist() == [False, False, True, False]
    assert worst_case([large, small], clean, 0.05).tolist() == [False, True, True, False]
    assert worst_case([large, small], clean, 0.01).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("share", "limit"), [("zero", 0.01), ("not_finite", 0.01), ("random", 0.01), ("misleading", 0.05)]
)
def test_gradients_are_broken_where_more_than_so_many_cannot_be_followed(share: str, limit: float) -> None:
    assert not dataclasses.replace(USABLE, **{share: limit}).broken
    assert dataclasses.replace(USABLE, **{share: limit + 0.001}).broken


def test_random_start_that_beats_the_clean_start_is_found() -> None:
    assert findings(outcome(BIM(), 100), outcome(PGD(), 60)) == [("random_start_beats_clean_start", "medium")]
    assert findings(outcome(BIM(num_steps=7), 100), outcome(PGD(), 60)) == []


def test_low_clean_accuracy_is_found() -> None:
    (finding,) = sanity_findings([], EPSILON, USABLE, wilson_interval(10, 100))
    assert (finding.check, finding.evidence) == ("low_clean_accuracy", {"clean_accuracy": 0.1})


@pytest.mark.parametrize("num_probed", [100, 200])
def test_probed_images_are_different_ones_that_there_are(num_probed: int) -> None:
    for num_images in range(1500):
        rows = probe_rows(num_images, torch.device("cpu"), num_probed)
        assert len(set(rows.tolist())) == len(rows) == min(num_images, num_probed)
        assert num_images == 0 or (rows.min(), rows.max()) == (0, num_images - 1 if len(rows) > 1 else 0)


def trace(right: Tensor, loss: Tensor | None = None) -> _Trace:
    """Of a planted history: (steps + 1, B)."""
    planted = _Trace(lambda images: images, torch.zeros(right.shape[1], 2), torch.zeros(right.shape[1]))
    planted.right, planted.loss = list(right), list(torch.zeros(right.shape) if loss is None else loss)
    return planted


def history(*spans: tuple[int, int, int]) -> Tensor:
    """All right but the first `count` images from one step to before another."""
    right = torch.ones(MANY_STEPS + 1, NUM_IMAGES, dtype=torch.bool)
    for count, start, stop in spans:
        right[start:stop, :count] = False
    return right


def only(found: list[Finding]) -> Finding:
    (finding,) = found
    return finding


def test_too_few_steps_are_a_note_with_both_numbers() -> None:
    finding = only(list(_too_few_steps(trace(history((100, FEW_STEPS + 1, MANY_STEPS + 1))))))
    assert (finding.severity, finding.evidence) == ("note", {"few_steps": 1.0, "many_steps": 0.5})
    assert not list(_too_few_steps(trace(history((100, FEW_STEPS, MANY_STEPS + 1)))))


def test_more_steps_that_do_worse_are_found() -> None:
    finding = only(list(_more_steps_do_worse(trace(history((100, 5, 20))))))
    assert (finding.severity, finding.evidence) == ("high", {"few_steps": 0.5, "many_steps": 1.0})
    assert not list(_more_steps_do_worse(trace(history((100, 5, MANY_STEPS + 1)))))


def test_success_that_is_not_returned_is_found() -> None:
    assert only(list(_success_lost_on_the_way(trace(history((50, 3, 6)))))).evidence == {"share": 0.25}
    assert not list(_success_lost_on_the_way(trace(history((50, 3, FEW_STEPS + 1)))))


def test_loss_that_still_rises_is_found() -> None:
    steps = torch.arange(MANY_STEPS + 1.0)[:, None].expand(-1, NUM_IMAGES)
    assert only(list(_loss_still_rising(trace(history((50, 1, 5)), steps)))).evidence == {"share": 0.75}
    assert not list(_loss_still_rising(trace(history(), steps.clamp_max(20))))
    assert not list(_loss_still_rising(trace(history((NUM_IMAGES, 5, 6)), steps)))


def stripes(num_images: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (num_images,), generator=generator)
    side = torch.where(labels == 0, 1.0, -1.0) * (0.05 + 0.1 * torch.rand(num_images, generator=generator))
    images = torch.full((num_images, 1, 6, 6), 0.5)
    images[..., :3] += side.view(-1, 1, 1, 1)
    images[..., 3:] -= side.view(-1, 1, 1, 1)
    return (images + 0.05 * torch.randn(images.shape, generator=generator)).clamp(0, 1), labels


def network(*, adversarial: bool, seed: int) -> nn.Module:
    """A small network that has learned the stripes, from adversarial images or from clean ones."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 2))
    images, labels = stripes(1000)
    generator = torch.Generator().manual_seed(seed)
    attack, threat = PGD(num_steps=5, step_ratio=0.4, early_stop=False), ThreatModel("linf", EPSILON)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        shown = attack(model, images, labels, threat, generator=generator) if adversarial else images
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(shown), labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def audited(model: nn.Module, **options: object) -> AuditReport:
    images, labels = stripes(250)
    return audit(model, images, labels, ThreatModel("linf", EPSILON), **options)  # type: ignore[arg-type]


def checks(report: AuditReport) -> set[str]:
    return {finding.check for finding in report.findings if finding.severity != "note"}


@pytest.mark.parametrize("adversarial", [False, True])
def test_honest_models_raise_no_alarm(adversarial: bool) -> None:
    surrogate = network(adversarial=False, seed=1)
    report = audited(network(adversarial=adversarial, seed=0), surrogates={"other": surrogate}, attacks="standard")
    assert checks(report) == set()
    assert report.verdict != "unreliable"


class ZeroGradient(nn.Module):
    """Decides as the model does and sends no gradient back."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images).detach() + 0 * images.sum()


def test_a_zero_gradient_stands_at_any_distance_and_is_unreliable() -> None:
    report = audited(ZeroGradient(network(adversarial=False, seed=0)).eval(), attacks=[PGD(), MIM()])
    assert checks(report) == {"gradient_masking", "stands_at_any_distance"}
    assert report.verdict == "unreliable"


class RandomOutput(nn.Module):
    """Adds noise to the logits, another at each call."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits + 0.5 * torch.randn_like(logits)


def test_outputs_that_change_between_calls_are_found() -> None:
    report = audited(RandomOutput(network(adversarial=False, seed=0)).eval(), attacks=[FGSM()])
    assert "random_output" in checks(report)


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
