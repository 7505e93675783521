"""LeNet-5, the small convolutional network for digits."""

from torch import Tensor, nn
from torch.nn import functional


class LeNet5(nn.Module):
    """Two 5 x 5 convolutions (6 and 16 channels) and three linear layers (120, 84, K).

    61,706 weights for one channel of 28 x 28 pixels and ten classes.

    Args:
        image_shape: Channels, height and width; height and width at least 12.
        num_classes: K.

    Reference:
        LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998, with
        rectifiers and maximum pooling in place of squashing functions and trained averages.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.conv1 = nn.Conv2d(channels, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.fc1 = nn.Linear(16 * _pooled(height) * _pooled(width), 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) -> logits (B, K)."""
        # The rectifier and the maximum commute; in this order the rectifier sees a quarter of the values.
        hidden = functional.max_pool2d(self.conv1(images), 2).relu()
        hidden = functional.max_pool2d(self.conv2(hidden), 2).relu()
        hidden = self.fc1(hidden.flatten(1)).relu()
        hidden = self.fc2(hidden).relu()
        return self.fc3(hidden)


def _pooled(length: int) -> int:
    """Length of a side after both convolutions and both poolings."""
    return (length // 2 - 4) // 2
