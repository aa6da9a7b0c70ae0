"""Cuts about half of the channels out of architectures of torchvision and timm, and compares with the same channels masked.

    python evidence/structure/architectures.py            # what is missing in the ledger, then the table
    python evidence/structure/architectures.py --table    # the table alone, from the ledger
    python evidence/structure/architectures.py --only timm:dla34

Each architecture leaves one row in architectures.jsonl; rows that stand are not run again. README.md says what the verdicts mean.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress.errors import NetpressError
from netpress.graph import count, trace
from netpress.structure import Channels, Costs, mask_network, slice_network
from netpress.zoo.vision import torchvision

HERE = Path(__file__).resolve().parent
LEDGER, TABLE = HERE / "architectures.jsonl", HERE / "architectures.md"
TOLERANCE = 1e-5  # of the largest output
ANSWERS = 1e-4  # by how much, of the largest output, the masked network's answers to two images differ at least
KEPT_SHARE = 0.5

# name, or name@side of the image; without a side the architecture's own
TORCHVISION = """
alexnet vgg11@64 vgg16_bn@64 resnet18@64 resnet34@64 resnet50@64 wide_resnet50_2@64 resnext50_32x4d@64 resnext101_32x8d@64
densenet121@64 densenet169@64 googlenet@64 inception_v3@128 mobilenet_v2@64 mobilenet_v3_small@64 mobilenet_v3_large@64
efficientnet_b0@64 efficientnet_b4@64 efficientnet_v2_s@64 shufflenet_v2_x0_5@64 shufflenet_v2_x2_0@64 squeezenet1_0@64
squeezenet1_1@64 mnasnet0_5@64 mnasnet1_3@64 regnet_y_400mf@64 regnet_x_3_2gf@64 convnext_tiny@64 vit_b_32 swin_t swin_v2_t
maxvit_t
"""
TIMM = """
deit_tiny_patch16_224 vit_relpos_small_patch16_224 beit_base_patch16_224 eva02_tiny_patch14_224 cait_xxs24_224
pit_ti_224 crossvit_9_240 xcit_nano_12_p16_224 convit_tiny tnt_s_legacy_patch16_224 volo_d1_224 nest_tiny davit_tiny
swinv2_tiny_window8_256 twins_pcpvt_small pvt_v2_b0@64 visformer_tiny levit_128 coat_tiny coatnet_nano_rw_224 maxvit_nano_rw_256
mixer_s16_224 resmlp_12_224 gmlp_s16_224 poolformer_s12@64 caformer_s18@64 convmixer_768_32@64 sequencer2d_s
mobilevit_s@64 mobilevitv2_050@64 edgenext_small@64 efficientformer_l1 efficientvit_b0@64 efficientvit_m0 fastvit_t8@64
mobileone_s0@64 repvgg_a2@64 repvit_m1@64 mobilenetv4_conv_small@64 mobilenetv4_hybrid_medium starnet_s1@64
ghostnet_100@64 tf_efficientnet_lite0@64 tf_efficientnetv2_b0@64 hardcorenas_a@64 rexnet_100@64 lcnet_050@64 tinynet_a@64
fbnetc_100@64 spnasnet_100@64 semnasnet_100@64 mixnet_s@64 convnextv2_atto@64 inception_next_tiny@64 focalnet_tiny_srf
seresnet50@64 skresnet18@64 resnest14d@64 ecaresnet26t@64 gcresnet33ts@64 cspresnet50@64 cspdarknet53@64 dla34@64 dpn68@64
res2net50_26w_4s@64 hrnet_w18_small@64 selecsls42@64 vovnet39a@64 ese_vovnet19b_dw@64 xception41@64 inception_resnet_v2@128
nasnetalarge@128 nfnet_l0@64 resnetv2_50@64 resnetv2_50x1_bit@64 regnetz_b16@64 tresnet_m@64 gernet_s@64 botnet26t_256
halonet26t lambda_resnet26t@256
"""
NAMES = [f"torchvision:{name}" for name in TORCHVISION.split()] + [f"timm:{name}" for name in TIMM.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only make the table from the ledger")
    parser.add_argument("--only", metavar="NAME", help="run this one anew and print its row; the ledger stays as it is")
    given = parser.parse_args()
    if given.only:
        print(json.dumps(judged(given.only), indent=1))
        return
    rows = read_ledger()
    if not given.table:
        for name in NAMES:
            if name.partition("@")[0] not in rows:
                row = judged(name)
                with LEDGER.open("a", encoding="utf-8") as ledger:
                    ledger.write(json.dumps(row) + "\n")
                print(row["architecture"], row["verdict"], row.get("difference", row.get("error")), flush=True)
                TABLE.write_text(table(read_ledger()), encoding="utf-8")
    TABLE.write_text(table(read_ledger()), encoding="utf-8")


def read_ledger() -> dict[str, dict[str, Any]]:
    """Rows by architecture."""
    lines = LEDGER.read_text(encoding="utf-8").splitlines() if LEDGER.exists() else []
    return {row["architecture"]: row for row in map(json.loads, lines)}


# ---------------------------------------------------------------- one architecture


def judged(name: str) -> dict[str, Any]:
    """The row of one architecture, ``LIBRARY:NAME`` or ``LIBRARY:NAME@SIDE``."""
    architecture, _, side = name.partition("@")
    begun = time.process_time()
    torch.manual_seed(0)
    network, shape = built(architecture, int(side) if side else None)
    randomise(network.eval(), shape)
    row: dict[str, Any] = {"architecture": architecture, "input": list(shape)}
    try:
        row |= cut(network, images(2, shape))
    except NetpressError as error:
        row |= {"verdict": "unsupported", "error": f"{type(error).__name__}: {error.what}; got: {error.got}"}
    except Exception as error:  # not refused on purpose: a fault, which belongs in the table
        row |= {"verdict": "fail", "error": f"{type(error).__name__}: {error}"}
    return row | {"cpu_seconds": round(time.process_time() - begun, 1), "torch": torch.__version__}


def built(architecture: str, side: int | None) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network with its random weights, and the shape of its input."""
    models = torchvision().models  # timm imports torchvision, and must not be the first to
    library, _, name = architecture.partition(":")
    if library == "timm":
        import timm

        network = timm.create_model(name, pretrained=False)
        own = network.default_cfg["input_size"][-1]
    else:
        slow_to_initialise = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = models.get_model(name, weights=None, **slow_to_initialise)
        own = models.get_model_weights(name).DEFAULT.transforms().crop_size[0]
    return network, (3, side or own, side or own)


def images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Coarse patterns under noise, so that two images have more than their noise to tell them apart."""
    channels, height, width = shape
    coarse = torch.randn(count, channels, 4, 4)
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear") + 0.5 * torch.randn(count, *shape)


@torch.no_grad()
def randomise(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Noise on biases, norms, scales and whatever begins near zero; statistics of batch norms from a few images."""
    for parameter in network.parameters():
        if parameter.dim() < 2 or parameter.abs().max() < 0.01:
            parameter.add_(0.1 * torch.randn_like(parameter))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    network(images(4, shape))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def cut(network: nn.Module, x: Tensor) -> dict[str, Any]:
    """What is found when a random half of all channels is sliced away, and masked."""
    net = trace(network, x)
    channels = Channels(net)
    rng = np.random.default_rng(0)
    keep = {}
    for name, group in channels.groups.items():
        keep[name] = rng.random(group.size) < KEPT_SHARE
        keep[name][rng.integers(group.size)] = True
    sliced, masked = slice_network(channels, keep), mask_network(channels, keep)
    with torch.no_grad():
        before, expected, found = net(x), masked(x), sliced(x)
    costs, kept = Costs(channels), np.array([stays.sum() for stays in keep.values()], np.int64)
    whole, left = count(net), count(sliced)
    exact = (left.params, left.macs) == (costs.params(kept), costs.macs(kept))
    exact &= (whole.params, whole.macs) == (costs.params(costs.full), costs.macs(costs.full))
    row = {
        "groups": len(channels.groups),
        "channels": int(costs.full.sum()),
        "params": whole.params,
        "params_left": left.params,
        "macs": whole.macs,
        "macs_left": left.macs,
        "difference": relative(found, expected),
        "effect": relative(before, expected),
        "answers": relative(expected[:1], expected[1:]),
        "counts_exact": exact,
        "kept_whole": counted_reasons(channels),
    }
    return {"verdict": verdict(row)} | row


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def counted_reasons(channels: Channels) -> dict[str, int]:
    """How many modules are whole for each reason; of the reasons' own names the operator is left."""
    reasons: dict[str, int] = {}
    for reason in channels.kept_whole.values():
        words: list[str] = []
        for word in reason.split():
            if word in _WORDS or not _is_name(word, channels):
                words.append(word)
            elif words[-1:] == ["in"]:
                words.pop()
        text = " ".join(words)
        reasons[text] = reasons.get(text, 0) + 1
    return dict(sorted(reasons.items(), key=lambda item: -item[1]))


_WORDS = {"the", "network's", "output", "normalises", "over", "it", "input", "of", "is", "in"}


def _is_name(word: str, channels: Channels) -> bool:
    return word in dict(channels.net.named_modules()) or bool(re.search(r"\w\.\w", word))


def verdict(row: dict[str, Any]) -> str:
    """pass, partly or fail (README.md)."""
    same = row["difference"] <= TOLERANCE and row["counts_exact"]
    telling = row["answers"] >= ANSWERS and (row["effect"] >= ANSWERS or not row["groups"])
    if not (same and telling):
        return "fail"
    return "partly" if others_whole(row) else "pass"


def others_whole(row: dict[str, Any]) -> dict[str, int]:
    """Reasons for which something is whole besides the output layer and what a normalisation reads."""
    ours = ("the network's output", "normalises over it")
    return {reason: many for reason, many in row["kept_whole"].items() if not reason.endswith(ours)}


# ---------------------------------------------------------------- the table


def table(rows: dict[str, dict[str, Any]]) -> str:
    known = [rows[name] for name in dict.fromkeys(name.partition("@")[0] for name in NAMES) if name in rows]
    tally = {v: sum(row["verdict"] == v for row in known) for v in ("pass", "partly", "unsupported", "fail")}
    lines = [
        "# Architectures that channels were cut out of",
        "",
        f"{len(known)} architectures: "
        + ", ".join(f"{many} {v}" for v, many in tally.items())
        + ". [README](README.md)",
        "says what that means. Made by `architectures.py` from `architectures.jsonl`.",
        "",
        "| architecture | input | verdict | groups | params left | MACs left | difference | counts exact | besides left whole |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in known:
        start = f"| {row['architecture']} | {row['input'][-1]} | {row['verdict']} |"
        if "error" in row:
            error = row["error"].replace("|", "/").replace("\n", " ")
            lines.append(f"{start} | | | | | {error} |")
            continue
        whole = ", ".join(f"{reason} ({many})" for reason, many in others_whole(row).items())
        lines.append(
            f"{start} {row['groups']} | {row['params_left'] / row['params']:.1%} | {row['macs_left'] / row['macs']:.1%} "
            f"| {row['difference']:.1e} | {'yes' if row['counts_exact'] else 'no'} | {whole} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
