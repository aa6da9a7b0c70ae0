"""Inner loops in C: bit streams, entropy coders, products with coded matrices, quantizers.

Each ``NAME.c`` is one extension module, ``netpress.kernels._NAME``, with functions over buffers; ``NAME.py`` beside it, where
there is one, gives them shapes and types. The kernels know no codec, no network and no file; ``common.h`` says what each of them
keeps to. They are built when netpress is installed (see ``setup.py``); after a change: ``make kernels``.
"""
