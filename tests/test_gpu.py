"""On a GPU, simulated where there is none, attacks and predictions are computed there, and come to the same."""

from pathlib import Path

import pytest
import torch

import smdguard as sg
from smdguard.attacks import Attack
from smdguard.auditing import PresetName
from smdguard.catalogue import read_test_subset
from smdguard.datasets import LabelledImages, balanced_subset, parse_subset
from smdguard.report import AuditReport
from tests.simulated_gpu import GPU, simulated_gpu


def test_the_simulation_refuses_what_a_gpu_refuses() -> None:
    with simulated_gpu() as traffic:
        there, here = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
        assert there.device == GPU
        with pytest.raises(RuntimeError, match="same device"):
            there + here
        for indexed in (lambda: here[there > 0], lambda: here.index_put_((torch.tensor([0]),), there[0])):
            with pytest.raises(RuntimeError, match="same device"):
                indexed()
        with pytest.raises(RuntimeError, match="same device"):
            there[torch.tensor([0])] = here[:1]
        with pytest.raises(TypeError, match="to numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="a generator of the device"):
            torch.rand(2, device=there.device, generator=torch.Generator())
        with pytest.raises(RuntimeError, match="a generator of the device"):
            here.uniform_(generator=torch.Generator("cuda"))
        assert traffic.num_to_cpu == 0
        assert (there + here.to("cuda")).sum().item() == 12
        assert (2 * there).cpu().tolist() == [[2, 2, 2], [2, 2, 2]]
        assert torch.equal(there[torch.tensor([1])], torch.tensor([[1.0] * 3], device=GPU))
        assert there[there > 0].shape == (6,)
        assert traffic.num_to_cpu == 4


def digits(num_images: int) -> LabelledImages:
    return balanced_subset(parse_subset(read_test_subset("mnist")), num_images)


def audited(device: str, preset: PresetName) -> AuditReport:
    guards = [sg.load(name, backend="torch", device=device) for name in ("naive-lenet-mnist", "smd-lenet-mnist")]
    images, threat = digits(10), sg.ThreatModel("linf", 0.3)
    return sg.audit(
        guards[0].ensemble,
        images.scaled().to(device),
        images.labels.to(device),
        threat,
        attacks=preset,
        surrogates={"smd": guards[1].ensemble},
        suspicion_threshold=guards[0].config.suspicion_threshold,
    )


@pytest.mark.parametrize(
    ("attack", "num_fetched"),
    [
        (sg.PGD(num_steps=10, early_stop=False), 0),
        # At the end: which images ended better.
        (sg.APGD(num_steps=10, early_stop=False), 4),
        # Whether any image still stands.
        (sg.PGD(num_steps=10), 10),
        (sg.Square(num_queries=10), 10),
    ],
    ids=repr,
)
def test_an_attack_fetches_a_number_a_step_at_most(attack: Attack, num_fetched: int) -> None:
    with simulated_gpu() as traffic:
        ensemble, images = sg.load("smd-lenet-mnist", backend="torch", device="cuda").ensemble, digits(10)
        given = images.scaled().to(GPU), images.labels.to(GPU), sg.ThreatModel("linf", 0.01)
        before = traffic.num_to_cpu
        adversarial = attack(ensemble, *given, generator=torch.Generator(GPU).manual_seed(0))
        assert traffic.num_to_cpu - before == num_fetched
        assert adversarial.device == GPU


@pytest.mark.parametrize(
    "preset", ["quick", *(pytest.param(name, marks=pytest.mark.slow) for name in ("paper", "standard", "full"))]
)
def test_an_audit_comes_to_the_same_figures(preset: PresetName) -> None:
    here = audited("cpu", preset)
    with simulated_gpu():
        there = audited("cuda", preset)
    assert there.device == "a GPU in name only"
    assert [(made.name, made.source) for made in there.attacks] == [(made.name, made.source) for made in here.attacks]
    left = [[made.robust_accuracy.value for made in report.attacks] for report in (there, here)]
    # Other kernels round otherwise, which may decide about one of the ten images.
    assert left[0] == pytest.approx(left[1], abs=0.101)
    assert there.verdict == here.verdict


def test_predictions_are_the_same() -> None:
    picture = Path(__file__).parents[1] / "zoo" / "samples" / "digit-7.png"
    here = sg.load("smd-lenet-mnist", backend="torch", device="cpu").predict(picture)
    with simulated_gpu():
        guard = sg.load("smd-lenet-mnist", backend="torch", device="auto")
        assert guard.ensemble.mean.device == GPU
        there = guard.predict(picture)
    assert there.probabilities == pytest.approx(here.probabilities, rel=1e-4, abs=1e-8)
