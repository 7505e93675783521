"""Options of the form NAME=VALUE that can be given several times, such as --parameter weight=2."""

import click


def named_values(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """What was given as a mapping, for click's `callback`.

    Raises:
        BadParameter: Something has no "=".
    """
    for parameter in given:
        if "=" not in parameter:
            raise click.BadParameter(f"{parameter!r} is not of the form NAME=VALUE")
    return dict(parameter.split("=", 1) for parameter in given)
