"""Losses against loops over pairs, finite differences, and what the cards promise of them."""

import math

import pytest
import torch
from torch.nn import functional as F

from adapt.source_free import losses
from adapt.source_free.dispersion import auto_alpha, auto_beta, natural
from adapt.source_free.engine import schedule
from adapt.source_free.sfda2 import ClassSpread, confusion

B, K, C, D = 7, 3, 4, 5


@pytest.fixture
def some():
    g = torch.Generator().manual_seed(0)

    def rand(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    a = rand(C, D, D)
    return {
        "logits": rand(B, C),
        "bank": rand(B, K, C).softmax(-1),
        "weight": rand(C, D),
        "cov": a @ a.transpose(1, 2),
        "z": rand(40, D),
        "rand": rand,
    }


def pairs_of(p, power):
    return sum(float(p[i] @ p[j]) ** power for i in range(B) for j in range(B) if i != j) / B


@pytest.mark.parametrize(("loss", "power"), [(losses.aad, 1), (losses.snc, 2)])
def test_neighbours_attract_and_others_repel_as_loops_say(some, loss, power):
    p, bank = some["logits"].softmax(1), some["bank"]
    near = sum(float(p[i] @ bank[i, k]) for i in range(B) for k in range(K)) / B
    assert float(loss(p, bank, 0.7)) == pytest.approx(-near + 0.7 * pairs_of(p, power))


def test_attraction_is_the_released_divergence_up_to_a_constant(some):
    """The released code asks kl_div(p, P) of p itself, which is sum P log P - <p, P>."""
    bank = some["bank"]
    for logits in (some["logits"], some["logits"].flip(0)):
        p = logits.softmax(1)
        theirs = F.kl_div(p[:, None].expand_as(bank), bank, reduction="none").sum((1, 2)).mean()
        constant = (bank * bank.log()).sum((1, 2)).mean()
        assert float(theirs - losses.attraction(p, bank)) == pytest.approx(float(constant))


def test_mutual_neighbours_count_more(some):
    p, bank = some["logits"].softmax(1), some["bank"]
    weight, wide = torch.tensor([[1.0, 0.1, 0.1]] * B, dtype=p.dtype), some["bank"].repeat(1, 2, 1)
    own = p.detach()
    expected = 0.0
    for i in range(B):
        expected -= sum(float(weight[i, k] * (p[i] @ bank[i, k])) for k in range(K)) / B
        expected -= 0.1 * sum(float(p[i] @ q) for q in wide[i]) / B + float(p[i] @ own[i]) / B
    mean = p.mean(0)
    expected += float((mean * mean.log()).sum())
    assert float(losses.nrc(p, bank, weight, wide, own)) == pytest.approx(expected)


def test_information_is_least_for_sure_and_balanced_predictions():
    sure, one, unsure = torch.eye(C), torch.eye(C)[[0] * C], torch.full((C, C), 1 / C)
    assert float(losses.im(sure)) == pytest.approx(-math.log(C))
    assert float(losses.im(one)) == pytest.approx(0, abs=1e-6)
    assert float(losses.im(unsure)) == pytest.approx(0, abs=1e-6)
    assert float(losses.certainty(unsure)) == pytest.approx(math.log(C))


def test_the_fast_quadratic_is_the_direct_one(some):
    weight, cov = some["weight"], some["cov"]
    fast = losses.class_quadratic(weight, cov)
    for k in range(C):
        for j in range(C):
            for c in range(C):
                apart = weight[j] - weight[c]
                assert float(fast[k, j, c]) == pytest.approx(float(apart @ cov[k] @ apart), abs=1e-9)
    skew = cov + torch.triu(torch.ones(D, D, dtype=cov.dtype), 1)  # no covariance, but no special case either
    direct = torch.einsum(
        "jci,kil,jcl->kjc", *(weight[:, None] - weight[None],), skew, weight[:, None] - weight[None]
    )
    assert torch.allclose(losses.class_quadratic(weight, skew), direct)
    assert torch.allclose(fast, fast.transpose(1, 2))
    assert fast.diagonal(dim1=1, dim2=2).abs().max() < 1e-12


def ifa_by_loops(logits, weight, cov, said, strength):
    total = 0.0
    for i in range(B):
        for c in range(C):
            terms = [
                logits[i, j] + strength / 2 * (weight[j] - weight[c]) @ cov[said[i]] @ (weight[j] - weight[c])
                for j in range(C)
            ]
            total = total - 2 * (logits[i, c] - torch.stack(terms).logsumexp(0)) / B
    return total


def test_augmentation_is_what_loops_over_classes_say(some):
    logits, said = some["logits"], some["logits"].argmax(1)
    present, which = said.unique(return_inverse=True)
    q = losses.class_quadratic(some["weight"], some["cov"][present])
    for strength in (0.0, 0.3, 2.0):
        expected = ifa_by_loops(logits, some["weight"], some["cov"], said, strength)
        assert float(losses.ifa(logits, q, which, strength)) == pytest.approx(float(expected))


def test_without_augmentation_it_is_twice_the_cross_entropy_of_all_classes(some):
    logits, said = some["logits"], some["logits"].argmax(1)
    q = losses.class_quadratic(some["weight"], some["cov"])
    none = losses.ifa(logits, q, said, 0.0)
    assert float(none) == pytest.approx(float(-2 * logits.log_softmax(1).sum(1).mean()))
    assert losses.ifa(logits, q, said, 0.5) > none


def test_augmentation_bounds_the_expectation_over_augmented_features(some):
    """Monte Carlo of -2 sum_c log p_c over z ~ N(z, lambda Sigma), which Jensen's inequality bounds."""
    g, weight, strength = torch.Generator().manual_seed(1), some["weight"], 0.5
    z = some["z"][:B]
    logits, said = z @ weight.T, (z @ weight.T).argmax(1)
    root = torch.linalg.cholesky(some["cov"])
    noise = torch.randn(4000, B, D, generator=g, dtype=z.dtype)
    moved = z + strength**0.5 * torch.einsum("bij,nbj->nbi", root[said], noise)
    sampled = -2 * (moved @ weight.T).log_softmax(-1).sum(-1).mean()
    bound = losses.ifa(logits, losses.class_quadratic(weight, some["cov"]), said, strength)
    assert losses.ifa(logits, losses.class_quadratic(weight, some["cov"]), said, 0.0) < sampled < bound


def test_disentanglement_is_what_loops_say_and_likes_other_directions(some):
    cov, affinity = some["cov"], some["rand"](C, C).abs()
    expected = 0.0
    for k in range(C):
        for j in range(C):
            if k != j:
                cosine = float((cov[k] * cov[j]).sum() / (cov[k].norm() * cov[j].norm()))
                expected -= 0.5 * float(affinity[k, j]) * (1 - cosine)
    assert float(losses.fd(cov, affinity)) == pytest.approx(expected)
    alike = torch.diag(torch.tensor([4.0, 1.0])).repeat(2, 1, 1)
    turned = torch.stack((alike[0], alike[0].flip(0, 1)))
    assert losses.fd(turned, torch.ones(2, 2)) < losses.fd(alike, torch.ones(2, 2))


def test_an_absent_class_breaks_nothing(some):
    cov = some["cov"].clone()
    cov[2] = 0
    cov.requires_grad_(True)
    losses.fd(cov, torch.ones(C, C, dtype=cov.dtype)).backward()
    assert cov.grad.isfinite().all()
    assert confusion(torch.eye(C)[:2].repeat(3, 1)).isfinite().all()


def test_gradients_are_those_of_finite_differences(some):
    logits, bank, weight, cov = (
        some[k].clone().requires_grad_(True) for k in ("logits", "bank", "weight", "cov")
    )
    said = some["logits"].argmax(1)
    q = losses.class_quadratic
    checks = [
        (lambda a: losses.snc(a.softmax(1), some["bank"], 0.4), (logits,)),
        (lambda a: losses.aad(a.softmax(1), some["bank"], 0.4), (logits,)),
        (lambda a: losses.im(a.softmax(1)), (logits,)),
        (lambda a, w, s: losses.ifa(a, q(w, s), said, 0.7), (logits, weight, cov)),
        (lambda s: losses.fd(s, some["bank"][0, 0, :, None] + some["bank"][0, 0]), (cov,)),
    ]
    for loss, inputs in checks:
        assert torch.autograd.gradcheck(loss, inputs)
    losses.snc(logits.softmax(1), bank.detach(), 0.4).backward()
    assert bank.grad is None


def test_running_covariances_of_a_pass_are_those_of_the_sample(some):
    z, labels = some["z"], torch.arange(40) % 3  # class 3 never comes
    spread = ClassSpread.empty(C, D, z)
    for part in torch.arange(40).split(9):
        spread = spread.updated(z[part], labels[part])
    for c in range(3):
        own = z[labels == c]
        assert torch.allclose(spread.mean[c], own.mean(0))
        assert torch.allclose(spread.cov[c], torch.cov(own.T, correction=0))
    assert spread.cov[3].abs().max() == 0
    assert spread.number.tolist() == [14, 13, 13, 0]


def test_gradients_of_covariances_come_from_the_batch_alone_and_fade_or_not(some):
    sizes = {}
    for memory in (None, 0.5):
        spread = ClassSpread.empty(C, D, some["z"])
        for k in range(4):
            z = some["z"].clone().requires_grad_(True)
            spread = spread.updated(z, torch.arange(40) % C, memory)
            (grown,) = torch.autograd.grad(spread.cov.square().sum(), z)
            spread = spread.detached()
            sizes[memory, k] = float(grown.norm())
    assert sizes[None, 3] < 0.4 * sizes[None, 0]
    assert sizes[0.5, 3] == pytest.approx(sizes[0.5, 1], rel=0.01)
    assert sizes[0.5, 3] > sizes[None, 3]


def test_the_weight_of_the_dispersion_balances_pull_and_push():
    assert auto_alpha(5, 64, 10) == pytest.approx(0.463, abs=1e-3)
    assert auto_alpha(5, 64, 8) == pytest.approx(0.357, abs=1e-3)
    assert auto_alpha(5, 64, 22) == auto_alpha(5, 1, 10) == 1.0
    assert auto_alpha(5, 64, 126) == natural(5, 64, 126) / 2 == 5.0
    assert auto_beta(1.5, 64, 10) == auto_beta(1.5, 64, 32) == 1.5
    assert auto_beta(1.5, 64, 48) == pytest.approx(0.5)
    assert auto_beta(1.5, 64, 64) == auto_beta(1.5, 64, 200) == 0.0
    assert schedule(0.5, 1.0, 1.0) == pytest.approx(0.5 / 11)
    assert schedule(0.5, 0.0, 1.0) == schedule(0.5, 3.0, 0.0) == 0.5
    p = torch.eye(C).repeat_interleave(4, 0).requires_grad_(True)  # 3 others of each class in the batch
    pull = torch.autograd.grad(losses.attraction(p, p.detach()[:, None].repeat(1, 5, 1)), p)[0]
    push = auto_alpha(5, 16, 4) * (p @ p.detach().T).fill_diagonal_(0).square().sum() / 16
    assert torch.allclose(pull, -torch.autograd.grad(push, p)[0])  # of each on its own, the others held


def test_natural_weights_balance_a_batch_of_classes_of_equal_mass():
    p = torch.full((63, 21), 1 / 21)  # of the others nothing is known but that classes are as frequent
    sure = torch.eye(21)[:1]
    assert natural(5, 64, 21) * (sure @ p.T).sum() == pytest.approx(5)  # what five sure neighbours have
