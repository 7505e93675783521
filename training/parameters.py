"""The settings of a method or adversary: those given, checked, and the original authors' for the rest."""

from dataclasses import asdict, fields

from pydantic import TypeAdapter, ValidationError

from smdguard.datasets import Dataset
from smdguard.errors import InvalidInputError
from training.objectives import ADVERSARIES, OBJECTIVES

Settings = dict[str, float | int | str | bool]
DISTILLING = ("dverge", "smd-plus")
# They train the members' input gradients, which takes second derivatives.
OF_SECOND_ORDER = ("gal", "smd", "smd-plus")


def complete(name: str, dataset: Dataset, given: Settings) -> Settings:
    """All parameters of a method or adversary.

    Args:
        name: One of OBJECTIVES or ADVERSARIES.
        dataset: What it is used on, which decides some of them.
        given: Those that are not to be the original authors'.

    Raises:
        InvalidInputError: It has no such parameter, or the value is not one for it.
    """
    kind = (OBJECTIVES | ADVERSARIES)[name]
    known = [field.name for field in fields(kind)]
    unknown = [parameter for parameter in given if parameter not in known]
    if unknown:
        raise InvalidInputError(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    try:
        return asdict(TypeAdapter(kind).validate_python(_that_depend_on(dataset, name) | given))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise InvalidInputError(f"{name}: {first['loc'][0]}: {first['msg']}, not {first['input']!r}") from error


def _that_depend_on(dataset: Dataset, name: str) -> Settings:
    if name in DISTILLING:
        return {"epsilon": 0.07 if shows_photographs(dataset) else 0.35}
    return {"epsilon": dataset.epsilon} if name == "pgd" else {}


def shows_photographs(dataset: Dataset) -> bool:
    """Whether the images have colours, as opposed to drawings in grey."""
    return dataset.image_shape[0] == 3
