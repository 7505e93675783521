"""Reports as JSON, and back."""

from pydantic import TypeAdapter, ValidationError

from smdguard.errors import IntegrityError
from smdguard.report import SCHEMA_VERSION, AuditReport

_REPORT = TypeAdapter(AuditReport)


def json(report: AuditReport) -> str:
    """The report as one JSON document."""
    return _REPORT.dump_json(report, indent=2).decode()


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
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise IntegrityError(f"{source} is not an audit report: {where}: {first['msg']}") from error
    if report.schema_version != SCHEMA_VERSION:
        raise IntegrityError(
            f"{source} is a report of schema version {report.schema_version}; this version reads {SCHEMA_VERSION}"
        )
    return report
