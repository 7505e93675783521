"""Previews: models whose training was cut far shorter than its recipe says, as their names tell."""

from training.recipes import Recipe, recipe_for

_SUFFIX = "-preview"


def is_preview(name: str) -> bool:
    """Whether the name of a model of the zoo says that it is a preview."""
    return name.endswith(_SUFFIX)


def as_preview(name: str) -> str:
    """The name of the preview of a model."""
    return f"{name}{_SUFFIX}"


def usual_recipe(name: str) -> Recipe:
    """The recipe of a model's name: its method, data set and seed, with what they have where nothing else is said."""
    return recipe_for(name.removesuffix(_SUFFIX))
