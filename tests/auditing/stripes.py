"""Models and images of stripes, whose robustness is known."""

import copy
import functools
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from smdguard.attacks import FGSM, MIM, PGD, Attack
from smdguard.auditing import audit
from smdguard.report import AuditReport
from smdguard.threat import ThreatModel

NUM_IMAGES = 300
ATTACKS = [FGSM(), PGD(), MIM()]


class Stripes(nn.Module):
    """Decides whether the left or the right half is brighter: robust up to half the difference of the means."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 2
        left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
        return 20 * torch.stack([left - right, right - left], dim=1)


def stripes_model() -> nn.Module:
    return Stripes().eval()


def stripes(num_images: int = NUM_IMAGES) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and the radius (B,) up to which Stripes holds."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (num_images,), generator=generator)
    contrast = 0.02 + 0.3 * torch.rand(num_images, generator=generator)
    side = torch.where(labels == 0, 1.0, -1.0) * contrast / 2
    images = torch.full((num_images, 1, 6, 6), 0.5)
    images[..., :3] += side.view(-1, 1, 1, 1)
    images[..., 3:] -= side.view(-1, 1, 1, 1)
    return images, labels, contrast / 2


def trained_model(*, adversarial: bool = False, seed: int = 0) -> nn.Module:
    """A small network of one's own that has learned the stripes from noisy images, or from adversarial ones."""
    model = copy.deepcopy(_trained(adversarial=adversarial, seed=seed))
    torch.manual_seed(seed)  # For the defences that draw.
    return model


@functools.cache
def _trained(*, adversarial: bool, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 32), nn.ReLU(), nn.Linear(32, 2))
    images, labels, _ = stripes(2000)
    attack, threat = PGD(num_steps=5, step_ratio=0.4, early_stop=False), ThreatModel(norm="linf", epsilon=0.05)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        shown = (images + 0.1 * torch.randn_like(images)).clamp(0, 1)
        if adversarial:
            shown = attack(model, images, labels, threat, generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(shown), labels).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def run(model: object, epsilon: float = 0.1, attacks: list[Attack] | str = ATTACKS, **options: object) -> AuditReport:  # type: ignore[assignment]
    images, labels, _ = stripes()
    threat = ThreatModel(norm="linf", epsilon=epsilon)
    return audit(model, images, labels, threat, attacks=attacks, **options)  # type: ignore[arg-type]


def checks(report: AuditReport) -> list[str]:
    return [finding.check for finding in report.findings]


class InPlace(nn.Module):
    """Normalises the images where they lie."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images.sub_(0.25).add_(0.25))


@dataclass(frozen=True)
class Wandering:
    """An attack that leaves the ball or the box."""

    offset: float
    name: ClassVar[str] = "Wandering"
    requires: ClassVar[str] = "labels"
    needs_members: ClassVar[bool] = False

    def __call__(self, model: object, images: Tensor, *_: object, **__: object) -> Tensor:
        return images + self.offset
