import pytest
import torch
from torch import nn

from handler.backbones import Backbone
from handler.folding import fold_batch_norms
from handler.organism.expression_net import FaceResNet
from handler.values.backbones import BACKBONES


def stir(network: nn.Module) -> nn.Module:
    """Give every norm statistics and factors of its own, as training does."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.6, 1.5)
            nn.init.uniform_(layer.weight, 0.6, 1.4)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize("name", BACKBONES)
def test_a_folded_backbone_has_no_norms_and_the_same_features(name: str) -> None:
    backbone = stir(Backbone(name))
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    with torch.inference_mode():
        expected = backbone(images)
    assert norms(backbone) > 15
    fold_batch_norms(backbone)
    assert norms(backbone) == 0
    with torch.inference_mode():
        found = backbone(images)
    assert expected.std() > 0
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_folded_face_trunk_has_no_norms_and_the_same_features() -> None:
    trunk = stir(FaceResNet(8))
    faces = torch.rand(3, 1, 48, 48)
    with torch.inference_mode():
        expected = trunk(faces)
        fold_batch_norms(trunk)
        assert norms(trunk) == 0
        assert torch.allclose(trunk(faces), expected, rtol=1e-4, atol=1e-5)


def test_norms_of_a_network_in_training_are_left_alone() -> None:
    trunk = FaceResNet(4)
    with pytest.raises(ValueError, match="eval"):
        fold_batch_norms(trunk)
    assert norms(trunk) == 20
