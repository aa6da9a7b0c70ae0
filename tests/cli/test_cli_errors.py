"""Each error as the user sees it: exit code, what is wrong, what was found, what is allowed, what to do; no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

NET = "networks.py:network"
GOOD = "npz:good.npz"
TYPED, FAILED = 2, 1  # exit codes: what was typed is wrong; the work cannot be done


def compress(net: str = NET, data: str = GOOD, recipe: str = "ahosvd", *more: str) -> list[str]:
    return ["compress", net, "-d", data, "-r", recipe, "-o", "out.netpress", *more]


NAMES = {
    "method": (
        ["methods", "ahsvd"],
        ["unknown method", "got 'ahsvd'", "allowed active_subspace, ahosvd, autoencoder", "did you mean 'ahosvd'?"],
    ),
    "recipe": (
        compress(recipe="mixr"),
        ["unknown recipe", "got 'mixr'", "allowed active_subspace, ahosvd", "did you mean 'mixer'?"],
    ),
    "recipe file": (compress(recipe="none.yaml"), ["the recipe none.yaml cannot be read", "No such file"]),
    "network": (
        compress("resnet21"),
        ["unknown network", "got 'resnet21'", "mobilenet_v2", "did you mean 'resnet32' or 'resnet20'"],
    ),
    "network source": (
        compress("keras:vgg16"),
        ["a network from an unknown source", "got 'keras:vgg16'", "allowed a name of the zoo, torchvision:NAME"],
    ),
    "callable": (
        compress("networks.py:netwrk"),
        ["unknown callable in networks.py", "got 'netwrk'", "did you mean 'network'"],
    ),
    "file of a network": (compress("none.py:network"), ["no such file", "got 'none.py'"]),
    "data set": (
        compress(data="cifar11"),
        ["unknown data set", "got 'cifar11'", "npz:FILE", "did you mean 'cifar10' or 'cifar100'?"],
    ),
    "data option": (
        compress(data="npz:good.npz?trian=train"),
        ["unknown option in the data spec", "got 'trian'", "did you mean 'train'?"],
    ),
    "field": (
        compress(NET, GOOD, "ahosvd", "--set", "rank=3"),
        ["unknown field of ahosvd", "got 'rank'", "allowed aggregation, alpha, at", "did you mean 'ranks'"],
    ),
    "field of the plan": (
        ["train", NET, "-d", GOOD, "-o", "w.safetensors", "--set", "epoch=3"],
        ["unknown field of a training plan", "got 'epoch'", "allowed augment", "did you mean 'epochs'?"],
    ),
    "metric": (
        compress(NET, GOOD, "ahosvd", "-b", "parms=3%"),
        ["unknown budget metric", "got 'parms'", "allowed bytes, latency_ms, macs, params", "did you mean 'params'?"],
    ),
    "device": (
        compress(NET, GOOD, "ahosvd", "--device", "cud"),
        ["unknown device", "got 'cud'", "allowed auto, cpu, cuda, cuda:N, mps", "did you mean 'cuda'"],
    ),
    "device that other tools call gpu": (
        ["profile", NET, "--device", "gpu:0"],
        ["unknown device", "got 'gpu:0'", "did you mean 'cuda'?"],
    ),
    "device number": (
        ["profile", NET, "--device", "cuda:999"],
        ["there is no such device here", "got cuda:999", "--device auto, or cpu"],
    ),
    "benchmark": (["bench", "reductoin"], ["unknown benchmark", "got 'reductoin'", "did you mean 'reduction'?"]),
    "runtime": (
        ["bench", "latency", "pressed.netpress", "--runtimes", "torch,onxruntime"],
        ["unknown runtime", "got 'onxruntime'", "did you mean 'onnxruntime'"],
    ),
    "option": (["profile", NET, "--latncy"], ["No such option: --latncy"]),
    "command": (["compres"], ["No such command 'compres'."]),
    "spec": (["compare", "none.yaml", "-o", "grid"], ["the file cannot be read", "none.yaml", "allowed a YAML file"]),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_that_nothing_answers_to(case: str, netpress) -> None:
    arguments, texts = NAMES[case]
    outcome = netpress(*arguments)
    assert outcome.code == TYPED
    assert outcome.out == ""
    for text in texts:
        assert text in outcome.said


VALUES = {
    "setting": (compress(NET, GOOD, "ahosvd", "--set", "ranks"), ["a setting reads FIELD=VALUE", "got 'ranks'"]),
    "type": (
        compress(NET, GOOD, "ahosvd", "--set", "ranks=many"),
        ["ahosvd.ranks has the wrong type", "got 'many' (str)", "allowed list of (int, ...) or null"],
    ),
    "rank": (
        compress(NET, GOOD, "ahosvd", "--at", "4", "--set", "ranks=7,1,1"),
        ["the rank of mode 1 does not fit features of shape (6, 4, 4)", "got 7", "allowed 1..6"],
    ),
    "flat rank": (
        compress(NET, GOOD, "pod", "--at", "4", "--set", "rank=97"),
        ["the rank does not fit features of 96 numbers", "got 97", "allowed 1..96"],
    ),
    "share": (
        compress(NET, GOOD, "ahosvd", "-b", "params=130%"),
        ["the budget's amount for 'params' is out of range", "got 130%", "allowed above 0, at most 100 %"],
    ),
    "out is a folder": (
        ["compress", NET, "-d", GOOD, "-r", "pod", "-o", "."],
        ["--out is a folder", "got .", "allowed the file to write", "remedy -o small.netpress"],
    ),
    "weights file": (
        ["train", NET, "-d", GOOD, "-o", "weights.pt"],
        ["weights are written as .safetensors", "got weights.pt", "remedy -o weights.safetensors"],
    ),
    "input": (
        ["profile", NET, "--input", "3,x"],
        ["--input cannot be read", "got '3,x'", "allowed positive integers, such as 3,224,224"],
    ),
    "seed": (compress(NET, GOOD, "ahosvd", "--seed", "-1"), ["'--seed'", "greater than or equal to 0"]),
    "batch": (["profile", NET, "--batch", "0"], ["batch of a latency is out of range", "got 0", "allowed 1 or more"]),
    "threads": (["profile", NET, "--threads", "0"], ["threads of a latency is out of range", "got 0"]),
    "no file to time": (
        ["bench", "latency"],
        ["there are no files to compare", "got none", "remedy netpress bench latency original.netpress"],
    ),
    "files of a topic that takes none": (
        ["bench", "codecs", "pressed.netpress"],
        ["the benchmark 'codecs' takes no files", "got pressed.netpress", "remedy netpress bench latency pressed"],
    ),
    "runtimes of a topic that has none": (
        ["bench", "codecs", "--runtimes", "torch"],
        ["--runtimes belongs to bench latency", "got bench codecs", "remedy leave it out"],
    ),
    "batch of no topic": (["bench", "--batch", "1"], ["--batch belongs to bench latency", "got bench"]),
    "batches": (
        ["bench", "latency", "pressed.netpress", "--batch", "1,x"],
        ["--batch cannot be read", "got '1,x'", "allowed positive integers, such as 1,32"],
    ),
    "several numbers of threads": (
        ["bench", "codecs", "--threads", "1,2"],
        ["one number of threads at a time", "got 1,2", "remedy only bench latency takes several"],
    ),
    "device of a latency": (
        ["bench", "latency", "pressed.netpress", "--device", "cuda"],
        ["bench latency times on the CPU", "got --device cuda", "allowed cpu"],
    ),
    "missing option": (["compress", NET], ["Missing option '--data' / '-d'"]),
    "weights beside a file": (
        compress("pressed.netpress", GOOD, "ahosvd", "-w", "whole.safetensors"),
        ["a .netpress file holds its own weights", "got whole.safetensors", "remedy leave --weights out"],
    ),
    "rows shared": (
        compress(data="npz:good.npz?train=train[:30]&test=train[20:]"),
        ["train and test share rows of train", "got rows 20 to 29", "remedy such as train=train[:20]"],
    ),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_that_are_wrong(case: str, netpress, pressed: Path) -> None:
    arguments, texts = VALUES[case]
    outcome = netpress(*arguments)
    assert outcome.code == TYPED
    assert outcome.out == ""
    for text in texts:
        assert text in outcome.said


WORK = {
    "weights missing": (
        ["profile", "digits_cnn", "-w", "missing.safetensors"],
        ["the weights in missing.safetensors do not fit the network", "2 missing: classifier.weight (10, 256)"],
    ),
    "weights unexpected": (
        compress("digits_cnn", GOOD, "ahosvd", "-w", "unexpected.safetensors"),
        ["do not fit the network", "got 1 unexpected: head.weight (2,)", "remedy build the network that the file"],
    ),
    "weights of another shape": (
        compress("digits_cnn", GOOD, "ahosvd", "-w", "shapes.safetensors"),
        ["1 of another form: classifier.weight (7, 256) where the network has (4, 256)", "allowed the network's"],
    ),
    "weights with NaN": (
        compress("digits_cnn", GOOD, "ahosvd", "-w", "nan.safetensors"),
        ["the weights in nan.safetensors are not all finite", "got NaN or infinity in classifier.bias"],
    ),
    "a network with NaN": (
        compress("networks.py:broken"),
        ["the network's weights are not finite", "got 4.weight", "remedy train again or load other weights"],
    ),
    "no data file": (compress(data="npz:none.npz"), ["there is no such data file", "got none.npz", "check the path"]),
    "data of another kind": (compress(data="npz:text.txt"), ["cannot read text.txt", "remedy write it with np.savez("]),
    "empty data": (compress(data="npz:empty.npz"), ["empty.npz: train is empty", "allowed one image or more"]),
    "one class": (
        compress(data="npz:single.npz"),
        ["the training labels are all of one class", "got class 0 only", "allowed two classes or more"],
    ),
    "labels beyond the classes": (
        compress(data="npz:beyond.npz"),
        ["labels out of range", "allowed 0 to 1 for 2 classes", "remedy number the classes from 0"],
    ),
    "labels below 0": (compress(data="npz:negative.npz"), ["negative.npz: train: labels out of range", "label -1"]),
    "a label too few": (
        compress(data="npz:short.npz"),
        ["not one label an image", "got 40 images, 39 labels", "allowed as many"],
    ),
    "NaN in the images": (
        compress(data="npz:nan.npz"),
        ["images that are not finite", "got NaN or infinity in row 7", "allowed finite numbers"],
    ),
    "no labels": (
        compress(data="npz:unlabelled.npz"),
        ["'unlabelled.npz' has no labels, and this recipe learns from them", "got distill.alpha=0.9"],
    ),
    "no labels, no teacher": (
        compress(NET, "npz:unlabelled.npz", "ahosvd", "--set", "distill=none"),
        ["has no labels", "got distill: none", "allowed distill.alpha=1", "remedy set distill.alpha=1"],
    ),
    "training without labels": (
        ["train", NET, "-d", "npz:unlabelled.npz", "-o", "w.safetensors"],
        ["'unlabelled.npz' has no labels to train a teacher from"],
    ),
    "judging without labels": (
        ["eval", "pressed.netpress", "-d", "npz:unlabelled.npz"],
        ["the test part of 'unlabelled.npz' has no labels to judge by"],
    ),
    "28x28x1 for 3x32x32": (
        compress("resnet20", "npz:grey28.npz"),
        ["the data 'grey28.npz' does not fit the network 'resnet20'", "got inputs of shape (1, 28, 28)",
         "allowed (3, 32, 32), without the batch", "remedy choose data with 3 channels, or a network that takes 1"],
    ),
    "28x28x1 for 3x32x32, train": (
        ["train", "resnet20", "-d", "npz:grey28.npz", "-o", "w.safetensors"],
        ["the data 'grey28.npz' does not fit the network 'resnet20'", "got inputs of shape (1, 28, 28)"],
    ),
    "28x28x1 for 1x8x8": (
        compress(data="npz:grey28.npz"),
        ["the network cannot take the inputs of 'grey28.npz'", "got a batch of shape (2, 1, 28, 28) gives RuntimeError"],
    ),
    "28x28x3 for 3x32x32": (
        compress("vgg16", "npz:rgb28.npz"),
        ["the network cannot take the inputs of 'rgb28.npz'", "shape (2, 3, 28, 28) gives RuntimeError"],
    ),
    "28x28x1 for 1x8x8, train": (
        ["train", NET, "-d", "npz:grey28.npz", "-o", "w.safetensors"],
        ["the network cannot take the inputs of 'grey28.npz'", "remedy choose data of the shape"],
    ),
    "28x28x1 for a file of 1x8x8": (
        ["eval", "pressed.netpress", "-d", "npz:grey28.npz"],
        ["the data 'grey28.npz' does not fit the file's network", "got inputs of shape (1, 28, 28)",
         "allowed (1, 8, 8), without the batch"],
    ),
    "3x32x32 for a file of 1x8x8": (
        compress("pressed.netpress", "npz:rgb32.npz"),
        ["the data 'rgb32.npz' does not fit the network 'pressed.netpress'", "got inputs of shape (3, 32, 32)"],
    ),
    "more classes than outputs": (
        compress("networks.py:network", "digits"),
        ["the data 'digits' has more classes than the network has outputs", "got 10 classes, 4 outputs"],
    ),
    "more classes than outputs, train": (
        ["train", "networks.py:network", "-d", "digits", "-o", "w.safetensors"],
        ["has more classes than the network has outputs", "got 10 classes, 4 outputs"],
    ),
    "more classes than the file knows": (
        ["eval", "pressed.netpress", "-d", "digits"],
        ["'digits' has classes the file's network does not know", "got 10 classes", "allowed 4: a, b, c, d"],
    ),
    "a cut that does not exist": (
        compress(NET, GOOD, "ahosvd", "--at", "44"),
        ["no module of this name is run in the network", "got '44'", "allowed 1, 2, 3, 4, 5, 6, 7, 8",
         "did you mean '4'?"],
    ),
    "a cut that a skip connection crosses": (
        compress("resnet20", "npz:rgb32.npz", "ahosvd", "--at", "layer1.0.conv2"),
        ["the network cannot be cut before 'layer1.0.conv2'", "got 2 tensors cross it",
         "remedy the nearest legal cuts lie before 'layer1', 'layer1.0', 'layer1.0.conv1'"],
    ),
    "a cut where there are no maps": (
        compress(NET, GOOD, "mixer", "--at", "8"),
        ["mixer needs feature maps (C, H, W) at the cut", "got (128,) before '8'", "remedy cut earlier"],
    ),
    "parameters at no cut": (
        compress(NET, GOOD, "ahosvd", "-b", "params=1%"),
        ["the budget cannot be met by any cut", "got 60 parameters and 3,456 MACs before the first cut '1'",
         "allowed params <= 10", "remedy allow more"],
    ),
    "parameters at this cut": (
        compress(NET, GOOD, "pod", "--at", "4", "-b", "params=200"),
        ["the budget cannot be met at this cut: the smallest reduction is still too large",
         "got params 292 (bound 200)", "remedy cut earlier (before the cut stay 72 parameters and 3,456 MACs)"],
    ),
    "parameters with given ranks": (
        compress(NET, GOOD, "ahosvd", "--at", "4", "-b", "params=300,macs=1M", "--set", "ranks=6,4,4"),
        ["the budget cannot be met at this cut", "params 2,164 (bound 300), macs"],
    ),
    "bytes": (
        compress(NET, GOOD, "ahosvd", "-b", "bytes=1kB"),
        ["the budget cannot be met by any cut", "allowed bytes <= 1,000"],
    ),
    "parameters of what does not shrink": (
        compress(NET, GOOD, "finetune", "-b", "params=50%"),
        ["the budget cannot be met", "got params is 1,044, 522 (1e+02 %) over", "allowed params <= 522",
         "the whole network was not trained yet"],
    ),
    "no file": (["eval", "none.netpress", "-d", GOOD], ["the file does not exist", "got 'none.netpress'"]),
    "a folder for a file": (["inspect", "."], ["not a file", "got '.'", "remedy name the .netpress file itself"]),
    "another file": (
        ["inspect", "text.txt"],
        ["this is not a .netpress file", "got it begins with b'no data'", "remedy `netpress compress`"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WORK)
def test_work_that_cannot_be_done(case: str, netpress, pressed: Path, workspace: Path) -> None:
    arguments, texts = WORK[case]
    outcome = netpress(*arguments)
    assert outcome.code == FAILED
    assert outcome.out == ""
    for text in texts:
        assert text in outcome.said
    assert not (workspace / "out.netpress").exists()
    assert not (workspace / "out.netpress.work").exists(), "an early error leaves an empty folder behind"


@pytest.mark.parametrize("case", ["method", "device", "a cut that does not exist", "parameters at no cut", "no labels"])
def test_with_json_too_errors_go_to_stderr_and_stdout_stays_empty(case: str, netpress, pressed: Path) -> None:
    arguments, texts = (NAMES | WORK)[case]
    outcome = netpress(*arguments, "--json")
    assert outcome.code == (TYPED if case in NAMES else FAILED)
    assert outcome.out == ""
    for text in texts:
        assert text in outcome.said


@pytest.mark.parametrize("command", [["inspect"], ["eval", "-d", GOOD], ["profile"]], ids=lambda c: c[0])
def test_truncated_and_altered_files(command: list[str], netpress, pressed: Path, tmp_path: Path) -> None:
    whole = pressed.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content, texts in (
        (whole[: len(whole) // 2], [f"the file ends too early got {len(whole) // 2} bytes allowed {len(whole)}"]),
        (whole[:7], ["the file ends within its header got 7 bytes"]),
        (b"", ["the file ends within its header got 0 bytes"]),
        (bytes(flipped), ["the file was altered after it was written: its checksum does not agree", "got sha256"]),
        (b"PK\3\4" + whole[4:], ["this is not a .netpress file", "got it begins with b'PK"]),
        (whole + b"x", [f"bytes follow the end of the file got {len(whole) + 1} bytes allowed {len(whole)}"]),
    ):
        file = tmp_path / "damaged.netpress"
        file.write_bytes(content)
        outcome = netpress(command[0], file, *command[1:])
        assert outcome.code == FAILED
        assert outcome.out == ""
        for text in [*texts, "remedy"]:
            assert text in outcome.said


def test_a_budget_that_only_a_clock_can_decide_leaves_the_file_alone(netpress, quick, tmp_path: Path) -> None:
    out = tmp_path / "kept.netpress"
    out.write_bytes(b"what was there")
    arguments = ["compress", NET, "-d", GOOD, "-r", "ahosvd", "--at", "4", "-o", out, *quick]
    outcome = netpress(*arguments, "-b", "latency_ms=0.000001")
    assert outcome.code == FAILED
    assert outcome.out == ""
    for text in ("the budget cannot be met", "got latency_ms is 0.", "over", "allowed latency_ms <= 1e-06", "remedy"):
        assert text in outcome.said
    assert out.read_bytes() == b"what was there"
    # Another budget is another run: what the first one left behind is not in its way.
    assert netpress(*arguments, "-b", "latency_ms=1e9").code == 0
    assert out.read_bytes() != b"what was there"


def test_paths_stay_in_one_piece(netpress, tmp_path: Path) -> None:
    """Nothing is wrapped where no terminal shows it, so that a path can be copied."""
    long = tmp_path / ("long" * 40) / "none.netpress"
    assert str(long) in netpress("inspect", long).err


def test_an_interrupt_says_how_to_go_on(netpress, monkeypatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("netpress.data.open_data", interrupted)
    outcome = netpress(*compress())
    assert outcome.code == 130
    assert "interrupted: the same command goes on from the last checkpoint" in outcome.said
