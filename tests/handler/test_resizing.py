"""Resizing and decoding without torchvision give torchvision's bytes, and do not import it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.models import EfficientNet_B0_Weights
from torchvision.models.resnet import BasicBlock as TheirBlock
from torchvision.transforms.v2 import functional as transforms

from handler.jpeg_decoder import decode_rgb_jpeg
from handler.organism.expression_net import BasicBlock
from handler.resizing import crop_centre, resize, resize_shorter, to_grey
from handler.stimuli.objects.grid import IMAGENET_CATEGORIES

SHAPES = [(3, 400, 500), (3, 37, 911), (1, 301, 299), (3, 224, 224), (3, 1, 7), (3, 1200, 900)]


@pytest.fixture(scope="module", params=SHAPES, ids=str)
def image(request: pytest.FixtureRequest) -> torch.Tensor:
    """A picture of noise."""
    generator = torch.Generator().manual_seed(sum(request.param))
    return torch.randint(0, 256, request.param, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("size", [(224, 224), (256, 256), (448, 560), (50, 3)])
def test_resizing(image: torch.Tensor, size: tuple[int, int]) -> None:
    expected = transforms.resize(image, list(size), antialias=True)
    assert torch.equal(resize(image, size), expected)


def test_resizing_pixels_that_lie_side_by_side(image: torch.Tensor) -> None:
    # As Pillow leaves them: the channels of a pixel together.
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    expected = transforms.resize(interleaved, [96, 96], antialias=True)
    assert torch.equal(resize(interleaved, (96, 96)), expected)


@pytest.mark.parametrize("length", [64, 240])
def test_resizing_the_shorter_side_and_cutting(image: torch.Tensor, length: int) -> None:
    resized = resize_shorter(image, length)
    assert torch.equal(resized, transforms.resize(image, [length], antialias=True))
    side = (length - 9, length - 8)
    assert torch.equal(crop_centre(resized, side), transforms.center_crop(resized, list(side)))


def test_grey(image: torch.Tensor) -> None:
    if image.shape[0] == 3:
        assert torch.equal(to_grey(image), transforms.rgb_to_grayscale(image))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_decoding(photo, encode, mode: str) -> None:
    data = bytearray(encode(photo(3, (333, 222)).convert(mode), "JPEG"))
    encoded = torch.frombuffer(data, dtype=torch.uint8)
    expected = decode_jpeg(encoded, mode=ImageReadMode.RGB)
    assert torch.equal(decode_rgb_jpeg(encoded), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_residual_block(stride: int) -> None:
    def shortcut() -> torch.nn.Module:
        return torch.nn.Conv2d(4, 8, kernel_size=1, stride=stride, bias=False)

    theirs = TheirBlock(4, 8, stride=stride, downsample=shortcut()).eval()
    ours = BasicBlock(4, 8, stride=stride, downsample=shortcut()).eval()
    ours.load_state_dict(theirs.state_dict())
    features = torch.randn(2, 4, 12, 12)
    torch.testing.assert_close(ours(features), theirs(features))


def test_the_names_of_categories() -> None:
    assert list(IMAGENET_CATEGORIES) == EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]


@pytest.mark.integration
def test_a_compiled_archive_is_scored_without_torchvision_and_timm(
    compiled_model: Path, portrait, tmp_path: Path
) -> None:
    portrait.save(tmp_path / "one.jpg")
    code = f"""
import sys
from pathlib import Path
from handler.predictor import Predictor
data = Path({str(tmp_path / "one.jpg")!r}).read_bytes()
answer = Predictor.load({str(compiled_model)!r}).predict([data], explain=True)[0]
print(answer.face_count, [name for name in ("torchvision", "timm") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["1", "[]\n"]
