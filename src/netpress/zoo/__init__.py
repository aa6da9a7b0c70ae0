"""The papers' networks by name, and weights for them.

::

    from netpress import zoo

    network = zoo.build("resnet20", seed=0)
    network, preprocess = zoo.load_pretrained("cifar10_resnet20_akamaster", "weights")
"""

from netpress.zoo.catalog import build, entry, names
from netpress.zoo.entry import Entry, NetworkInfo, PreprocessDict
from netpress.zoo.pretrained import PRETRAINED, Pretrained, load_pretrained, pretrained
from netpress.zoo.resolve import resolve
from netpress.zoo.weights import find_weights, load_weights, save_weights

__all__ = [
    "PRETRAINED",
    "Entry",
    "NetworkInfo",
    "PreprocessDict",
    "Pretrained",
    "build",
    "entry",
    "find_weights",
    "load_pretrained",
    "load_weights",
    "names",
    "pretrained",
    "resolve",
    "save_weights",
]
