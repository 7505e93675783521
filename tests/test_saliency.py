"""Saliencies and the SMD measure against plain float64 arithmetic."""

import itertools
import math

import numpy
import pytest
import torch
from torch import nn

from smdguard.ensemble import Ensemble
from smdguard.saliency import member_saliencies, pairwise_cosine, saliency_alignment


def linear_ensemble(num_members: int = 3, num_classes: int = 4) -> Ensemble:
    torch.manual_seed(0)
    members = [nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes)) for _ in range(num_members)]
    return Ensemble(members, mean=[0.2, 0.3, 0.4], std=[0.5, 0.6, 0.7]).double()


def reference_alignment(saliencies: numpy.ndarray) -> numpy.ndarray:
    """Eq. 2 of the paper, image by image and pair by pair."""
    values = []
    for image in range(saliencies.shape[1]):
        total = 0.0
        for m, n in itertools.combinations(range(len(saliencies)), 2):
            first, second = saliencies[m, image].ravel(), saliencies[n, image].ravel()
            total += math.exp(first @ second / (numpy.linalg.norm(first) * numpy.linalg.norm(second)))
        values.append(math.log(total))
    return numpy.array(values)


@pytest.mark.parametrize("num_members", [2, 3, 5])
def test_alignment_matches_the_formula(num_members: int) -> None:
    saliencies = torch.randn(num_members, 6, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = reference_alignment(saliencies.numpy())
    torch.testing.assert_close(saliency_alignment(saliencies), torch.from_numpy(expected))


def test_alignment_of_equal_and_of_opposite_members() -> None:
    saliency = torch.randn(1, 2, 3, dtype=torch.float64)
    equal = saliency_alignment(torch.cat([saliency, 7 * saliency, 0.1 * saliency]))
    torch.testing.assert_close(equal, torch.full((2,), math.log(3) + 1, dtype=torch.float64))
    opposite = saliency_alignment(torch.cat([saliency, -2 * saliency]))
    torch.testing.assert_close(opposite, torch.full((2,), -1.0, dtype=torch.float64))


@pytest.mark.parametrize("length", [1e-10, 1e-18, 1e-21, 1e-24, 1e-30, 0.0])
def test_cosine_is_one_for_equal_saliencies_of_any_but_vanishing_length_and_never_more(length: float) -> None:
    cosine = pairwise_cosine(torch.full((2, 1, 784), length))
    assert (cosine > 0.999).item() == (length >= 1e-18)
    assert 0 <= cosine.item() <= 1 + 1e-6


def test_alignment_does_not_depend_on_the_order_of_the_members() -> None:
    saliencies = torch.randn(4, 3, 8, dtype=torch.float64)
    torch.testing.assert_close(saliency_alignment(saliencies[[2, 0, 3, 1]]), saliency_alignment(saliencies))


def test_logit_saliency_of_a_linear_member_is_its_weight_row() -> None:
    ensemble = linear_ensemble()
    images, labels = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    saliencies = member_saliencies(ensemble, images, labels, "logit")
    for m, member in enumerate(ensemble.members):
        rows = member[1].weight[labels].view(5, 3, 2, 2) / ensemble.std  # type: ignore[index]
        torch.testing.assert_close(saliencies[m], rows.detach())


def test_saliencies_are_had_where_gradients_are_switched_off() -> None:
    ensemble = linear_ensemble()
    images, labels = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    expected = member_saliencies(ensemble, images, labels)
    with torch.no_grad():
        assert torch.equal(member_saliencies(ensemble, images, labels), expected)


def test_centred_logit_saliency_subtracts_the_mean_over_the_classes() -> None:
    ensemble = linear_ensemble()
    images, labels = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    centred = member_saliencies(ensemble, images, labels, "centred_logit")
    plain = member_saliencies(ensemble, images, labels, "logit")
    mean = torch.stack([member_saliencies(ensemble, images, torch.full((5,), k), "logit") for k in range(4)]).mean(
        dim=0
    )
    torch.testing.assert_close(centred, plain - mean)


def test_probability_saliency_has_the_direction_of_the_probability_gradient() -> None:
    ensemble = linear_ensemble()
    images, labels = torch.rand(5, 3, 2, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    saliencies = member_saliencies(ensemble, images, labels, "probability")
    leaf = images.clone().requires_grad_()
    for m in range(3):
        probabilities = ensemble.member_logits(leaf)[m].softmax(dim=-1)
        gradient = torch.autograd.grad(probabilities.gather(1, labels[:, None]).sum(), leaf)[0]
        cosine = pairwise_cosine(torch.stack([saliencies[m], gradient]))
        torch.testing.assert_close(cosine[0], torch.ones(5, dtype=torch.float64))


def test_probability_saliency_survives_saturation_in_float32() -> None:
    exact = linear_ensemble()
    with torch.no_grad():
        for member in exact.members:
            member[1].weight.mul_(60)  # type: ignore[index]
    images = torch.rand(8, 3, 2, 2, dtype=torch.float64)
    labels = exact(images).argmax(dim=1)
    # Some member is so sure that float32 rounds its probability to one.
    assert exact.member_log_probabilities(images).amax() > -1e-8
    expected = pairwise_cosine(member_saliencies(exact, images, labels))
    rounded = pairwise_cosine(member_saliencies(exact.float(), images.float(), labels))
    torch.testing.assert_close(rounded.double(), expected, atol=1e-4, rtol=1e-4)
