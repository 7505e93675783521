"""Audits that are cut short and go on, that run short of memory, and of models that give no gradient."""

import dataclasses
import importlib.util
import json
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, FGSM, PGD, MemberReweighing, Square, Unsuspicious
from smdguard.auditing import AuditInterrupted, audit, evaluate
from smdguard.auditing.batching import Batching
from smdguard.auditing.fingerprint import fingerprint
from smdguard.auditing.partial_results import PartialResults
from smdguard.ensemble import Ensemble
from smdguard.errors import InvalidInputError
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel

NUM_IMAGES = 520
THREAT = ThreatModel("linf", 0.08)
ATTACKS = [FGSM(), PGD(), APGD(num_steps=5), MemberReweighing(num_steps=5)]


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (NUM_IMAGES,), generator=generator)
    side = torch.where(labels == 0, 1.0, -1.0) * (0.02 + 0.2 * torch.rand(NUM_IMAGES, generator=generator))
    images = torch.full((NUM_IMAGES, 1, 4, 4), 0.5)
    images[..., :2] += side.view(-1, 1, 1, 1)
    images[..., 2:] -= side.view(-1, 1, 1, 1)
    return images, labels


def member(seed: int) -> nn.Module:
    layer = nn.Linear(16, 2)
    half = torch.cat([torch.ones(4, 2), -torch.ones(4, 2)], dim=1).flatten()
    noise = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    layer.weight.data = torch.stack([half, -half]) + noise
    layer.bias.data.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def ensemble(seed: int = 0) -> Ensemble:
    return Ensemble([member(10 * seed + index) for index in range(3)], mean=[0.5], std=[0.5]).eval()


def run(model: object = None, num_images: int = NUM_IMAGES, **options: object) -> AuditReport:
    images, labels = (values[:num_images] for values in data())
    report = audit(model or ensemble(), images, labels, THREAT, **{"attacks": ATTACKS, **options})  # type: ignore[arg-type]
    return dataclasses.replace(report, seconds=0)


class Stop(Exception):
    pass


def stopping_after(num_shards: int, error: BaseException):
    def progress(done: int, total: int, description: str) -> None:
        if done == num_shards:
            raise error

    return progress


@pytest.mark.parametrize("num_shards", [1, 8, 14])
def test_an_audit_goes_on_where_it_was_cut_short_with_the_identical_result(num_shards: int) -> None:
    expected = run(epsilons=[0.04])
    store: dict[str, bytes] = {}
    with pytest.raises(Stop):
        run(epsilons=[0.04], store=store, progress=stopping_after(num_shards, Stop()))
    kept = dict(store)
    assert 0 < len(kept) <= num_shards
    assert run(epsilons=[0.04], store=store) == expected
    assert kept.items() <= store.items()


class Refusing(dict[str, bytes]):
    """Everything that is asked for must be there."""

    def __setitem__(self, key: str, value: bytes) -> None:
        raise AssertionError(f"{key} was computed again")


def test_what_is_stored_is_not_computed_again() -> None:
    store: dict[str, bytes] = {}
    expected = run(store=store)
    assert run(store=Refusing(store)) == expected


def test_suspicion_goes_on_where_it_was_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Tensor:
        raise KeyboardInterrupt

    options: dict[str, object] = {"num_images": 60, "attacks": [FGSM()], "suspicion_threshold": 0.01}
    expected, store = run(**options), {}
    with monkeypatch.context() as patch:
        patch.setattr(Unsuspicious, "__call__", interrupted)
        with pytest.raises(AuditInterrupted) as caught:
            run(store=store, **options)
    assert caught.value.report.suspicion is None
    with monkeypatch.context() as patch:
        patch.setattr(APGD, "__call__", interrupted)
        assert run(store=store, **options) == expected
    monkeypatch.setattr(Unsuspicious, "__call__", interrupted)
    assert run(store=Refusing(store), **options) == expected


@pytest.mark.parametrize("change", ["model", "images", "labels", "seed", "surrogate", "epsilon"])
def test_what_decides_the_result_is_part_of_the_key(change: str) -> None:
    store: dict[str, bytes] = {}
    images, labels = data()
    audit(ensemble(), images, labels, THREAT, attacks=[PGD()], store=store)
    before = set(store)
    threat = dataclasses.replace(THREAT, epsilon=0.05) if change == "epsilon" else THREAT
    audit(
        ensemble(1) if change == "model" else ensemble(),
        images + 0.01 if change == "images" else images,
        labels.index_fill(0, torch.tensor([519]), 0) if change == "labels" else labels,
        threat,
        attacks=[PGD()],
        seed=1 if change == "seed" else 0,
        surrogates={"model": ensemble(2)} if change == "surrogate" else {},
        store=store,
    )
    assert before
    assert len(set(store) - before) >= len(before)


def test_each_shard_has_random_draws_of_its_own() -> None:
    """Images that are alike, in shards of 250, get other noise."""
    noises = []

    class Noted(PGD):
        def __call__(self, model, images, labels, threat, *, generator):  # type: ignore[no-untyped-def]
            noises.append(torch.rand(3, generator=generator))
            return images

    run(attacks=[Noted()], num_images=500)
    by_shard = noises[:2]
    assert not torch.equal(*by_shard)


def test_results_of_other_programs_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.__file__", str(tmp_path / "__init__.py"))
    (tmp_path / "attacks").mkdir()
    stores: list[dict[str, bytes]] = [{}, {}, {}]
    for store, program in zip(stores, ("one", "other", "one"), strict=True):
        (tmp_path / "attacks" / "pgd.py").write_text(program)
        run(store=store, num_images=20)
    assert stores[0] == stores[2]
    assert not stores[0].keys() & stores[1].keys()


def test_models_that_differ_on_the_last_classes_alone_are_told_apart() -> None:
    """Images often come sorted by class."""
    images, labels = data()
    order = labels.argsort()
    images, labels = images[order], labels[order]

    def other(shown: Tensor) -> Tensor:
        of_last_class = shown[..., 2:].mean(dim=(1, 2, 3)) - shown[..., :2].mean(dim=(1, 2, 3)) > 0.3
        return ensemble()(shown) * (1 + of_last_class.float())[:, None]

    hashes = {
        fingerprint([("model", model)], [], images, labels, seed=0, batching=Batching(250))
        for model in (lambda shown: ensemble()(shown), other)
    }
    assert len(hashes) == 2


OWN_ATTACK = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Own:
    name, requires, needs_members = "own", "labels", False

    def __call__(self, model, images, labels, threat, *, generator):
        return threat.project(images, images.lerp(images.flip(-1), {share}))
"""


def own_attack(file: Path, share: float) -> Any:
    file.write_text(OWN_ATTACK.format(share=share))
    specification = importlib.util.spec_from_file_location("own_attack", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["own_attack"] = module
    specification.loader.exec_module(module)
    return module.Own()


def test_an_attack_of_ones_own_that_was_changed_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "own_attack", None)
    store: dict[str, bytes] = {}
    before = run(store=store, num_images=60, attacks=[own_attack(tmp_path / "before.py", 0.0)])
    attack = own_attack(tmp_path / "after.py", 1.0)
    after = run(store=store, num_images=60, attacks=[attack])
    assert before.attacks[0].robust_accuracy != after.attacks[0].robust_accuracy
    assert run(store=Refusing(store), num_images=60, attacks=[attack]) == after


def test_what_is_stored_of_an_attack_serves_audits_with_others() -> None:
    images, labels = data()
    hashes = {
        fingerprint([("model", ensemble())], attacks, images, labels, seed=0, batching=Batching(250))
        for attacks in ([PGD()], [FGSM(), Square()])
    }
    assert len(hashes) == 1


def test_a_model_that_holds_more_than_tensors_is_audited_with_a_store() -> None:
    class Described(nn.Sequential):
        def get_extra_state(self) -> dict[str, torch.dtype]:
            return {"type": torch.qint8}

        def set_extra_state(self, state: object) -> None:
            pass

    store: dict[str, bytes] = {}
    assert run(Described(member(0)).eval(), num_images=20, attacks=[FGSM()], store=store).attacks
    assert store


def test_images_are_not_copied_to_be_known_again() -> None:
    images, labels = torch.zeros(1000, 1, 64, 64), torch.zeros(1000, dtype=torch.long)
    tracemalloc.start()
    fingerprint([], [], images, labels, seed=0, batching=Batching(250))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < images.numel() * images.element_size() / 4


def test_damaged_results_are_computed_again() -> None:
    store: dict[str, bytes] = {}
    expected = run(store=store)
    assert run(store={key: value[:-1] for key, value in store.items()}) == expected


def test_finished_audits_leave_those_of_others_to_go_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "partial"
    with pytest.raises(AuditInterrupted):
        run(seed=1, store=PartialResults(folder), progress=stopping_after(2, KeyboardInterrupt()))
    unfinished = {file.name for file in folder.iterdir()}
    (folder / ".killed").write_bytes(b"")
    store = PartialResults(folder)
    run(store=store)
    assert {file.name for file in folder.glob("[!.]*")} > unfinished
    store.discard()
    assert {file.name for file in folder.iterdir()} == unfinished
    again = PartialResults(folder)
    run(seed=1, store=again)
    again.discard()
    assert not folder.exists()


def test_ctrl_c_leaves_a_partial_report() -> None:
    with pytest.raises(AuditInterrupted) as caught:
        run(progress=stopping_after(4, KeyboardInterrupt()))
    report = caught.value.report
    assert report.partial
    assert [result.name for result in report.attacks] == ["FGSM"]
    assert report.worst_case.robust_accuracy == report.attacks[0].robust_accuracy


def test_ctrl_c_after_all_attacks_costs_no_more_than_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run()

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "gather_exhibits", stop)
    with pytest.raises(AuditInterrupted) as caught:
        run()
    assert whole.exhibits is not None
    assert caught.value.report == dataclasses.replace(whole, exhibits=None, seconds=caught.value.report.seconds)


def test_a_partial_report_has_no_radius_that_was_not_attacked() -> None:
    with pytest.raises(AuditInterrupted) as caught:
        run(progress=stopping_after(4, KeyboardInterrupt()), epsilons=[0.04])
    report = caught.value.report
    assert {result.epsilon for result in report.attacks} == {0.04}
    assert [point.epsilon for point in report.curve] == [0.04]


def test_results_of_a_bare_model_are_not_taken_for_one_with_a_purifier() -> None:
    """They agree on clean images of 8 bits."""
    images, labels = (part[:60] for part in data())
    clean = (images * 255).round() / 255
    store: dict[str, bytes] = {}

    def purified(images: Tensor) -> Tensor:
        return ensemble()((images * 255).round() / 255)

    def audited(model: object) -> AuditReport:
        threat, attacks = ThreatModel("linf", 0.02), [Square(num_queries=20)]
        return audit(model, clean, labels, threat, attacks=attacks, store=store)

    audited(purified)
    before = len(store)
    audited(lambda images: ensemble()(images))
    assert len(store) == 2 * before > 0


class AnotherWayBack(torch.autograd.Function):
    """Passes the images on, and adds up their gradient in another order each time."""

    @staticmethod
    def forward(ctx: object, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient * (1 + 1e-6 * torch.randn_like(gradient))


def test_gradients_that_are_others_each_time_do_not_keep_what_is_stored_from_being_found() -> None:
    images, labels = data()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    first, second, without = (
        fingerprint([("model", each)], [], images, labels, seed=0, batching=Batching(250))
        for each in (*[lambda images: model(AnotherWayBack.apply(images))] * 2, model)
    )
    assert first == second != without


def test_a_partial_report_calls_nothing_robust() -> None:
    images, labels = data()
    with pytest.raises(AuditInterrupted) as caught:
        audit(
            ensemble(),
            images,
            labels,
            ThreatModel("linf", 0.001),
            attacks=[FGSM()],
            progress=stopping_after(1, KeyboardInterrupt()),
        )
    assert caught.value.report.verdict == "unreliable"
    assert "stopped" in caught.value.report.verdict_reason


class Short(Ensemble):
    """Has memory for so many images at a time."""

    limit = 16

    def member_logits(self, images: Tensor) -> Tensor:
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().member_logits(images)


def test_a_processor_is_not_asked_about_many_large_images_at_a_time() -> None:
    """A system kills who asks for more memory than there is, so that nobody could ask for less then."""
    asked: list[int] = []

    def model(images: Tensor) -> Tensor:
        asked.append(len(images))
        return images.mean(dim=(2, 3))

    images = torch.rand(30, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    audit(model, images, torch.arange(30) % 3, ThreatModel("linf", 0.1), attacks=[FGSM()])
    assert max(asked) == 13


def test_results_do_not_depend_on_the_memory() -> None:
    short = Short(list(ensemble().members), mean=[0.5], std=[0.5]).eval()
    report, expected = (run(model, store={}, suspicion_threshold=0.02) for model in (short, ensemble()))
    assert report.attacks == expected.attacks
    assert report.transfer == expected.transfer
    assert report.findings == expected.findings
    assert report.suspicion is not None
    assert report.suspicion == expected.suspicion
    assert report.exhibits is not None
    assert expected.exhibits is not None
    assert report.exhibits.gallery == expected.exhibits.gallery
    assert report.exhibits.saliency == expected.exhibits.saliency != ()
    scores, expected_scores = report.exhibits.disagreement, expected.exhibits.disagreement
    assert scores is not None
    assert expected_scores is not None
    assert scores.clean == pytest.approx(expected_scores.clean, abs=1e-5)
    assert scores.adversarial == pytest.approx(expected_scores.adversarial, abs=1e-5)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=["python", "cublas", "cudnn"],
)
def test_what_runs_short_of_memory_is_asked_about_less(error: Exception) -> None:
    def model(images: Tensor) -> Tensor:
        if len(images) > 100:
            raise error
        return ensemble()(images)

    assert run(model, attacks=[FGSM()]).attacks == run(lambda images: ensemble()(images), attacks=[FGSM()]).attacks


def test_too_little_memory_for_one_image_is_said() -> None:
    calls = iter(range(100))

    def model(images: Tensor) -> Tensor:
        if next(calls) > 2:  # The first calls are of two images.
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes")
        return ensemble()(images)

    with pytest.raises(InvalidInputError, match="not enough memory for a single image"):
        run(model)


def test_other_errors_of_a_model_are_not_taken_for_lack_of_memory() -> None:
    def model(images: Tensor) -> Tensor:
        if len(images) > 2:
            raise RuntimeError("shapes do not match")
        return ensemble()(images)

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(model)


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


def test_without_gradients_nothing_is_called_robust() -> None:
    report = run(without_gradient, attacks=[PGD()], surrogates={"honest": ensemble()})
    assert report.verdict == "unreliable"
    assert "gradient-free" in report.verdict_reason
    queried = run(without_gradient, attacks=[Square(num_queries=100)])
    assert "no_gradients" in {finding.check for finding in queried.findings}
    assert queried.verdict == "unreliable"
    assert "attacks that do without are weak" in queried.verdict_reason


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
