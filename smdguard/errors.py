"""The errors that smdguard raises on purpose; the message says what came in and what to do."""


class SmdguardError(Exception):
    """Anything that smdguard refuses or cannot do."""


class InvalidInputError(SmdguardError, ValueError):
    """An argument, image, label or setting is not what it has to be."""


class ImageError(InvalidInputError):
    """An image cannot be read or is outside the limits."""


class UnknownModelError(SmdguardError, LookupError):
    """No model of that name can be found."""


class IntegrityError(SmdguardError):
    """A file is missing, malformed, or not the one that its checksum names."""


class BackendError(SmdguardError):
    """A back end or a device cannot do what was asked."""
