"""The named sets of attacks."""

import inspect
import subprocess
import sys
from typing import Any, get_args

from smdguard.attacks import (
    APGD,
    BIM,
    FAB,
    FGSM,
    MIM,
    PGD,
    RFGSM,
    Attack,
    MemberReweighing,
    Square,
    TargetedAPGD,
)
from smdguard.auditing import PRESETS, PresetName, audit
from smdguard.auditing.duration import calls_at_most
from smdguard.auditing.presets import Preset, has_long_query


def test_every_name_is_a_preset_and_the_default_is_standard() -> None:
    assert tuple(PRESETS) == get_args(PresetName)
    assert inspect.signature(audit).parameters["attacks"].default == "standard"


def test_long_queries_are_1000_and_more() -> None:
    assert [name for name in PRESETS if has_long_query(PRESETS[name]())] == ["standard", "full"]
    assert not has_long_query(Preset((Square(num_queries=999),)))
    assert has_long_query(Preset((Square(num_queries=1000),)))


def test_names_are_to_be_had_without_torch() -> None:
    code = "import sys; from smdguard.auditing import PresetName; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_paper_holds_the_papers_five_attacks_with_its_settings() -> None:
    # The last iterate of every image; step_ratio and random_ratio are shares of epsilon.
    plain: dict[str, Any] = {"loss": "ce", "targeted": False, "early_stop": False}
    ten_steps: dict[str, Any] = {**plain, "num_steps": 10, "step_ratio": 0.1}
    fgsm, rfgsm = FGSM(**plain), RFGSM(**plain, random_ratio=0.5)
    pgd, bim, mim = PGD(**ten_steps, num_restarts=1), BIM(**ten_steps), MIM(**ten_steps, decay=1.0)
    expected = Preset((fgsm, rfgsm, pgd, bim, mim), pursuits=(), on_members=(pgd, fgsm, rfgsm, bim, mim))
    assert PRESETS["paper"]() == expected


def test_full_holds_autoattacks_standard_set_and_all_of_standard() -> None:
    pursuits = PRESETS["full"]().pursuits
    # Croce and Hein, 2020: 100 steps, nine target classes, 5,000 queries.
    autoattack: list[Attack] = [
        APGD(num_steps=100),
        TargetedAPGD(num_steps=100, num_target_classes=9),
        FAB(num_steps=100, num_target_classes=9),
        Square(num_queries=5000),
    ]
    assert set(autoattack) <= set(pursuits)
    assert PRESETS["full"]().attacks == PRESETS["standard"]().attacks
    stronger = {attack for attack in PRESETS["standard"]().pursuits if not isinstance(attack, Square)}
    assert stronger | {MemberReweighing(), APGD(loss="cw")} <= set(pursuits)
    assert {attack.loss for attack in pursuits if isinstance(attack, PGD)} == {"ce", "cw"}


def test_full_begins_with_what_costs_least() -> None:
    calls = [calls_at_most(attack) for attack in PRESETS["full"]().pursuits]
    costs = [one.for_gradient + one.for_output for one in calls if one is not None]
    assert costs == sorted(costs)
    assert len(costs) == len(calls)
