"""One model of many clients whose data stay where they are, and its repair on the server without data."""

from adapt.federated.baselines import FedDF, NoiseDistillation
from adapt.federated.fedftg import FedFTG, FTGConfig
from adapt.federated.generator import DenseGenerator, ImageGenerator
from adapt.federated.local import LocalConfig
from adapt.federated.rounds import Aside, FederateConfig, FedResult, federate
from adapt.federated.rules import SCAFFOLD, FedAvg, FedDyn, FedProx
from adapt.federated.splits import dirichlet, label_counts, noisy_counts
from adapt.federated.uploads import Exclusion, Upload

__all__ = [
    "SCAFFOLD",
    "Aside",
    "DenseGenerator",
    "Exclusion",
    "FTGConfig",
    "FedAvg",
    "FedDF",
    "FedDyn",
    "FedFTG",
    "FedProx",
    "FedResult",
    "FederateConfig",
    "ImageGenerator",
    "LocalConfig",
    "NoiseDistillation",
    "Upload",
    "dirichlet",
    "federate",
    "label_counts",
    "noisy_counts",
]
