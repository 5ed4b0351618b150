"""Classifiers of which only the answers are to be had: asking them, inverting them, learning from many."""

from adapt.black_box.answers import BadAnswer
from adapt.black_box.api import BlackBox, BudgetExceeded, predictor
from adapt.black_box.bidf_mkd import MetaConfig, MetaLearner, meta_learn
from adapt.black_box.cache import AnswerCache
from adapt.black_box.endpoint import Endpoint, Retry, Unavailable
from adapt.black_box.episodes import few_shot
from adapt.black_box.inversion import Inversion, InversionConfig, invert
from adapt.black_box.serve import Limits, Server
from adapt.black_box.zeroth_order import zo_grad

__all__ = [
    "AnswerCache",
    "BadAnswer",
    "BlackBox",
    "BudgetExceeded",
    "Endpoint",
    "Inversion",
    "InversionConfig",
    "Limits",
    "MetaConfig",
    "MetaLearner",
    "Retry",
    "Server",
    "Unavailable",
    "few_shot",
    "invert",
    "meta_learn",
    "predictor",
    "zo_grad",
]
