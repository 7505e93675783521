"""What the disagreement of the members flags, with and without an adversary who knows of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, Unsuspicious
from smdguard.attacks.attack import is_fooled
from smdguard.auditing import audit, campaign, suspicion
from smdguard.auditing.crafting import Planned, Workshop
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.suspicion import suspicion_under_attack
from smdguard.ensemble import Ensemble
from smdguard.report import SuspicionReport
from smdguard.scores import disagreement
from smdguard.threat import ThreatModel

THREAT = ThreatModel("linf", 0.15)
THRESHOLD = 0.02


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (90,), generator=generator)
    images = 0.4 + 0.05 * torch.randn(90, 1, 3, 6, generator=generator)
    for label in range(3):
        images[labels == label, :, label] += 0.2
    return images.clamp(0, 1), labels


def ensemble() -> Ensemble:
    """Members that look at the same row of the image, each mostly at other pixels of it."""
    members = []
    for index in range(3):
        weight = 0.5 * torch.eye(3).repeat_interleave(6, dim=1)
        weight.view(3, 3, 6)[:, :, 2 * index : 2 * index + 2] *= 6
        layer = nn.Linear(18, 3, bias=False)
        layer.weight.data = weight
        members.append(nn.Sequential(nn.Flatten(), layer))
    return Ensemble(members, mean=[0.5], std=[0.25]).eval()


def test_adaptive_attack_fools_with_less_disagreement() -> None:
    images, labels = data()
    model = ensemble()
    undetected = {}
    for attack in (APGD(num_steps=20, early_stop=False), Unsuspicious(num_steps=20, threshold=THRESHOLD)):
        adversarial = attack(model, images, labels, THREAT, generator=torch.Generator().manual_seed(0))
        assert (THREAT.distance(images, adversarial) <= THREAT.epsilon + 1e-6).all()
        with torch.no_grad():
            fooled = is_fooled(model(adversarial), labels)
            undetected[attack.name] = fooled & (disagreement(model.member_log_probabilities(adversarial)) <= THRESHOLD)
    assert undetected["adaptive"].sum() > undetected["APGD-CE"].sum()


def test_adaptive_attack_finds_the_wrong_decision_of_least_disagreement() -> None:
    """The first member is easily led to the other class, the second hardly: all that leads there drives them apart."""
    members = []
    for pixel, (slope, offset) in enumerate([(40.0, -1.0), (5.0, -2.0)]):
        layer = nn.Linear(2, 2)
        layer.weight.data = torch.zeros(2, 2).index_fill_(1, torch.tensor(pixel), slope) * torch.tensor([[0.0], [1.0]])
        layer.bias.data = torch.tensor([0.0, offset])
        members.append(nn.Sequential(nn.Flatten(), layer))
    model = Ensemble(members, mean=[0.5], std=[1.0]).eval()
    image, label, threat = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0]), ThreatModel("linf", 0.2)
    attack = Unsuspicious(num_steps=100, threshold=0.0)
    adversarial = attack(model, image, label, threat, generator=torch.Generator().manual_seed(0))
    around = torch.linspace(0.3, 0.7, 401)
    everywhere = torch.cartesian_prod(around, around).view(-1, 1, 1, 2)
    with torch.no_grad():
        scores = disagreement(model.member_log_probabilities(everywhere))
        least = scores[is_fooled(model(everywhere), label.expand(len(everywhere)))].min()
        assert is_fooled(model(adversarial), label).all()
        found = disagreement(model.member_log_probabilities(adversarial))
    assert found.item() == pytest.approx(least.item(), rel=0.05)


def test_report_says_what_is_flagged() -> None:
    report = audit(ensemble(), *data(), THREAT, attacks=[APGD(num_steps=5)], suspicion_threshold=THRESHOLD)
    suspicion = report.suspicion
    assert suspicion is not None
    assert (suspicion.threshold, suspicion.num_images) == (THRESHOLD, 90)
    plain, adaptive = suspicion.attacks
    assert (plain.name, adaptive.name) == ("APGD-CE", "adaptive")
    assert adaptive.undetected.value > plain.undetected.value
    for attack in suspicion.attacks:
        assert attack.flagged is not None
        assert attack.auroc is not None
        fooled = 1 - attack.robust_accuracy.value
        assert attack.undetected.value == pytest.approx(fooled * (1 - attack.flagged.value))


def test_flagged_shares_and_auroc_are_those_of_the_scores() -> None:
    images, labels = data()
    model, threat = ensemble(), ThreatModel("linf", 0.08)
    report = audit(model, images, labels, threat, attacks=[APGD(num_steps=5)], suspicion_threshold=THRESHOLD)
    assert report.suspicion is not None
    (plain, _), clean_flagged = report.suspicion.attacks, report.suspicion.clean_flagged
    attack = APGD(num_steps=20, early_stop=False)
    assert plain.repr == repr(attack)
    workshop = Workshop(images, labels, seed=0, fingerprint="", store={}, advance=lambda _: None)
    adversarial = workshop.craft(Planned(attack, model, "suspicion"), images, labels, threat, shard=0)
    with torch.no_grad():
        fooled = is_fooled(model(adversarial), labels)
        clean, attacked = (disagreement(model.member_log_probabilities(each)) for each in (images, adversarial))
    assert 0 < fooled.sum() < len(fooled)
    assert clean_flagged.value == pytest.approx((clean > THRESHOLD).double().mean().item())
    assert plain.flagged is not None
    assert plain.flagged.value == pytest.approx((attacked[fooled] > THRESHOLD).double().mean().item())
    pairs = attacked[fooled][:, None] - clean
    assert plain.auroc == pytest.approx(((pairs > 0).double() + 0.5 * (pairs == 0)).mean().item(), abs=1e-4)


def test_what_is_wrong_when_clean_does_not_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = data()
    monkeypatch.setattr(suspicion, "probe_rows", lambda *_: torch.arange(5))
    labels = (labels + 1) % 3
    workshop = Workshop(images, labels, seed=0, fingerprint="", store={}, advance=lambda _: None)
    clean = workshop.standing(ensemble(), images, labels)
    _, outcomes = suspicion_under_attack(ensemble(), workshop, THREAT, THRESHOLD, clean)
    assert not clean.all()
    assert not any((outcome.standing & ~clean).any() for outcome in outcomes)


def test_where_nothing_is_fooled_there_is_no_share() -> None:
    weak = ThreatModel("linf", 0.0)
    images, labels = data()
    right = ~is_fooled(ensemble()(images), labels)
    report = audit(ensemble(), images[right], labels[right], weak, attacks=[APGD()], suspicion_threshold=THRESHOLD)
    assert report.suspicion is not None
    assert [(attack.flagged, attack.auroc) for attack in report.suspicion.attacks] == [(None, None)] * 2


@pytest.mark.parametrize(("model", "threshold"), [(ensemble(), None), (lambda images: ensemble()(images), 0.1)])
def test_no_threshold_or_no_members_no_suspicion(model: object, threshold: float | None) -> None:
    report = audit(model, *data(), THREAT, attacks=[APGD(num_steps=2)], suspicion_threshold=threshold)  # type: ignore[arg-type]
    assert report.suspicion is None


def test_what_the_attacks_on_suspicion_fool_counts_in_the_worst_case(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = data()
    nothing = torch.zeros(len(labels), dtype=torch.bool)

    def all_fall(*arguments: object) -> tuple[SuspicionReport, list[Outcome]]:
        report, outcomes = suspicion_under_attack(*arguments)  # type: ignore[arg-type]
        return report, [replace(outcome, standing=nothing) for outcome in outcomes]

    monkeypatch.setattr(campaign, "suspicion_under_attack", all_fall)
    report = audit(
        ensemble(), images, labels, ThreatModel("linf", 1e-4), attacks=[APGD(num_steps=2)], suspicion_threshold=0.02
    )
    assert report.attacks[0].robust_accuracy.value > 0.9
    assert report.worst_case.robust_accuracy.value == 0
