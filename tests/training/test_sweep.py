"""Sweeps: the order, what is shared, what is isolated, and that they go on where they were stopped."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from smdguard import render
from smdguard.auditing import partial_results
from smdguard.datasets import LabelledImages
from smdguard.errors import BackendError, InvalidInputError
from smdguard.files import write_atomically
from smdguard.manifest import serialise
from smdguard.model_folder import AUDIT, CONFIG, WEIGHTS
from smdguard.report import AuditReport
from tests.training.finished_runs import config_of, finished_run
from tests.training.trainings import SHORT, plan
from training import audits, sweep
from training.audits import sources_of
from training.checkpoint import FILE_NAME
from training.data import TrainingData
from training.paper import ATTACKS, EPSILON
from training.recipes import RECIPE, Recipe, recipe_for
from training.start import claim
from training.sweep import Summary, Sweep

TWO = [recipe_for(f"{method}-lenet-mnist", **SHORT) for method in ("naive", "smd")]
NAIVE, SMD = (recipe.name for recipe in TWO)


class Listener:
    """Notes what it hears, and may do something at a milestone."""

    def __init__(self, at: Callable[[str], None] = lambda _: None) -> None:
        self.milestones: list[str] = []
        self.news: list[str] = []
        self._at = at

    def follow(self, line: str, *, is_milestone: bool) -> None:
        if is_milestone:
            self.milestones.append(line)
        self._at(line)

    def hear(self, line: str) -> None:
        self.news.append(line)


@pytest.fixture(scope="module", autouse=True)
def _little_to_do(data: TrainingData) -> Any:
    """Ten test images of five classes, and attacks at one radius."""
    few = data._replace(test=LabelledImages(data.test.images[:10], torch.arange(10) // 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "load_training_data", lambda *_, **__: few)
        patch.setattr(audits, "RADII", (EPSILON,))  # The others take as long each, and show no more.
        yield


def swept(folder: Path, wanted: list[Recipe] = TWO, audience: Listener | None = None, **settings: Any) -> Summary:
    return Sweep(wanted, folder, Path("data"), audience or Listener(), device="cpu", **settings).run()


def report_in(folder: Path) -> AuditReport:
    return render.parse_report((folder / AUDIT).read_bytes(), str(folder))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs, trained and audited without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    assert swept(folder) == Summary(2, 2, 2, 2, {}, time_is_up=False)
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    for name in (NAIVE, SMD):
        assert (folder / name / WEIGHTS).read_bytes() == (whole / name / WEIGHTS).read_bytes()
        assert report_in(folder / name).attacks == report_in(whole / name).attacks
        assert not (folder / name / audits.PARTIAL).exists()


def test_each_run_is_audited_as_the_papers(whole: Path) -> None:
    for name in (NAIVE, SMD):
        report = report_in(whole / name)
        made = {(result.name, result.epsilon) for result in report.attacks if result.access == "white-box"}
        assert made == {(attack, EPSILON) for attack in ATTACKS.values()}
        assert [point.epsilon for point in report.curve] == [EPSILON]
        assert (report.preset, report.num_images, sources_of(report)) == ("paper", 10, set())
        assert report.suspicion is not None
        assert all("early_stop=False" in result.repr for result in report.attacks if result.access == "white-box")


def test_each_run_is_watched_on_held_out_images(whole: Path) -> None:
    for name in (NAIVE, SMD):
        epochs = list(map(json.loads, (whole / name / "metrics.jsonl").read_text().splitlines()))
        assert [epoch["epoch"] for epoch in epochs] == [1, 2]
        watched = {"saliency_cosine", "held_out_accuracy", "held_out_pgd10_accuracy_at_0.3"}
        assert all(watched < epoch.keys() for epoch in epochs)


def test_a_stopped_sweep_goes_on_and_ends_with_the_same_bits(whole: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if line.startswith(f"{SMD}: epoch 2 of 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path, audience=Listener(stop))
    assert not (tmp_path / SMD / AUDIT).exists()
    audience = Listener()
    assert swept(tmp_path, audience=audience).failures == {}
    assert_same(tmp_path, whole)
    # Not a word about what had been done before.
    assert [line for line in audience.milestones if line.startswith(NAIVE)] == []


def test_a_resumed_audit_keeps_what_it_has(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[Path] = []
    write = partial_results.write_atomically

    def noted(path: Path, content: bytes) -> None:
        writes.append(path)
        write(path, content)

    monkeypatch.setattr(partial_results, "write_atomically", noted)

    def stop(line: str) -> None:
        if f"{NAIVE}: audit, 3 of" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path, TWO[:1], Listener(stop))
    before = len(writes)
    swept(tmp_path, TWO[:1])
    assert report_in(tmp_path / NAIVE).attacks == report_in(whole / NAIVE).attacks
    # Each shard once.
    assert before == 3
    assert len(writes) == len(set(writes)) > 8


def test_the_time_limit_lets_the_epoch_under_way_end(whole: Path, tmp_path: Path) -> None:
    now = 0.0

    def pass_time(line: str) -> None:
        nonlocal now
        if line.startswith(f"{SMD}: epoch 1 of 2"):
            now = 100.0

    first = swept(tmp_path, audience=Listener(pass_time), time_limit=60.0, clock=lambda: now)
    assert first == Summary(1, 2, 1, 2, {}, time_is_up=True)
    assert (tmp_path / SMD / "metrics.jsonl").read_text().count("\n") == 1
    assert (tmp_path / SMD / FILE_NAME).exists()
    second = Listener()
    assert not swept(tmp_path, audience=second).time_is_up
    assert [line.split("  ")[0] for line in second.milestones] == [f"{SMD}: epoch 2 of 2"]
    assert_same(tmp_path, whole)


def test_what_several_runs_need_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, dict[str, Path]]] = []
    train = sweep.train

    def spy(recipe: Recipe, data: TrainingData, folder: Path, **settings: Any) -> Any:
        trained.append((folder.name, dict(settings["origins"])))
        return train(recipe, data, folder, **settings)

    monkeypatch.setattr(sweep, "train", spy)
    monkeypatch.setattr(sweep, "audit_run", _made_up_audit)
    short = {**SHORT, "num_epochs": 1, "parameters": {"num_steps": 1}}
    wanted = [recipe_for(f"{method}-lenet-mnist", **short) for method in ("dverge", "smd-plus")]
    assert swept(tmp_path, wanted) == Summary(3, 3, 2, 2, {}, time_is_up=False)
    origins = {"naive-s0": tmp_path / "naive-lenet-mnist-x2"}
    assert trained == [
        ("naive-lenet-mnist-x2", {}),
        ("dverge-lenet-mnist-x2", origins),
        ("smd-plus-lenet-mnist-x2", origins),
    ]
    # It was needed, not asked for.
    assert not (tmp_path / "naive-lenet-mnist-x2" / AUDIT).exists()


class MadeUp:
    """Trainings and audits that take no time; those that are named fail so many times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: dict[str, int] | None = None) -> None:
        self.calls: list[str] = []
        self._failing = dict(failing or {})
        monkeypatch.setattr(sweep, "train", self._train)
        monkeypatch.setattr(sweep, "audit_run", self._audit)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if self._failing.get(call, 0) > 0:
            self._failing[call] -= 1
            raise RuntimeError("the term cross_entropy became nan\nand so on")  # As PyTorch words them.

    def _train(self, recipe: Recipe, data: TrainingData, folder: Path, **_: Any) -> Any:
        if not (folder / CONFIG).exists():
            self._note(f"train {folder.name}")
            claim(folder, recipe)
            write_atomically(folder / CONFIG, serialise(config_of(recipe)))
        return config_of(recipe)

    def _audit(self, folder: Path, surrogates: dict[str, Path], *rest: Any, **settings: Any) -> AuditReport:
        self._note(" ".join(["audit", folder.name, *surrogates]))
        return _made_up_audit(folder, surrogates, *rest, **settings)


def _made_up_audit(folder: Path, surrogates: dict[str, Path], images: Any, **_: Any) -> AuditReport:
    run = finished_run(folder.name, black=dict.fromkeys(surrogates, 0.1), num_images=len(images.images))
    write_atomically(folder / AUDIT, render.serialise(run.report))
    return run.report


def test_a_run_that_fails_twice_is_reported_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, {"train naive-lenet-mnist": 2})
    audience = Listener()
    summary = swept(tmp_path, plan(methods=["dverge", "smd"]), audience)
    assert made_up.calls == ["train naive-lenet-mnist"] * 2 + ["train smd-lenet-mnist", "audit smd-lenet-mnist"]
    assert summary == Summary(
        num_trained=1,
        num_runs=3,
        num_audited=1,
        num_wanted=2,
        failures={
            "naive-lenet-mnist": "training: the term cross_entropy became nan",
            "dverge-lenet-mnist": "training: it needs naive-lenet-mnist, which failed",
        },
        time_is_up=False,
    )
    reason = "naive-lenet-mnist: the training failed: the term cross_entropy became nan"
    assert audience.news[:2] == [f"{reason}; it is tried once more", reason]


@pytest.mark.parametrize("call", ["train smd-lenet-mnist", "audit smd-lenet-mnist"])
def test_what_fails_once_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    made_up = MadeUp(monkeypatch, {call: 1})
    assert swept(tmp_path, plan(methods=["smd"])) == Summary(1, 1, 1, 1, {}, time_is_up=False)
    assert made_up.calls.count(call) == 2


def test_an_audit_that_failed_once_is_made_again_when_its_surrogates_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up = MadeUp(monkeypatch, {"audit naive-lenet-mnist": 1})
    summary = swept(tmp_path, plan(methods=["naive"], seeds=[0, 1]))
    assert made_up.calls.count("audit naive-lenet-mnist") == 2
    assert made_up.calls.count("audit naive-lenet-mnist naive-lenet-mnist-s1") == 1
    assert summary == Summary(2, 2, 2, 2, {}, time_is_up=False)


def test_time_that_is_up_in_a_second_attempt_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def fail_and_then_take_long(*_: Any, report: Callable[..., None], **__: Any) -> None:
        nonlocal now
        now += 50.0
        if now < 100.0:
            raise RuntimeError("no memory left")
        report(0, 1, 1, {})

    monkeypatch.setattr(sweep, "train", fail_and_then_take_long)
    summary = swept(tmp_path, TWO[:1], time_limit=75.0, clock=lambda: now)
    assert summary == Summary(0, 1, 0, 1, {}, time_is_up=True)


def test_an_audit_is_made_again_when_its_surrogates_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch)
    naive, smd = "naive-lenet-mnist", "smd-lenet-mnist"
    swept(tmp_path, plan(methods=["naive", "smd"]))
    assert made_up.calls == [f"train {naive}", f"audit {naive}", f"train {smd}", f"audit {smd}"]
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["naive", "smd"], seeds=[0, 1]))
    assert made_up.calls == [
        f"train {naive}-s1",
        f"audit {naive} {naive}-s1",
        f"audit {naive}-s1 {naive}",
        f"train {smd}-s1",
        # Once, with both: not before the second was trained.
        f"audit {smd} {naive}-s1 {smd}-s1",
        f"audit {smd}-s1 {naive} {smd}",
    ]
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["naive", "smd"], seeds=[0, 1]))
    assert made_up.calls == []
    swept(tmp_path, plan(methods=["naive"]), num_audit_images=5)
    assert made_up.calls == [f"audit {naive} {naive}-s1"]


@pytest.mark.parametrize(
    ("changes", "used"),
    [({}, True), ({"num_epochs": 3}, False), ({"parameters": {"weight": 2.0}}, False), (None, False)],
)
def test_a_surrogate_of_another_way_to_train_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any] | None, used: bool
) -> None:
    """Another sweep has left it, or it is damaged. Models of the zoo have no recipe beside them, and serve as well."""
    made_up = MadeUp(monkeypatch)
    swept(tmp_path, plan(methods=["smd"], seeds=[1], **changes or {}))
    (tmp_path / "smd-lenet-mnist-s1" / RECIPE).unlink()
    if changes is None:
        (tmp_path / "smd-lenet-mnist-s1" / CONFIG).write_text("{}")
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["smd"], seeds=[0]))
    audit = "audit smd-lenet-mnist smd-lenet-mnist-s1" if used else "audit smd-lenet-mnist"
    assert made_up.calls == ["train smd-lenet-mnist", audit]


def test_a_surrogate_that_no_recipe_describes_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch)
    swept(tmp_path, plan(methods=["smd"], seeds=[1]))
    file = tmp_path / "smd-lenet-mnist-s1" / CONFIG
    config = json.loads(file.read_bytes())
    config["training"]["learning_rate_schedule"] = "cosine"
    file.write_text(json.dumps(config))
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["smd"], seeds=[0]))
    assert made_up.calls == ["train smd-lenet-mnist", "audit smd-lenet-mnist"]


def test_what_an_earlier_sweep_has_finished_counts_when_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MadeUp(monkeypatch)
    methods = ["naive", "smd"]
    swept(tmp_path, plan(methods=methods))
    assert swept(tmp_path, plan(methods=methods), time_limit=0.0) == Summary(2, 2, 2, 2, {}, time_is_up=True)
    # Both of seed 0 are there, and neither of seed 1.
    later = swept(tmp_path, plan(methods=methods, seeds=[0, 1]), time_limit=0.0)
    assert later == Summary(2, 4, 2, 4, {}, time_is_up=True)


def test_an_audit_that_cannot_be_read_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch)
    swept(tmp_path, plan(methods=["naive"]), num_audit_images=5)
    (naive,) = {call.split()[1] for call in made_up.calls if call.startswith("audit")}
    (tmp_path / naive / "audit.json").write_text("{}")
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["naive"]), num_audit_images=5)
    assert [call.split()[:2] for call in made_up.calls] == [["audit", naive]]


def test_an_audit_of_another_preset_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up = MadeUp(monkeypatch)
    swept(tmp_path, plan(methods=["naive"]), num_audit_images=5)
    (audit,) = tmp_path.glob("*/audit.json")
    write_atomically(audit, render.serialise(replace(render.read_report(audit), preset="quick")))
    made_up.calls.clear()
    swept(tmp_path, plan(methods=["naive"]), num_audit_images=5)
    assert [call.split()[:2] for call in made_up.calls] == [["audit", audit.parent.name]]


def test_a_folder_that_cannot_be_is_a_failure(tmp_path: Path) -> None:
    summary = swept(tmp_path / ("a" * 300), [TWO[0]])
    assert (summary.num_trained, summary.num_audited) == (0, 0)
    assert summary.failures[NAIVE].endswith(f"a/{NAIVE}/recipe.json cannot be written: File name too long")


def test_another_recipe_in_the_folder_is_a_failure(whole: Path) -> None:
    longer = TWO[0].model_copy(update={"num_epochs": 3})
    failures = swept(whole, [longer]).failures
    assert list(failures) == [NAIVE]
    assert "holds a training of another recipe: num_epochs 2 -> 3" in failures[NAIVE]


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"device": "cuda"}, BackendError, "no usable CUDA GPU"),
        ({"num_audit_images": 7}, InvalidInputError, "7 images cannot"),
    ],
)
def test_what_no_run_can_do_without_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], kind: type[Exception], message: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(kind, match=message):
        Sweep(TWO, tmp_path, Path("data"), Listener(), **settings).run()
    assert list(tmp_path.iterdir()) == []
