from __future__ import annotations

import numpy as np
import pytest
import torch
from structure_networks import NETWORKS, channels_of, traced
from torch import nn

from netpress.errors import ConfigError, UnknownNameError
from netpress.graph import trace
from netpress.structure import Channels, slice_network


def places(channels: Channels, name: str) -> list[tuple[str, int, bool, list[int], list[int]]]:
    return [
        (place.tensor, place.axis, place.consumes, place.rows.tolist(), place.channel.tolist())
        for place in channels.groups[name].places
    ]


class TestPlaces:
    def test_plain(self) -> None:
        """Filters, norms and what reads them; the head reads the pooled channels as they are."""
        four, six = list(range(4)), list(range(6))
        channels = Channels(traced("plain"))
        assert places(channels, "0") == [
            ("0.weight", 0, False, four, four),
            ("0.bias", 0, False, four, four),
            ("1.weight", 0, False, four, four),
            ("1.bias", 0, False, four, four),
            ("1.running_mean", 0, False, four, four),
            ("1.running_var", 0, False, four, four),
            ("3.weight", 1, True, four, four),
        ]
        assert places(channels, "3") == [
            ("3.weight", 0, False, six, six),
            ("3.bias", 0, False, six, six),
            ("6.weight", 1, True, six, six),
        ]
        assert channels.groups["0"].modules == ("0", "1", "3")

    def test_a_flattened_channel_is_read_at_many_places(self) -> None:
        reader = places(Channels(traced("flattened_before_linear")), "conv")[-1]
        assert reader == ("hidden.weight", 1, True, list(range(36)), [place // 9 for place in range(36)])

    def test_a_head_is_its_rows_of_queries_keys_and_values(self) -> None:
        qkv = places(Channels(traced("fused_attention")), "qkv")
        heads = [place // 4 % 3 for place in range(36)]  # (3, heads, width)
        assert qkv == [
            ("qkv.weight", 0, False, list(range(36)), heads),
            ("qkv.bias", 0, False, list(range(36)), heads),
            ("project.weight", 1, True, list(range(12)), [place // 4 for place in range(12)]),
        ]

    def test_padded_shortcut(self) -> None:
        """The block's places 2 to 5 are the stem's; 0, 1, 6 and 7 a group of their own."""
        channels = Channels(traced("option_a"))
        four = list(range(4))
        assert ("stem.weight", 0, False, four, four) in places(channels, "stem")
        assert ("block.weight", 0, False, [2, 3, 4, 5], four) in places(channels, "stem")
        assert ("block.weight", 1, True, four, four) in places(channels, "stem")
        assert ("head.weight", 1, True, [2, 3, 4, 5], four) in places(channels, "stem")
        assert places(channels, "block") == [
            ("block.weight", 0, False, [0, 1, 6, 7], four),
            ("block.bias", 0, False, [0, 1, 6, 7], four),
            ("head.weight", 1, True, [0, 1, 6, 7], four),
        ]

    def test_places_of_all_groups(self) -> None:
        """A filter of a convolution in two groups of six numbers its inputs 0 to 5, whichever group it is of."""
        channels = Channels(traced("few_groups"))
        assert places(channels, "stem")[-1] == ("grouped.weight", 1, True, list(range(6)), list(range(6)))
        assert places(channels, "grouped")[0] == (
            "grouped.weight", 0, False, list(range(8)), [0, 1, 2, 3, 0, 1, 2, 3],
        )  # fmt: skip


class TestKeptWhole:
    def test_reasons(self) -> None:
        reasons = Channels(traced("not_followed")).kept_whole
        assert reasons == {"read": "einsum is not followed", "head": "the network's output"}

    def test_normalised_stream(self) -> None:
        reasons = Channels(traced("normed")).kept_whole
        assert reasons["embed"] == reasons["back"] == "norm normalises over it"
        assert "hidden" not in reasons

    def test_channels_that_are_all_tied_to_one_another(self) -> None:
        reasons = Channels(traced("heads_turned")).kept_whole
        assert reasons["q"] == reasons["kv"] == "all of its channels are tied to one another"

    def test_a_single_place(self) -> None:
        reasons = Channels(traced("single_places")).kept_whole
        assert reasons == {
            "stem": "getitem takes a single place of it", "split": "split takes a single place of it",
            "head": "the network's output",
        }  # fmt: skip

    def test_channels_of_which_each_is_a_group(self) -> None:
        reasons = Channels(traced("no_two_alike")).kept_whole
        assert reasons["stem"] == "no two of its channels lie in the same places, so that each is the last of its group"

    def test_the_output_layer_stays(self) -> None:
        channels = Channels(traced("nothing_to_cut"))
        assert channels.groups == {}
        assert channels.kept_whole == {"only": "the network's output"}
        assert channels.everything() == {}

    def test_a_table_of_positions_is_not_reported_for_its_tokens(self) -> None:
        class Positions(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.table, self.head = nn.Parameter(torch.randn(5, 6)), nn.Linear(6, 2)

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.head(self.embed(x) + self.table) if hasattr(self, "embed") else self.head(x * self.table)

        net = Positions()
        net.embed = nn.Linear(3, 6)
        channels = Channels(trace(net.eval(), torch.randn(2, 5, 3)))
        assert set(channels.kept_whole) == {"head"}
        assert ("table", 1) in [(place.tensor, place.axis) for place in channels.groups["embed"].places]


class TestWhole:
    def test_named_modules_keep_their_channels(self) -> None:
        channels = Channels(traced("residual"), whole=["inner"])
        assert list(channels.groups) == ["stem"]
        assert channels.kept_whole["inner"] == "asked to be kept whole"

    def test_what_is_tied_to_them_stays_too(self) -> None:
        channels = Channels(traced("residual"), whole=["outer"])
        assert list(channels.groups) == ["inner"]
        assert channels.kept_whole["stem"] == "asked to be kept whole"

    def test_the_beginning_of_a_name_is_a_module(self) -> None:
        net = nn.Sequential(
            nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 5)), nn.ReLU(), nn.Linear(5, 6), nn.Linear(6, 2)
        )
        channels = Channels(trace(net.eval(), torch.zeros(1, 3)), whole=["0"])
        assert {name: group.size for name, group in channels.groups.items()} == {"2": 6}

    def test_an_unknown_name(self) -> None:
        with pytest.raises(UnknownNameError, match=r"unknown module; got: 'iner'.*did you mean 'inner'"):
            Channels(traced("residual"), whole=["iner"])


class TestAlive:
    channels = Channels(traced("plain"))

    def test_an_unknown_group(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown channel group; got: 'conv'; allowed: 0, 3"):
            self.channels.alive({"conv": np.ones(4, bool)})

    @pytest.mark.parametrize(
        ("kept", "text"),
        [
            (np.ones(5, bool), r"got: bool \(5,\), 5 kept; allowed: 4 true or false, at least one of them true"),
            (np.ones((4, 1), bool), r"bool \(4, 1\)"),
            (np.array([0, 1, 1, 1]), r"int64 \(4,\), 3 kept"),
            (np.zeros(4, bool), r"bool \(4,\), 0 kept"),
        ],
    )
    def test_no_choice_of_the_channels(self, kept: np.ndarray, text: str) -> None:
        for refuse in (self.channels.alive, lambda keep: slice_network(self.channels, keep)):
            with pytest.raises(ConfigError, match="what is kept of '0' is no choice.*" + text):
                refuse({"0": kept})

    def test_groups_that_are_missing_stay(self) -> None:
        stays = self.channels.alive({"0": np.array([True, False, True, True])})
        by_tensor = {(slot.tensor, slot.axis): stays[slot.atoms].tolist() for slot in self.channels.slots}
        assert by_tensor["0.weight", 0] == by_tensor["1.running_var", 0] == [True, False, True, True]
        assert by_tensor["3.weight", 1] == [True, False, True, True]
        assert by_tensor["3.weight", 0] == [True] * 6

    def test_a_list_will_do(self) -> None:
        assert not self.channels.alive({"0": [True, False, True, True]}).all()  # type: ignore[dict-item]


def test_no_group_could_be_left_empty_by_another() -> None:
    """Every group lies whole in each value that holds any of it."""
    for name in NETWORKS:
        channels = channels_of(name)
        for group in channels.groups.values():
            for place in group.places:
                assert set(place.channel.tolist()) == set(range(group.size)), (name, group, place.tensor)
