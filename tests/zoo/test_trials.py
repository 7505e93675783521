"""The table of trials: their figures beside the paper's and the zoo's."""

from dataclasses import replace

from tests.training.finished_runs import finished_run
from training.results import FinishedRun
from zoo.trials import trials_table

ZOO = [
    finished_run("smd-lenet-mnist", num_epochs=20, white={"FGSM": 0.6, "*": 0.1}, worst=0.01),
    finished_run("smd-lenet-mnist-s1", num_epochs=20, white={"FGSM": 0.64, "*": 0.1}, worst=0.03),
    finished_run("naive-lenet-mnist", num_epochs=20),
]


def cells(**trials: list[FinishedRun]) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in trials_table(ZOO, trials).splitlines()[2:]]


def test_trials_stand_beside_the_papers_figures_and_the_zoos_of_the_same_seeds() -> None:
    longer = [finished_run("smd-lenet-mnist", num_epochs=50, white={"FGSM": 0.8, "*": 0.2}, worst=0.0)]
    other = [
        finished_run("smd-lenet-mnist", num_epochs=20, parameters={"saliency": "logit"}, white={"*": 0.3}),
        finished_run("smd-lenet-mnist-s1", num_epochs=20, parameters={"saliency": "logit"}, white={"*": 0.5}),
    ]
    # The sample deviation of two figures is their distance over the root of two.
    both = ["99.0 ± 0.0", "62.0 ± 2.8", *4 * ["10.0 ± 0.0"], "2.0 ± 1.4", "2"]
    assert cells(longer=longer, other=other) == [
        ["MNIST", "SMD", "white-box", "the paper's", "99.3", "70.7", "91.3", "21.4", "34.3", "43.8", "-", "-"],
        ["MNIST", "SMD", "white-box", "longer", "99.0", "80.0", *4 * ["20.0"], "0.0", "1"],
        ["MNIST", "SMD", "white-box", "without it", "99.0", "60.0", *4 * ["10.0"], "1.0", "1"],
        ["MNIST", "SMD", "white-box", "other", "99.0 ± 0.0", *5 * ["40.0 ± 14.1"], "0.0 ± 0.0", "2"],
        ["MNIST", "SMD", "white-box", "without it", *both],
    ]


def test_a_trial_has_lines_for_the_attacks_that_were_made_on_it() -> None:
    longer = finished_run("smd-lenet-mnist", num_epochs=50, black={"naive-lenet-mnist-s1": 0.25})
    black = [line for line in cells(longer=[longer]) if line[2] != "white-box"]
    access = "black-box, crafted on the naive ensemble of another seed"
    assert [line[2:6] for line in black] == [
        [access, "the paper's", "99.3", "38.6"],
        [access, "longer", "99.0", "25.0"],
        [access, "without it", "-", "-"],
    ]


def test_a_trial_of_another_network_stands_beside_the_papers() -> None:
    wide = finished_run("smd-lenet-wide-mnist", num_epochs=20, white={"*": 0.3}, black={"naive-lenet-mnist-s1": 0.4})
    assert [line[3:5] for line in cells(wide=[wide])] == [
        ["the paper's", "99.3"],
        ["wide", "99.0"],
        ["without it", "99.0"],
    ]


def test_a_trial_of_other_attacks_has_no_worst_case() -> None:
    run = finished_run("smd-lenet-mnist", num_epochs=20, white={"*": 0.3}, worst=0.2)
    other = replace(run, report=replace(run.report, preset=None))
    assert [line[-2] for line in cells(other=[other])] == ["-", "-", "1.0"]
    assert [line[-2] for line in cells(other=[run])] == ["-", "20.0", "1.0"]
