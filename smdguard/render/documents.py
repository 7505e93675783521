"""Reports as JSON, and back."""

from json import dumps, loads
from pathlib import Path

from pydantic import TypeAdapter, ValidationError, with_config

from smdguard.errors import IntegrityError
from smdguard.files import MAX_TEXT_BYTES, read
from smdguard.manifest import first_fault
from smdguard.report import SCHEMA_VERSION, AuditReport

_REPORT = TypeAdapter(with_config(allow_inf_nan=False)(AuditReport))


def json(report: AuditReport) -> str:
    """The report as one JSON document, in ASCII: a terminal obeys some other letters instead of showing them."""
    return dumps(loads(_REPORT.dump_json(report)), indent=2)


def serialise(report: AuditReport) -> bytes:
    """The report as a file holds it."""
    return json(report).encode() + b"\n"


def read_report(path: Path, *, hint: str = "") -> AuditReport:
    """The report in a file.

    Args:
        path: The file.
        hint: What the message ends with when the file cannot be read.

    Raises:
        IntegrityError: The file cannot be read, has more than `MAX_TEXT_BYTES`, or holds no report of this version.
    """
    content = read(path, error=IntegrityError, limit=MAX_TEXT_BYTES, hint=hint)
    return parse_report(content, str(path))


def parse_report(content: bytes, source: str) -> AuditReport:
    """The report that a JSON document holds.

    Args:
        content: The document.
        source: What errors call it.

    Raises:
        IntegrityError: It is no report, or of another version.
    """
    try:
        report = _REPORT.validate_json(content)
    except ValidationError as error:
        raise IntegrityError(f"{source} is not an audit report: {first_fault(error)}") from error
    if report.schema_version != SCHEMA_VERSION:
        raise IntegrityError(
            f"{source} is a report of schema version {report.schema_version}; this version reads {SCHEMA_VERSION}"
        )
    return report
