"""The text of a module of models that tell halves of images apart, and the words that audit one of them."""

QUICK = ("--attacks", "FGSM,BIM,PGD", "--device", "cpu", "--epsilon", "0.08", "--json")
MODULE = """
import os, signal
from torch import nn

CALLS = 0

class Halves(nn.Module):
    def forward(self, images):
        global CALLS
        CALLS += 1
        if CALLS == int(os.environ.get("STOP_AT", 0)):
            os.kill(os.getpid(), int(os.environ["STOP_BY"]))
        half = images.shape[-1] // 2
        left, right = (part.mean(dim=(1, 2, 3)) for part in (images[..., :half], images[..., half:]))
        return 20 * (left - right)[:, None] * images.new_tensor([1, -1])

def make():
    return Halves().eval()

def training():
    return Halves()

def broken():
    raise ValueError("no weights here")

def number():
    return 3

def blind():
    model = make()
    return lambda images: model(images.detach())

def exiting():
    raise SystemExit

def failing():
    model = make()
    def fails_in_the_end(images):
        if CALLS > 20:
            raise ValueError("no more of this\\nsecond line")
        return model(images)
    return fails_in_the_end

def sized():
    model = make()
    def takes_one_size(images):
        assert images.shape[1:] == (1, 8, 12), f"{tuple(images.shape[1:])}, not (1, 8, 12)"
        return model(images)
    return takes_one_size

def wrapped():
    model = make()
    return lambda images: (model(images), None)

def of_digits():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 10)).eval()

def probabilities():
    model = make()
    return lambda images: model(images).softmax(dim=1)
"""


def arguments(name: str = "make", output: str | None = None) -> list[object]:
    return ["audit", "--model", f"halves:{name}", "--data", "images", *QUICK, *(["--output", output] if output else [])]
