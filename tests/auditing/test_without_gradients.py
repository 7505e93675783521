"""Audits of models, and of ensembles with members, that give no gradient."""

import json

import numpy
import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import PGD, Square
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from tests.auditing.small_ensembles import ensemble, member, run


def without_gradient(images: Tensor) -> Tensor:
    scores: numpy.ndarray = ensemble()(torch.from_numpy(images.numpy())).detach().numpy()
    return torch.from_numpy(scores)


@pytest.mark.parametrize("model", [without_gradient, lambda images: ensemble()(images.detach())])
def test_a_model_without_gradients_is_attacked_without(model: object) -> None:
    report = run(model, attacks="quick", num_images=60, surrogates={"honest": ensemble()})
    made = {(result.name, result.access) for result in report.attacks}
    assert {access for name, access in made if name != "Square"} == {"black-box"}
    assert ("Square", "white-box") in made
    assert {one.name for one in report.impossible} == {"FGSM", "MIM", "APGD-CE", "MORA"}
    assert all("gradients" in one.reason or "Ensemble" in one.reason for one in report.impossible)
    honest = run(attacks="quick", num_images=60)
    assert abs(report.worst_case.robust_accuracy.value - honest.worst_case.robust_accuracy.value) < 0.05


def test_a_model_without_gradients_is_asked_for_none_but_to_find_that_out() -> None:
    num_asked = []

    def counting(images: Tensor) -> Tensor:
        if images.requires_grad:
            num_asked.append(len(images))
        return ensemble()(images.detach())

    run(counting, attacks=[Square(num_queries=5)], num_images=40, store={}, announce=lambda _: None)
    # About two images each: for the plan, for what is stored, and for the time it takes.
    assert num_asked == [2, 2, 2]


def test_without_gradients_nothing_is_called_robust() -> None:
    report = run(without_gradient, attacks=[PGD()], surrogates={"honest": ensemble()})
    assert report.verdict == "unreliable"
    assert "gradient-free" in report.verdict_reason
    queried = run(without_gradient, attacks=[Square(num_queries=100)])
    assert "no_gradients" in {finding.check for finding in queried.findings}
    assert queried.verdict == "unreliable"
    assert "attacks that do without them are weak" in queried.verdict_reason


def test_an_audit_without_any_possible_attack_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="PGD: it needs input gradients"):
        run(without_gradient, attacks=[PGD()])


class OneWay(torch.autograd.Function):
    """Passes a model's scores on, and knows no way back."""

    @staticmethod
    def forward(ctx: object, scores: Tensor) -> Tensor:
        return scores.clone()


class Blind(nn.Module):
    """A member that gives no gradient, for one of the reasons there are."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind = network, kind

    def forward(self, images: Tensor) -> Tensor:
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.network(images)
        if self.kind == "one_way":
            return OneWay.apply(self.network(images))  # type: ignore[return-value]
        # numpy refuses what wants a gradient.
        return self.network(images.detach() if self.kind == "detach" else torch.from_numpy(images.numpy()))


@pytest.mark.parametrize("kind", ["detach", "no_grad", "numpy", "one_way"])
@pytest.mark.parametrize("blind", [{0, 1, 2}, {1}])
@pytest.mark.parametrize("attacks", ["quick", [Square(num_queries=20)]])
def test_members_without_gradients_are_left_out_of_what_needs_them(kind: str, blind: set[int], attacks: object) -> None:
    members = [Blind(member(index), kind) if index in blind else member(index) for index in range(3)]
    model = Ensemble(members, mean=[0.5], std=[0.5]).eval()
    report = run(model, num_images=40, attacks=attacks, suspicion_threshold=0.02, announce=lambda _: None)
    made_on = {result.source for result in report.attacks if result.access == "member"}
    assert made_on == {f"member {index}" for index in {0, 1, 2} - blind}
    assert "Square" in {result.name for result in report.attacks}
    # MIM and APGD follow the whole ensemble's gradient, which there is unless a member refuses to give any.
    has_gradients = kind in {"detach", "no_grad"} and len(blind) < 3
    assert ("MIM" in {result.name for result in report.attacks}) == (attacks == "quick" and has_gradients)
    hidden = {"no_gradients", "blind_members"} & {finding.check for finding in report.findings}
    assert hidden == {"blind_members" if has_gradients else "no_gradients"}
    counts = [json.dumps(finding.evidence) for finding in report.findings if finding.check == "blind_members"]
    assert counts == ([f'{{"num_blind": {len(blind)}}}'] if has_gradients else [])
    assert report.verdict != "robust"
    left_out = {one.name for one in report.impossible}
    alone = {f"attacks on member {index} alone" for index in blind}
    assert left_out >= {*alone, "saliency maps", "attacks on the suspicion"}
    assert report.exhibits is not None
    assert (report.transfer, report.suspicion, report.exhibits.saliency) == (None, None, ())
    assert report.exhibits.gallery
    assert report.exhibits.disagreement is not None
