"""Images from events: trained networks, their training with and without labels, and closed forms."""

from perception.reconstruct.classical import Integrator, wiener
from perception.reconstruct.model import Reconstructor, displayed, load

__all__ = ["Integrator", "Reconstructor", "displayed", "load", "wiener"]
