"""The nodes of a program, and the names that modules and tensors may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from netpress.errors import GraphError
from netpress.program.operators import BUFFER, MODULES, PARAMETER
from netpress.program.values import refs

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Node:
    """One step of the program; node ``k`` makes value ``k + 1`` (value 0 is the network's input).

    Attributes:
        name: A module's or a tensor's dotted name; for a function the dotted name of the module that called it, which
            is empty at the root. A module that is called twice has two nodes of one name.
        op: A key of `MODULES` or of `FUNCTIONS`, or ``"parameter"`` or ``"buffer"``: the tensor of that name.
        args: Canonical arguments (see `netpress.program.values`); a module's only argument is the `Ref` of its input.
    """

    name: str
    op: str
    args: tuple[Any, ...] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """Indices of the values that the node reads, in order of its arguments."""
        return tuple(refs(self.args))

    @property
    def is_module(self) -> bool:
        return self.op in MODULES

    @property
    def is_tensor(self) -> bool:
        """Whether the node only reads a parameter or a buffer."""
        return self.op in (PARAMETER, BUFFER)


def check_name(name: str) -> list[str]:
    """The parts of a dotted name of a module or tensor; ``GraphError`` if it is none."""
    parts = name.split(".")
    if len(name) > 512 or len(parts) > 32 or not all(_PART.fullmatch(part) for part in parts):
        raise GraphError(
            "not a name of a module or tensor",
            got=repr(name[:80]),
            allowed="up to 32 parts of letters, digits, _ and -, joined by dots",
        )
    return parts


# What every torch module has an attribute of: no module or tensor inside another can be called so. Held here, so that files are
# read alike with and without torch; a test compares it with the torch that is installed.
_OF_MODULES = """
T_destination __annotations__ __call__ __class__ __delattr__ __dict__ __dir__ __doc__ __eq__ __firstlineno__ __format__ __ge__
__getattr__ __getattribute__ __getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __module__ __ne__ __new__
__reduce__ __reduce_ex__ __repr__ __setattr__ __setstate__ __sizeof__ __static_attributes__ __str__ __subclasshook__ __weakref__
_apply _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks _forward_hooks_always_called
_forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_name
_is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks
_maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters
_register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward
_state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl add_module apply bfloat16 buffers call_super_init children
compile cpu cuda double dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
to_empty train training type xpu zero_grad
"""
_OF_NETWORKS = """
__match_args__ _input_dtype _input_shape _nodes _output_shape _program input_dtype input_shape nodes output_shape run with_nodes
"""
RESERVED = frozenset(_OF_MODULES.split())
RESERVED_AT_THE_ROOT = RESERVED | frozenset(_OF_NETWORKS.split())
