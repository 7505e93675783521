"""Audits that are cut short go on with what is stored of them, and those that are stopped leave a report."""

import dataclasses
import importlib.util
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, FGSM, PGD, Square, Unsuspicious
from smdguard.auditing import AuditInterrupted, audit, campaign
from smdguard.auditing.batching import Batching
from smdguard.auditing.fingerprint import fingerprint
from smdguard.auditing.partial_results import PartialResults
from smdguard.auditing.probes import SCALE_FREE
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel
from tests.auditing.small_ensembles import THREAT, data, ensemble, member, run

pytestmark = pytest.mark.usefixtures("short_query")


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
    made: list[APGD] = []
    make = APGD.__call__

    def noted(attack: APGD, *arguments: Any, **options: Any) -> Tensor:
        made.append(attack)
        return make(attack, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(APGD, "__call__", noted)
        assert run(store=store, **options) == expected
    # The check on what stands, which was not reached before; not the attack whose results are known.
    assert made == [SCALE_FREE]
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
    store = PartialResults(folder)
    run(store=store)
    finished = {file.name for file in folder.iterdir()}
    assert finished > unfinished
    for name in finished - unfinished:
        (folder / f".{name}.0123456789abcdef").write_bytes(b"killed")
    store.discard()
    assert {file.name for file in folder.iterdir()} == unfinished
    again = PartialResults(folder)
    run(seed=1, store=again)
    again.discard()
    assert not folder.exists()


def test_of_hidden_files_only_what_killed_writes_of_this_audit_left_is_removed(tmp_path: Path) -> None:
    store = PartialResults(tmp_path / "partial")
    store["key"] = b"result"
    killed = store.folder / ".key.0123456789abcdef"
    others = (".other.0123456789abcdef", ".key.swp", ".DS_Store")
    for path in (killed, *(store.folder / name for name in others)):
        path.write_bytes(b"")
    (store.folder / ".ipynb_checkpoints").mkdir()
    store.discard()
    assert {path.name for path in store.folder.iterdir()} == {*others, ".ipynb_checkpoints"}
    assert store.is_empty


def test_what_cannot_be_removed_is_left(tmp_path: Path) -> None:
    store = PartialResults(tmp_path / "partial")
    (store.folder / "key").mkdir(parents=True)
    store["other"] = b"result"
    assert store.get("key", b"none") == b"none"
    store.discard()
    assert [path.name for path in store.folder.iterdir()] == ["key"]
    assert not store.is_empty


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

    monkeypatch.setattr(campaign, "gather_exhibits", stop)
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
            ThreatModel("linf", 0.002),
            attacks=[FGSM()],
            progress=stopping_after(1, KeyboardInterrupt()),
        )
    assert caught.value.report.verdict == "unreliable"
    assert "stopped" in caught.value.report.verdict_reason
