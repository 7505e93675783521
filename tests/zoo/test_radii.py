"""The radius at which a curve has an accuracy, and the table of these."""

import pytest

from tests.training.finished_runs import finished_run
from training.paper import paper_rows
from zoo.radii import radii_table, radius_of

CURVE = [(0.0, 99.0), (0.1, 59.0), (0.2, 9.0), (0.3, 19.0)]


@pytest.mark.parametrize(
    ("accuracy", "radius"),
    [(79.0, 0.05), (59.0, 0.1), (34.0, 0.15), (14.0, 0.19), (9.0, 0.2), (99.5, 0.0), (8.9, None)],
    ids=["half-way", "at-a-point", "half-way-further-on", "first-of-two", "lowest", "above-clean", "below-all"],
)
def test_radius_is_where_the_curve_first_comes_down_to_the_accuracy(accuracy: float, radius: float | None) -> None:
    assert radius_of(CURVE, accuracy) == pytest.approx(radius)


def test_table_has_the_radius_of_each_attack_that_was_made() -> None:
    runs = [
        # The mean over the seeds comes down from 99 to 0.4 %, linearly.
        finished_run("naive-lenet-mnist", white={"*": 0.008}),
        finished_run("naive-lenet-mnist", seed=1, white={"*": 0.0}),
        finished_run("smd-lenet-mnist", white={"*": 0.5}, black={"naive-lenet-mnist-s1": 0.6}),
    ]
    (naive,) = (row for row in paper_rows() if (row.table, row.statistic, row.kind) == (1, "mean", "naive-lenet-mnist"))
    cells = [f"{0.3 * (99 - naive.accuracy_percent[key]) / (99 - 0.4):.2f}" for key in ("fgsm", "rfgsm", "pgd")]
    lines = radii_table(runs).splitlines()
    assert lines[0] == "| data set | method | members | attacks | FGSM | R-FGSM | PGD | BIM | MIM |"
    assert lines[2].startswith(f"| MNIST | Naive | 3 | white-box | {' | '.join(cells)} | ")
    assert lines[3].startswith("| MNIST | SMD | 3 | white-box | 0.17 | 0.05 | > 0.3 | > 0.3 | > 0.3 |")
    assert lines[4].startswith("| MNIST | SMD | 3 | black-box, crafted on the naive ensemble of another seed | ")
    assert len(lines) == 5
