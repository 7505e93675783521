"""Other libraries' logs, while they do what they need not tell of."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_alone(logger_name: str) -> Iterator[None]:
    """Let a logger tell of errors alone; afterwards it is as it was."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
