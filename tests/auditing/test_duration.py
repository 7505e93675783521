"""How long an audit is said to take is no less than what it asks of the models."""

from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    BoundaryWalk,
    MemberReweighing,
    Model,
    Square,
    TargetedAPGD,
    Transfer,
    Unsuspicious,
)
from smdguard.auditing import PRESETS, PresetName, audit
from smdguard.auditing.crafting import SHARD_SIZE
from smdguard.auditing.duration import Calls, Pace, calls_at_most, seconds_at_most
from smdguard.auditing.plan import Plan
from smdguard.auditing.presets import Preset
from smdguard.auditing.sampling import NUM_QUERIED
from smdguard.ensemble import Ensemble
from smdguard.threat import ThreatModel

NUM_CLASSES = 4
THREAT = ThreatModel("linf", 0.1)
ATTACKS: list[Attack] = [
    FGSM(),
    RFGSM(),
    BIM(num_steps=3),
    MIM(num_steps=3),
    PGD(num_steps=3),
    PGD(num_steps=3, num_restarts=4),
    APGD(num_steps=5),
    APGD(num_steps=5, loss="dlr", num_restarts=3),
    TargetedAPGD(num_steps=5, num_target_classes=2, num_restarts=2),
    MemberReweighing(num_steps=5),
    FAB(num_steps=5, num_target_classes=3),
    Square(num_queries=9),
    Unsuspicious(num_steps=5, threshold=0.1),
]


class Counting:
    """Two members that cannot be fooled, or only from some call on; counts what it is asked."""

    def __init__(self, *, falls_at: float = float("inf")) -> None:
        self.falls_at, self.num_gradients, self.num_outputs = falls_at, 0, 0

    def member_logits(self, images: Tensor) -> Tensor:
        if images.requires_grad and torch.is_grad_enabled():
            self.num_gradients += 1
        else:
            self.num_outputs += 1
        fallen = self.num_gradients + self.num_outputs > self.falls_at
        constant = images.new_tensor([-9.0, 2.0, 1.0, 0.0] if fallen else [9.0, 2.0, 1.0, 0.0])
        # Pixels of several signs, so that there is a way to follow.
        slopes = torch.linspace(-0.1, 0.1, images[0].numel() * NUM_CLASSES).view(-1, NUM_CLASSES)
        return (constant + images.flatten(1) @ slopes).expand(2, -1, -1)

    def __call__(self, images: Tensor) -> Tensor:
        return self.member_logits(images)[0].log_softmax(dim=-1)


def ask(attack: Attack, model: Counting) -> Calls:
    images = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    attack(model, images, torch.zeros(2, dtype=torch.long), THREAT, generator=torch.Generator().manual_seed(0))
    return Calls(model.num_gradients, model.num_outputs)


@pytest.mark.parametrize("attack", ATTACKS, ids=repr)
def test_what_cannot_be_fooled_is_asked_exactly_as_often_as_was_said(attack: Attack) -> None:
    assert ask(attack, Counting()) == calls_at_most(attack)


@pytest.mark.parametrize("falls_at", [0, 1, 4])
@pytest.mark.parametrize("attack", [*ATTACKS, BoundaryWalk(num_steps=3)], ids=repr)
def test_what_falls_is_asked_no_more_often(attack: Attack, falls_at: int) -> None:
    most, asked = calls_at_most(attack), ask(attack, Counting(falls_at=falls_at))
    assert most is not None
    assert asked.for_gradient <= most.for_gradient
    assert asked.for_output <= most.for_output


@pytest.mark.parametrize("attack", [BIM(), PGD(num_restarts=2), APGD(), Square(num_queries=9)], ids=repr)
def test_a_transferred_attack_asks_no_more_than_the_same_made_directly(attack: Attack) -> None:
    assert calls_at_most(Transfer("other", attack)) == calls_at_most(attack)
    transferred, direct = ask(Transfer("other", attack), Counting()), ask(attack, Counting())
    assert transferred.for_gradient <= direct.for_gradient
    assert transferred.for_output <= direct.for_output


@pytest.mark.parametrize("preset", get_args(PresetName))
def test_the_calls_of_every_attack_of_a_preset_are_known(preset: PresetName) -> None:
    made = PRESETS[preset]()
    assert all(calls_at_most(attack) is not None for attack in (*made.attacks, *made.pursuits))


def plan_of(
    *attacks: Attack,
    pursuits: tuple[Attack, ...] = (),
    surrogates: dict[str, Model] | None = None,
    has_gradients: bool = True,
) -> Plan:
    return Plan(Counting(), "model", Preset(attacks, pursuits), surrogates or {}, has_gradients)


def seconds(plan: Plan, num_images: int = 1, num_radii: int = 1) -> float | None:
    """A second for an output of the model and 100 for a gradient; surrogates take ten times as long."""

    def pace_of(model: Model) -> Pace:
        return Pace(100, 1) if model is plan.model else Pace(1000, 10)

    return seconds_at_most(plan, labels=torch.zeros(num_images), num_radii=num_radii, pace_of=pace_of)


def test_seconds_are_those_of_all_calls() -> None:
    query = plan_of(Square(num_queries=9), has_gradients=False)
    # One output of the clean image, nine queries, one to check what came out; and as much to show some of it.
    assert seconds(query) == 11 + 11
    assert seconds(query, num_images=SHARD_SIZE) == 11 + 11
    assert seconds(query, num_images=SHARD_SIZE + 1) == 22 + 11
    assert seconds(query, num_images=SHARD_SIZE + 1, num_radii=3) == 66 + 11
    pursued = plan_of(Square(num_queries=9), pursuits=(Square(num_queries=19),), has_gradients=False)
    assert seconds(pursued) == 2 * (11 + 21)


def test_seconds_count_surrogates_and_probes() -> None:
    direct, transferred = seconds(plan_of(FGSM())), seconds(plan_of(FGSM(), surrogates={"other": Counting()}))
    assert direct is not None
    assert transferred == direct + 1000 + 1
    # Probes make PGD and BIM with 20 steps, PGD with 40 and APGD with 50.
    gradient_probes = 2 * (20 * 100 + 1) + (40 * 100 + 1) + (51 * 100 + 1 + 1)
    # Square asks 1,000 times about a few, as no attack here does.
    probes = gradient_probes + NUM_QUERIED / SHARD_SIZE * (1 + 1000 + 1)
    assert direct == (100 + 1) + probes
    # They are made wherever there are gradients, whatever the attacks ask for.
    assert seconds(plan_of(Square(num_queries=9))) == 2 * 11 + probes
    assert seconds(plan_of(Square(num_queries=1000))) == 2 * 1002 + gradient_probes


def test_seconds_count_attacks_on_members_and_on_the_suspicion() -> None:
    ensemble = Ensemble([nn.Identity(), nn.Identity()], mean=[0.0], std=[1.0])
    preset = Preset((FGSM(),), on_members=(PGD(num_steps=2), FGSM()))
    plain = Plan(ensemble, "model", preset, surrogates={})
    with_members = replace(plain, members={"first": Counting(), "second": Counting()})
    with_suspicion = replace(with_members, suspicion_threshold=0.1)
    three = [seconds(plan, SHARD_SIZE + 1, num_radii=3) for plan in (plain, with_members, with_suspicion)]
    assert three[0] is not None
    # Two shards of two members, which meet PGD at all three radii and FGSM at the largest.
    on_members = 2 * 2 * (3 * (2 * 1000 + 1) + (1000 + 1))
    # A start and 20 steps, and the same towards each of three classes, on the probed images at the largest radius.
    on_suspicion = (21 * 100 + 1 + 1) + (3 * 21 * 100 + 4 + 1)
    assert three[1:] == pytest.approx([three[0] + on_members, three[0] + on_members + on_suspicion])


@dataclass(frozen=True)
class Foreign:
    """An attack that a user wrote."""

    name: ClassVar[str] = "foreign"
    requires: ClassVar[str] = "labels"
    needs_members: ClassVar[bool] = False

    def __call__(self, model: Model, images: Tensor, *_: object, **__: object) -> Tensor:
        return images


def test_nothing_is_announced_of_attacks_that_are_not_ours() -> None:
    assert seconds(plan_of(Foreign())) is None  # type: ignore[arg-type]
    assert heard_of([Foreign()]) == []  # type: ignore[list-item]


def heard_of(attacks: list[Attack]) -> list[tuple[float, int]]:
    """What is announced, and how many shards of attacks were done by then."""
    heard: list[tuple[float, int]] = []
    done: list[int] = []
    model = Counting()
    audit(
        model,
        torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)),
        torch.zeros(4, dtype=torch.long),
        THREAT,
        attacks=attacks,
        progress=lambda number, *_: done.append(number),
        announce=lambda seconds: heard.append((seconds, len(done))),
    )
    return heard


def test_it_is_announced_once_before_the_first_attack() -> None:
    ((longest, num_done),) = heard_of([FGSM(), PGD()])
    assert longest > 0
    assert num_done == 0
