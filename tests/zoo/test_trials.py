"""The table of trials: what they were trained with otherwise, and their figures below the paper's and the zoo's."""

from tests.training.finished_runs import finished_run
from training.results import FinishedRun
from zoo.trials import trials_table

ZOO = [
    finished_run("smd-lenet-mnist", num_epochs=20, white={"FGSM": 0.6, "*": 0.1}, worst=0.01),
    finished_run("smd-lenet-mnist-s1", num_epochs=20, white={"FGSM": 0.64, "*": 0.1}, worst=0.03),
    finished_run("naive-lenet-mnist", num_epochs=20),
]


def cells(trials: list[list[FinishedRun]]) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in trials_table(ZOO, trials).splitlines()[2:]]


def test_a_trial_stands_below_the_papers_figures_and_the_zoos() -> None:
    longer = [finished_run("smd-lenet-mnist", num_epochs=50, white={"FGSM": 0.8, "*": 0.2}, worst=0.0)]
    other = [
        finished_run("smd-lenet-mnist", num_epochs=20, parameters={"saliency": "logit"}, white={"*": 0.3}),
        finished_run("smd-lenet-mnist-s1", num_epochs=20, parameters={"saliency": "logit"}, white={"*": 0.5}),
    ]
    beginning = ["MNIST", "SMD", "white-box"]
    # The sample deviation of two figures is their distance over the root of two.
    assert cells([longer, other]) == [
        [*beginning, "the paper's", "99.3", "70.7", "91.3", "21.4", "34.3", "43.8", "-", "-"],
        [
            *[*beginning, "as in the zoo", "99.0 ± 0.0", "62.0 ± 2.8", "10.0 ± 0.0", "10.0 ± 0.0", "10.0 ± 0.0"],
            *["10.0 ± 0.0", "2.0 ± 1.4", "2"],
        ],
        [*beginning, "num_epochs 20 -> 50", "99.0", "80.0", "20.0", "20.0", "20.0", "20.0", "0.0", "1"],
        [
            *[*beginning, "saliency probability -> logit", "99.0 ± 0.0", "40.0 ± 14.1", "40.0 ± 14.1", "40.0 ± 14.1"],
            *["40.0 ± 14.1", "40.0 ± 14.1", "0.0 ± 0.0", "2"],
        ],
    ]


def test_a_trial_has_lines_for_the_attacks_that_were_made_on_it() -> None:
    longer = finished_run("smd-lenet-mnist", num_epochs=50, black={"naive-lenet-mnist-s1": 0.25})
    black = [line for line in cells([[longer]]) if line[2] != "white-box"]
    assert [line[2:6] for line in black] == [
        ["black-box, made on the naive ensemble of another seed", "the paper's", "99.3", "38.6"],
        ["black-box, made on the naive ensemble of another seed", "as in the zoo", "-", "-"],
        ["black-box, made on the naive ensemble of another seed", "num_epochs 20 -> 50", "99.0", "25.0"],
    ]


def test_ensembles_to_start_from_are_no_difference() -> None:
    trial = finished_run("smd-lenet-mnist", num_epochs=20, init="naive-s0", batch_size=64)
    assert cells([[trial]])[-1][3] == "batch_size 128 -> 64"
