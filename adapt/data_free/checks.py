"""What can be said of a teacher and a student before hours are spent on them."""

import math

import torch
from torch import Tensor, nn

from adapt.data_free.context import Context, undisturbed
from adapt.data_free.networks import Shape

PROBES = 8  # random inputs
REFUSALS = (RuntimeError, TypeError, ValueError, IndexError)  # of a network, for inputs that it does not take


def check_teacher(teacher: nn.Module, shape: Shape, device: torch.device | str = "cpu") -> int:
    """The number of classes of a teacher that can be distilled.

    Raises:
        ValueError: it is in training mode, does not take such inputs, or does not give finite logits.
    """
    modes = [name or "the teacher" for name, module in teacher.named_modules() if module.training]
    if modes:
        raise ValueError(
            f"the teacher is in training mode ({modes[0]}), so its answers depend on the batch. Call "
            "teacher.eval() first."
        )
    x = _probes(shape, device)
    before = {name: value.clone() for name, value in teacher.named_buffers()}
    with torch.no_grad():
        context = _answered(teacher, x, shape)
        written = [n for n, v in teacher.named_buffers() if not same_numbers(v, before[n])]
        for name, value in teacher.named_buffers():
            value.copy_(before[name])
        if written:
            raise ValueError(
                f"the teacher writes to its buffers when it is asked ({written[0]}). Was it exported in "
                "training mode? Export it after .eval()."
            )
        if context._watch.training:
            raise ValueError(
                "a batch-norm layer of the teacher uses statistics of the batch. Export it after .eval(), or "
                "give its batch norm running statistics."
            )
        t = context.t
        _check_logits(t, len(x))
        if not torch.allclose(t, teacher(x), rtol=1e-3, atol=1e-4):
            raise ValueError(
                "the teacher gives other answers to the same inputs (dropout in training mode?). Call "
                "teacher.eval() before it is exported or given."
            )
    return t.shape[1]


def check_gradient(teacher: nn.Module, shape: Shape, device: torch.device | str) -> None:
    """Whether a source that learns from a teacher can: its answers have a gradient in the inputs.

    Raises:
        ValueError: they have none, and a generator would learn nothing without a word.
    """
    with torch.enable_grad():
        if not teacher(_probes(shape, device).requires_grad_()).requires_grad:
            raise ValueError(
                "no gradient comes back from the teacher: does its forward pass run under torch.no_grad() or "
                "inference_mode()? A generator learns by that gradient."
            )


def check_student(student: nn.Module, teacher: nn.Module, shape: Shape, device: torch.device | str) -> None:
    """Ask a student, which stays as it is.

    Raises:
        ValueError: it does not give finite logits of as many classes as the teacher, or is the teacher.
    """
    if student is teacher or {id(p) for p in student.parameters()} & {id(p) for p in teacher.parameters()}:
        raise ValueError("student and teacher share weights. Give a student of its own, such as a deepcopy.")
    x = _probes(shape, device)
    modes = {module: module.training for module in student.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        wanted = teacher(x).shape
        try:
            s = undisturbed(student.train(), x)  # as it will be asked
        except REFUSALS as error:
            raise _refused("student", shape, error) from None
        finally:
            for module, mode in modes.items():
                module.training = mode
    if not isinstance(s, Tensor) or s.shape != wanted:
        came = tuple(s.shape) if isinstance(s, Tensor) else type(s).__name__
        raise ValueError(
            f"the student answers {came} where the teacher answers {tuple(wanted)}. Both need one logit for "
            "each of the same classes."
        )
    if not s.isfinite().all():
        raise ValueError("the student's logits are not finite on random inputs. Start it from other weights.")


def check_bounds(bounds: tuple[float, float]) -> None:
    """Whether bounds of inputs are finite and increase.

    Raises:
        ValueError: they are not.
    """
    try:
        low, high = (float(b) for b in bounds)
    except (TypeError, ValueError):
        raise ValueError(f"bounds are two numbers, got {bounds!r}") from None
    if not (low < high and math.isfinite(high - low)):
        raise ValueError(f"bounds are the smallest and largest number of an input, got {low} and {high}")


def out_of_memory(error: Exception) -> bool:
    """Whether that is what an error of torch says."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def same_numbers(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same; NaN is NaN: a buffer that was so from the start has not changed."""
    return a.shape == b.shape and torch.allclose(a, b, 0, 0, equal_nan=True)


def _probes(shape, device):
    if not isinstance(shape, (tuple, list)) or not all(type(n) is int and n > 0 for n in shape) or not shape:
        raise ValueError(f"the shape of an input is a tuple of whole numbers from 1, got {shape!r}")
    try:
        return torch.randn(PROBES, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    except RuntimeError:  # of the allocator; CUDA's is one, too
        raise ValueError(f"{PROBES} inputs of shape {tuple(shape)} do not fit into memory") from None


def _answered(teacher, x, shape) -> Context:
    try:
        return Context(x, teacher)
    except REFUSALS as error:
        raise _refused("teacher", shape, error) from None


def _refused(who, shape, error) -> Exception:
    if out_of_memory(error):
        return RuntimeError(
            f"{PROBES} inputs of shape {tuple(shape)} are too many for the {who}: no memory left"
        )
    said = [*str(error).strip().splitlines(), repr(error)][0]
    return ValueError(f"the {who} does not take batches of {PROBES} inputs of shape {tuple(shape)}: {said}")


def _check_logits(t, number):
    if not isinstance(t, Tensor) or t.ndim != 2 or len(t) != number or t.shape[1] < 2:
        came = tuple(t.shape) if isinstance(t, Tensor) else type(t).__name__
        raise ValueError(
            f"a teacher must answer logits (batch, classes), got {came}. Wrap it in a module that does."
        )
    if not t.isfinite().all():
        raise ValueError("the teacher's logits are not finite on random inputs; its weights may hold NaN.")
    if (
        (t >= 0).all()
        and (t <= 1).all()
        and not torch.allclose(t.sum(1), torch.ones_like(t[:, 0]), atol=1e-4)
    ):
        raise ValueError(
            "the teacher's answers all lie from 0 to 1: probabilities of a sigmoid? Give it without. If they "
            "are logits, subtract a number from all of them, which changes nothing."
        )
    if (t >= 0).all() and torch.allclose(t.sum(1), torch.ones_like(t[:, 0]), atol=1e-4):
        raise ValueError(
            "the teacher answers probabilities. Give it without its last softmax: logits are needed."
        )
    if torch.allclose(t.logsumexp(1), torch.zeros_like(t[:, 0]), atol=1e-4):
        raise ValueError("the teacher answers log probabilities. Give it without its last log_softmax.")
