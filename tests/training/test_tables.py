"""The tables: the paper's figures are the paper's, marks follow their rule, and a cell shows what its runs say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from smdguard.errors import InvalidInputError
from tests.training.finished_runs import finished_run, write_run
from training.paper import ATTACKS, EPSILON, RADII, deviations_of, paper_rows
from training.results import FinishedRun, Spread, read_runs, require_alike
from training.tables import MARKS, Mark, mark, paper_tables

CELLS = {"clean", *ATTACKS}
GOLDEN = Path(__file__).parents[1] / "golden"


def test_the_paper_has_132_rows_of_means_and_36_of_deviations() -> None:
    assert [sum(row.statistic == kind for row in paper_rows()) for kind in ("mean", "std")] == [132, 36]
    assert len({(row.table, row.dataset, row.method) for row in paper_rows()}) == 168
    assert all(row.accuracy_percent.keys() == CELLS and row.epsilon == 0.3 for row in paper_rows())
    assert EPSILON == 0.3
    assert RADII == (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


@pytest.mark.parametrize(
    ("table", "dataset", "method", "cell", "value"),
    [
        (1, "mnist", "smd-plus", "fgsm", 83.4),
        (1, "cifar10", "naive", "clean", 91.4),
        (2, "mnist", "smd-plus", "fgsm", 42.0),
        (2, "fashion-mnist", "dverge", "pgd", 44.7),
        (3, "mnist", "smd", "bim", 17.4),
        (4, "cifar10", "smd-plus", "pgd", 2.2),
        (5, "mnist", "gal", "fgsm", 81.7),
        (5, "cifar10", "smd-plus", "clean", 90.6),
        (10, "fashion-mnist", "smd-plus", "mim", 52.7),
    ],
)
def test_golden_cells(table: int, dataset: str, method: str, cell: str, value: float) -> None:
    rows = [row for row in paper_rows() if (row.table, row.dataset, row.method) == (table, dataset, method)]
    assert [row.accuracy_percent[cell] for row in rows] == [value]


def test_deviations_are_those_of_the_same_access() -> None:
    for row in paper_rows():
        of_table = {1: 3, 2: 4, 3: 3, 4: 4}.get(row.table)
        expected = [
            other.accuracy_percent
            for other in paper_rows()
            if (other.table, other.dataset, other.method) == (of_table, row.dataset, row.method)
        ]
        assert deviations_of(row) == (expected[0] if expected else None)


@pytest.mark.parametrize(
    ("ours", "paper", "deviation", "expected"),
    [
        # Two of the paper's deviations, both ends included, whatever ours is.
        (Spread(74.0, 9.0), 70.0, 2.0, "="),
        (Spread(66.0, None), 70.0, 2.0, "="),
        (Spread(74.1, 9.0), 70.0, 2.0, "+"),
        (Spread(65.9, 9.0), 70.0, 2.0, "-"),
        # The paper's deviation rounds to zero: the same printed figure, or not.
        (Spread(99.34, None), 99.3, 0.0, "="),
        (Spread(99.36, None), 99.3, 0.0, "+"),
        # None of the paper: two of ours and a point.
        (Spread(75.0, 2.0), 70.0, None, "="),
        (Spread(75.1, 2.0), 70.0, None, "+"),
        (Spread(71.0, None), 70.0, None, "="),
        (Spread(68.9, None), 70.0, None, "-"),
        (None, 70.0, 2.0, "pending"),
    ],
)
def test_marks(ours: Spread | None, paper: float, deviation: float | None, expected: Mark) -> None:
    assert mark(ours, paper, deviation) == expected


@pytest.fixture
def runs() -> list[FinishedRun]:
    """Two seeds of one method, attacked from both surrogates and from one; in between, one seed of another."""
    white = {"FGSM": 0.7, "R-FGSM": 0.9, "PGD": 0.2, "BIM": 0.343, "*": 0.1}
    black = {"naive-lenet-mnist-s1": 0.3, "smd-lenet-mnist-s1": 0.4}
    return [
        finished_run("smd-lenet-mnist", white=white, worst=0.01, black=black, num_epochs=20),
        finished_run(
            "smd-lenet-mnist-s1",
            clean=0.98,
            white=white | {"FGSM": 0.5},
            black={"naive-lenet-mnist": 0.5},
            worst=0.03,
            num_images=10_000,
        ),
        finished_run("naive-lenet-mnist-x5", white={"*": 0.056}, clean=0.994),
    ]


def section(text: str, title: str) -> list[str]:
    """The rows of the table below a heading."""
    _, _, rest = text.partition(f"## {title}\n\n")
    return rest.partition("\n\n")[0].splitlines()


def row_of(lines: list[str], dataset: str, method: str) -> list[str]:
    (cells,) = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith(f"| {dataset} | {method} |")
    )
    return cells[2:]


def test_a_table_in_full(runs: list[FinishedRun]) -> None:
    adversarial = finished_run("naive-lenet-mnist-eat", white={"FGSM": 0.5, "*": 0.25}, worst=0.125, num_epochs=5)
    lines = section(paper_tables([*runs, adversarial]), "Table 9: 3 members, trained adversarially, white-box")
    assert lines == (GOLDEN / "paper_table_9.md").read_text().splitlines()


def test_white_box_cells_are_means_over_the_seeds(runs: list[FinishedRun]) -> None:
    lines = section(paper_tables(runs), "Table 1: 3 members, white-box")
    assert row_of(lines, "MNIST", "SMD") == [
        "`-` 98.5 ± 0.7 (99.3)",
        "`=` 60.0 ± 14.1 (70.7)",
        "`=` 90.0 ± 0.0 (91.3)",
        "`=` 20.0 ± 0.0 (21.4)",
        "`=` 34.3 ± 0.0 (34.3)",
        "`-` 10.0 ± 0.0 (43.8)",
        "2.0 ± 1.4",
        "2",
        "20, 50",
        "1000, 10000",
    ]


def test_the_clean_accuracy_is_that_on_all_test_images(runs: list[FinishedRun]) -> None:
    on_all = runs[0].config.model_copy(update={"clean_accuracy": 0.9931})
    run = replace(runs[0], config=on_all)
    assert row_of(section(paper_tables([run]), "Table 1: 3 members, white-box"), "MNIST", "SMD")[0] == "`=` 99.3 (99.3)"
    # Where a curve begins it is that of the images that were attacked.
    assert run.accuracy("FGSM", "white-box", 0.0) == 0.99


def test_black_box_cells_are_of_the_runs_that_have_the_surrogate(runs: list[FinishedRun]) -> None:
    text, table = paper_tables(runs), "Table 2: 3 members, black-box, crafted on the"
    naive = row_of(section(text, f"{table} naive ensemble of another seed"), "MNIST", "SMD")
    assert naive[0] == "`-` 98.5 ± 0.7 (99.3)"
    assert naive[1] == "`=` 40.0 ± 14.1 (38.6)"
    assert naive[-4:] == ["2.0 ± 1.4", "2", "20, 50", "1000, 10000"]
    own = row_of(section(text, f"{table} same method's ensemble of another seed"), "MNIST", "SMD")
    # The paper's deviation is 0.1.
    assert own[0] == "`-` 99.0 (99.3)"
    assert own[-4:] == ["1.0", "1", "20", "1000"]


def test_other_networks_and_adversaries_have_no_row(runs: list[FinishedRun]) -> None:
    others = [finished_run(name, white={"*": 0.5}) for name in ("smd-lenet-wide-mnist", "smd-lenet-mnist-at")]
    assert paper_tables([*runs, *others]) == paper_tables(runs)


def test_the_overview_counts_every_cell(runs: list[FinishedRun]) -> None:
    text = paper_tables(runs)
    rows = text.partition("| --- | --- | --- | --- | --- |\n")[2].partition("\n\n")[0].splitlines()
    shown = 0
    for title, *counts in (row.strip("| ").split(" | ") for row in rows):
        if f"\n## {title}\n" not in text:
            assert counts[:3] == ["0", "0", "0"]
            continue
        shown += 1
        cells = [cell for line in section(text, title)[2:] for cell in line.split(" | ")[2:8]]
        found = [sum(cell.startswith(f"`{mark}`" if mark != "pending" else mark) for cell in cells) for mark in MARKS]
        assert [int(count) for count in counts] == found
        assert sum(found) == len(cells) == 6 * (len(section(text, title)) - 2)
    assert (len(rows), shown) == (12, 4)


def test_runs_are_read_as_they_were_left(runs: list[FinishedRun], tmp_path: Path) -> None:
    for run in runs:
        write_run(run, tmp_path)
    (tmp_path / "unfinished").mkdir()
    assert sorted(read_runs([tmp_path]), key=lambda run: run.recipe.name) == sorted(
        runs, key=lambda run: run.recipe.name
    )


def test_runs_that_were_trained_otherwise_are_not_mixed(tmp_path: Path) -> None:
    write_run(finished_run("smd-lenet-mnist", num_epochs=50), tmp_path)
    write_run(finished_run("smd-lenet-mnist-s1", num_epochs=2), tmp_path)
    write_run(finished_run("naive-lenet-mnist-s1", learning_rate_schedule="one-cycle"), tmp_path)
    assert len(read_runs([tmp_path])) == 3
    write_run(
        finished_run("smd-lenet-mnist-s2", learning_rate_schedule="one-cycle", parameters={"weight": 2}), tmp_path
    )
    changed = r"parameters.weight \S+ -> 2.0, learning_rate_schedule constant -> one-cycle"
    with pytest.raises(
        InvalidInputError, match=f"smd-lenet-mnist and smd-lenet-mnist-s2 were trained differently .{changed}"
    ):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "changes", "difference"),
    [
        ("smd-lenet-mnist", {"init": "naive"}, "init scratch -> naive-s1"),
        ("smd-plus-lenet-mnist", {"init": "scratch"}, "init naive-s0 -> scratch"),
        ("smd-lenet-mnist-eat", {"holdouts": ("a@1", "b@2")}, r"holdouts \('naive-s101', .*\) -> \('a@1', 'b@2'\)"),
    ],
)
def test_runs_that_started_otherwise_or_had_other_holdouts_are_not_mixed(
    name: str, changes: dict[str, Any], difference: str
) -> None:
    first, second = finished_run(name), finished_run(f"{name}-s1")
    require_alike([first, second])
    with pytest.raises(InvalidInputError, match=rf"{name} and {name}-s1 were trained differently \({difference}\)"):
        require_alike([first, finished_run(f"{name}-s1", **changes)])


def test_what_is_no_run_is_refused(runs: list[FinishedRun], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write_run(runs[0], tmp_path / folder)
    with pytest.raises(InvalidInputError, match="is a second smd-lenet-mnist"):
        read_runs([tmp_path / "one", tmp_path / "two"])
    write_run(replace(runs[0], report=replace(runs[0].report, preset="quick")), tmp_path / "one")
    with pytest.raises(InvalidInputError, match="was not audited with the preset paper"):
        read_runs([tmp_path / "one"])
    (tmp_path / "two" / "smd-lenet-mnist" / "recipe.json").unlink()
    with pytest.raises(InvalidInputError, match=r"has an audit but no recipe\.json"):
        read_runs([tmp_path / "two"])
