"""The curve that an audited model's own is held against."""

import click

from smdguard.companions import read_baseline_audit
from smdguard.errors import IntegrityError
from smdguard.manifest import ModelConfig
from smdguard.render import parse_report
from smdguard.report import Baseline
from smdguard.threat import ThreatModel


def find_baseline(config: ModelConfig, threat: ThreatModel, *, quiet: bool) -> Baseline | None:
    """The curve of an undefended ensemble of the same kind, up to the radius, as the zoo's audit of it has it.

    Where that audit is damaged there is none, with a note unless `quiet`: it is another model's.
    """
    try:
        return _baseline(config, threat)
    except IntegrityError as error:
        if not quiet:
            click.echo(f"no baseline: {error}", err=True)
        return None


def _baseline(config: ModelConfig, threat: ThreatModel) -> Baseline | None:
    found = read_baseline_audit(config)
    if found is None:
        return None
    name, content = found
    audited = parse_report(content, f"the audit of {name}")
    curve = tuple(point for point in audited.whole_curve if point.epsilon <= threat.epsilon)
    if len(curve) < 2 or audited.threat.norm != threat.norm:
        return None
    return Baseline(name, audited.preset, audited.num_images, curve)
