"""Networks of ``.netpress`` files where there is no PyTorch: numpy, the compiled kernels and ONNX Runtime are all it takes.

::

    import netpress.runtime

    network = netpress.runtime.load("small.netpress")
    outputs = network(images)  # (N, H, W, C) uint8 as in a file, or (N, *network.input_shape) ready for the network
"""

from netpress.runtime.network import Network, load, run, start

__all__ = ["Network", "load", "run", "start"]
