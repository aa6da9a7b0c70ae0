"""Channels: which are tied, what they cost, and cutting them out of a network.

atoms, labels          numbered channels, and where in a tensor they lie
flow                   what is known while channels are followed, and how they are tied and frozen
follow                 labels for every value of a traced network, by a rule for each operator: ``modules`` holds those of leaf
                       modules, ``functions``, ``products`` and ``moves`` those of functions, ``rules`` what they share
zeros                  where channels that are masked read as zeros
channels               what came of it: groups of channels that can be removed
costs                  parameters and MACs as exact functions of how many are kept
slicing                smaller tensors, or zeros in their places
"""

from netpress.structure.channels import ChannelGroup, Channels, Keep, Place
from netpress.structure.costs import Costs
from netpress.structure.slicing import mask_network, slice_network

__all__ = ["ChannelGroup", "Channels", "Costs", "Keep", "Place", "mask_network", "slice_network"]
