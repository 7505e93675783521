"""ResNet-20 in the form for 32 x 32 images."""

from torch import Tensor, nn
from torch.nn import functional


class ResNet20(nn.Module):
    """Three stages of three residual blocks with 16, 32 and 64 channels; short-cuts without weights (option A).

    269,722 weights for three channels and ten classes.

    Args:
        image_shape: Channels, height and width.
        num_classes: K.

    Reference:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2016, section 4.2.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        self.conv = _convolution(image_shape[0], 16, stride=1)
        self.norm = nn.BatchNorm2d(16)
        widths = [(16, 16, 1), (16, 32, 2), (32, 64, 2)]
        self.stages = nn.Sequential(*(_stage(*width, num_blocks=3) for width in widths))
        self.classifier = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        hidden = self.stages(self.norm(self.conv(images)).relu())
        return self.classifier(hidden.mean(dim=(2, 3)))


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(in_channels, out_channels, stride)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _convolution(out_channels, out_channels, stride=1)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.stride = stride
        self.new_channels = out_channels - in_channels

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.norm1(self.conv1(images)).relu()
        hidden = self.norm2(self.conv2(hidden))
        shortcut = images[:, :, :: self.stride, :: self.stride]
        half = self.new_channels // 2
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, self.new_channels - half))
        return (hidden + shortcut).relu()


def _stage(in_channels: int, out_channels: int, stride: int, *, num_blocks: int) -> nn.Sequential:
    first = _ResidualBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(_ResidualBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1)))


def _convolution(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)
