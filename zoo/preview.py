"""Previews: models whose training was cut far shorter than its recipe says, as their names tell."""

from training.recipes import Recipe, recipe_for

_SUFFIX = "-preview"


def is_preview(name: str) -> bool:
    """Whether the name of a model of the zoo says that it is a preview."""
    return name.endswith(_SUFFIX)


def recipe_of(name: str, num_epochs: int) -> Recipe:
    """The recipe that a model of the zoo was trained with, for as many epochs."""
    return recipe_for(name.removesuffix(_SUFFIX), num_epochs=num_epochs)


def usual_num_epochs(name: str) -> int:
    """How many epochs the recipe of a model of the zoo has when nothing cuts it short."""
    return recipe_for(name.removesuffix(_SUFFIX)).num_epochs
