"""Expression-Net: zero without a face, and a faceless image leaves no trace (Eq. 11)."""

from __future__ import annotations

import copy

import torch

from handler.organism.expression_net import ExpressionNet


def make(width: int = 4) -> ExpressionNet:
    torch.manual_seed(5)
    return ExpressionNet(width=width)


def crops(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 48, 48), dtype=torch.uint8, generator=generator)


def test_the_papers_width_gives_512_features() -> None:
    net = make(64).eval()
    assert net.feature_size == 512
    assert net(crops(1), torch.tensor([True])).shape == (1, 512)


def test_without_a_face_the_feature_is_the_zero_vector() -> None:
    v_e = make().eval()(crops(3), torch.tensor([False, True, False]))
    assert v_e.shape == (3, 32)
    assert (v_e[0] == 0).all()
    assert (v_e[2] == 0).all()
    assert (v_e[1] != 0).any()


def test_a_batch_without_any_face_is_all_zeros() -> None:
    v_e = make()(crops(2), torch.tensor([False, False]))
    assert v_e.shape == (2, 32)
    assert v_e.dtype == torch.float32
    assert (v_e == 0).all()


def test_each_face_gets_its_own_feature_back() -> None:
    net, faces = make().eval(), crops(4)
    mask = torch.tensor([True, False, True, True])
    together = net(faces, mask)
    for row in (0, 2, 3):
        alone = net(faces[row : row + 1], torch.tensor([True]))
        assert torch.allclose(together[row], alone[0], atol=1e-6)


def test_faceless_images_change_neither_the_outputs_nor_the_statistics_of_others() -> None:
    net = make().train()
    other = copy.deepcopy(net)
    faces = crops(3)
    v_faces = net(faces, torch.tensor([True] * 3))
    mixed = torch.cat([faces[:1], crops(2, seed=9), faces[1:]])
    v_mixed = other(mixed, torch.tensor([True, False, False, True, True]))
    assert torch.allclose(v_faces, v_mixed[[0, 3, 4]], atol=1e-6)
    state, other_state = net.state_dict(), other.state_dict()
    assert any("running_mean" in name for name in state)
    for name, value in state.items():
        assert torch.allclose(value, other_state[name], atol=1e-6), name


def test_faceless_images_send_back_no_gradient() -> None:
    net = make().train()
    faces = crops(2).float().requires_grad_()
    net(faces, torch.tensor([True, False])).square().sum().backward()
    assert faces.grad is not None
    assert (faces.grad[0] != 0).any()
    assert (faces.grad[1] == 0).all()
