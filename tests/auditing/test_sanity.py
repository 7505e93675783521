"""Findings on planted outcomes."""

import dataclasses

import torch

from smdguard.attacks import BIM, FGSM, MIM, PGD, RFGSM, Attack, Square, Transfer
from smdguard.auditing.outcomes import Outcome
from smdguard.auditing.sanity import sanity_findings
from smdguard.auditing.statistics import wilson_interval
from tests.auditing.planted_outcomes import outcome

RIGHT = wilson_interval(95, 100)


def findings(*outcomes: Outcome) -> list[tuple[str, str]]:
    return [(finding.check, finding.severity) for finding in sanity_findings(outcomes, RIGHT)]


def test_outcomes_in_order_raise_nothing() -> None:
    surrogate = outcome(Transfer("other", PGD()), 80, access="black-box")
    assert findings(outcome(FGSM(), 100), outcome(BIM(), 40), outcome(PGD(), 38), surrogate) == []


def test_what_is_said_of_an_attack_on_a_single_member_is_true_of_it() -> None:
    member = outcome(Transfer("member 0", PGD()), 40, access="member")
    masked, missed = sanity_findings([outcome(PGD(), 100), member], RIGHT)
    assert "The same attacks crafted elsewhere do better" in masked.message
    assert "PGD crafted on model does not use the whole model's gradients" in missed.message


def test_every_attack_that_its_transferred_version_beats_is_named_with_both_numbers() -> None:
    def both(attack: Attack, direct: int, transferred: int) -> list[Outcome]:
        return [outcome(attack, direct), outcome(Transfer("other", attack), transferred, access="black-box")]

    by_much, by_little = both(FGSM(), 100, 60), both(MIM(), 50, 42)
    by_chance, not_at_all = both(RFGSM(), 50, 47), both(PGD(), 40, 45)
    (finding,) = sanity_findings([*by_much, *by_little, *by_chance, *not_at_all], RIGHT)
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


def test_random_start_that_beats_the_clean_start_is_found() -> None:
    assert findings(outcome(BIM(), 100), outcome(PGD(), 60)) == [("random_start_beats_clean_start", "medium")]
    assert findings(outcome(BIM(num_steps=7), 100), outcome(PGD(), 60)) == []


def test_a_variant_of_bim_is_not_pgd_without_its_start() -> None:
    @dataclasses.dataclass(frozen=True)
    class Variant(BIM):
        decay: float = 0.5

    assert findings(outcome(Variant(), 100), outcome(PGD(), 60)) == []


def test_low_clean_accuracy_is_found() -> None:
    (finding,) = sanity_findings([], wilson_interval(10, 100))
    assert (finding.check, finding.evidence) == ("low_clean_accuracy", {"clean_accuracy": 0.1})
