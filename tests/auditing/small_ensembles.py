"""A small ensemble, images for it, and audits of the two without the time they took."""

import dataclasses

import torch
from torch import Tensor, nn

from smdguard.attacks import APGD, FGSM, PGD, MemberReweighing
from smdguard.auditing import audit
from smdguard.ensemble import Ensemble
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel

NUM_IMAGES = 520
THREAT = ThreatModel("linf", 0.08)
ATTACKS = [FGSM(), PGD(), APGD(num_steps=5), MemberReweighing(num_steps=5)]


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (NUM_IMAGES,), generator=generator)
    side = torch.where(labels == 0, 1.0, -1.0) * (0.02 + 0.2 * torch.rand(NUM_IMAGES, generator=generator))
    images = torch.full((NUM_IMAGES, 1, 4, 4), 0.5)
    images[..., :2] += side.view(-1, 1, 1, 1)
    images[..., 2:] -= side.view(-1, 1, 1, 1)
    return images, labels


def member(seed: int) -> nn.Module:
    layer = nn.Linear(16, 2)
    half = torch.cat([torch.ones(4, 2), -torch.ones(4, 2)], dim=1).flatten()
    noise = torch.randn(2, 16, generator=torch.Generator().manual_seed(seed))
    layer.weight.data = torch.stack([half, -half]) + noise
    layer.bias.data.zero_()
    return nn.Sequential(nn.Flatten(), layer)


def ensemble(seed: int = 0) -> Ensemble:
    return Ensemble([member(10 * seed + index) for index in range(3)], mean=[0.5], std=[0.5]).eval()


def run(model: object = None, num_images: int = NUM_IMAGES, **options: object) -> AuditReport:
    images, labels = (values[:num_images] for values in data())
    report = audit(model or ensemble(), images, labels, THREAT, **{"attacks": ATTACKS, **options})  # type: ignore[arg-type]
    return dataclasses.replace(report, seconds=0)
