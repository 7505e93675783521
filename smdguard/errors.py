"""What smdguard raises and warns of on purpose; the message says what came in and what to do."""


def printable(text: str) -> str:
    """The text on one line, with a question mark for each letter that a terminal would obey instead of showing."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class SmdguardError(Exception):
    """Anything that smdguard refuses or cannot do; as a text one printable line, whatever names came in."""

    def __str__(self) -> str:
        return printable(super().__str__())


class InvalidInputError(SmdguardError, ValueError):
    """An argument, image, label or setting is not what it has to be."""


class ImageError(InvalidInputError):
    """An image cannot be read or is outside the limits."""


class UnknownModelError(SmdguardError, LookupError):
    """No model of that name can be found."""


class IntegrityError(SmdguardError):
    """A file is missing, malformed, or not the one that its checksum names."""


class HubError(SmdguardError):
    """The Hugging Face Hub cannot be reached, or does not answer as it should."""


class BackendError(SmdguardError):
    """A back end or a device cannot do what was asked."""


class UnpinnedRevisionWarning(UserWarning):
    """A model is loaded from a branch or tag, which may stand for other files tomorrow."""
