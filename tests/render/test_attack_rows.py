"""What the rows of the attack tables are called."""

import dataclasses

from smdguard.attacks import APGD, PGD, Attack, MemberReweighing, Square
from smdguard.render.attack_rows import attack_rows, nothing_left
from smdguard.report import AuditReport, CurvePoint, Interval
from smdguard.threat import ThreatModel


def with_attacks(report: AuditReport, *attacks: Attack, num_attacked: int = 1000) -> AuditReport:
    template = report.attacks[0]
    results = [
        dataclasses.replace(
            template, name=one.name, repr=repr(one), access="white-box", source="m", num_attacked=num_attacked
        )
        for one in attacks
    ]
    return dataclasses.replace(report, attacks=(*results,))


def headings(report: AuditReport) -> list[str]:
    return [row.heading for row in attack_rows(report)]


def test_attacks_of_one_name_are_told_apart_by_what_differs(bare: AuditReport) -> None:
    attacks = PGD(), PGD(num_steps=100, num_restarts=5), PGD(loss="cw", num_steps=100, num_restarts=5), APGD()
    assert headings(with_attacks(bare, *attacks)) == [
        "PGD, loss ce, num_steps 10, num_restarts 1",
        "PGD, loss ce, num_steps 100, num_restarts 5",
        "PGD, loss cw, num_steps 100, num_restarts 5",
        "APGD-CE",
    ]


def test_settings_of_several_numbers_tell_attacks_apart(bare: AuditReport) -> None:
    half, whole = MemberReweighing(member_shares=(0.5,)), MemberReweighing(member_shares=(0.25, 1.0))
    assert headings(with_attacks(bare, half, whole)) == [
        "MORA, member_shares (0.5,)",
        "MORA, member_shares (0.25, 1.0)",
    ]


def test_an_attack_that_nothing_was_left_for_is_no_row(bare: AuditReport) -> None:
    assert headings(with_attacks(bare, APGD(), num_attacked=3)) == ["APGD-CE on the 3 still standing"]
    assert headings(with_attacks(bare, APGD(), num_attacked=0)) == []


def test_attacks_that_nothing_was_left_for_are_told_once_each(bare: AuditReport) -> None:
    made = with_attacks(bare, PGD())
    idle = with_attacks(bare, APGD(), PGD(num_steps=50), PGD(num_steps=100), Square(), num_attacked=0)
    assert nothing_left(made) == ""
    report = dataclasses.replace(bare, attacks=(*made.attacks, *idle.attacks))
    assert headings(report) == ["PGD"]
    assert nothing_left(report) == "Nothing was left to attack for APGD-CE, other runs of PGD and Square."
    # At a radius that has no table it is no news.
    assert nothing_left(dataclasses.replace(report, threat=ThreatModel("linf", 0.3))) == ""


def test_what_fell_at_a_smaller_radius_is_a_row(bare: AuditReport) -> None:
    curve = tuple(CurvePoint(epsilon, Interval(0.5 - epsilon, 0.0, 1.0)) for epsilon in (0.05, 0.1, 0.2))
    row = attack_rows(dataclasses.replace(bare, curve=curve))[-1]
    assert (row.heading, row.cells[0]) == ("all attacks up to 0.1", curve[1].robust_accuracy)
