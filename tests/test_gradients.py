"""Gradients over time equal a closed form and finite differences; the command prints, saves and draws them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import refused, run, write
from torch import Tensor

from seq2seq import model_dir
from seq2seq.config import ModelConfig, SearchConfig, TokenizerConfig
from seq2seq.data.batching import Batch, collate
from seq2seq.gradients import GradientCurve, gradients_of_lines, gradients_over_time
from seq2seq.layers.cells import CELLS
from seq2seq.layers.fast import plain_layers
from seq2seq.model import Seq2Seq
from seq2seq.model_dir import Settings, Tokenizers
from seq2seq.text.factory import train_tokenizer
from seq2seq.text.tokenizer import BOS, EOS, PAD
from seq2seq.translator import Translator

SIZE = 12
SRC, TGT = [5, 6, 7, 8, 9], [7, 6, 5, 4]
S, T = len(SRC) + 1, len(TGT) + 1
TEXT = ["a man sleeps", "two women walk in the rain", "", "the dog runs"]


def make(**options: Any) -> Seq2Seq:
    torch.manual_seed(1)
    config = ModelConfig(**({"embedding_size": 3, "hidden_size": 4, "dropout": 0.0} | options))
    model = Seq2Seq(config, src_size=SIZE, tgt_size=SIZE, shared=True).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def pair(src: list[int] = SRC, tgt: list[int] = TGT) -> Batch:
    return collate([src], [tgt], pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=[src])


def curves(found: list[GradientCurve]) -> dict[tuple[str, int], GradientCurve]:
    """Return the curves by name and layer."""
    assert len({(curve.name, curve.layer) for curve in found}) == len(found)
    return {(curve.name, curve.layer): curve for curve in found}


@pytest.mark.parametrize("factor", [0.5, 1.1])
def test_a_linear_cell_gives_powers_of_its_factor(factor: float) -> None:
    model = make(cell="rnn_relu", attention="none", encoder_layers=2, decoder_layers=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight_hh" in name:
                parameter.copy_(factor * torch.eye(len(parameter), dtype=torch.float64))
            elif "bias_hh" in name:
                parameter.fill_(1.0)
            elif any(part in name for part in ("weight_ih", "stack.inputs", "context_gates", "bridge")):
                parameter.mul_(1e-3)  # so that no unit is ever 0, and the cell is linear
    found = curves(gradients_over_time(model, [pair()]))
    states = [(f"encoder {direction}: state", layer) for direction in ("forward", "backward") for layer in (1, 2)]
    states += [("decoder: state", 1), ("decoder: state", 2)]
    assert found.keys() == {*states, ("decoder: loss", 0)}
    for key in states:
        length = T if "decoder" in key[0] else S
        assert found[key].mean == pytest.approx([factor**k for k in range(length)], rel=1e-9)
        assert found[key].pairs == [length - k for k in range(length)]


def jacobian(function: Any, size: int, step: float = 1e-6) -> Tensor:
    """Return central differences of a function of a displacement: (outputs, size)."""
    columns = []
    for unit in step * torch.eye(size, dtype=torch.float64):
        columns.append((function(unit) - function(-unit)) / (2 * step))
    return torch.stack(columns, dim=1)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_encoder_states_equal_finite_differences(cell: str) -> None:
    """Torch's layer reads the pieces up to t-k; its state is displaced; then it reads the pieces up to t."""
    model = make(cell=cell)
    found = curves(gradients_over_time(model, [pair()]))
    layer, embedded = model.encoder.layers[0], model.src_embedding(pair().src).detach()
    for d, direction in enumerate(("forward", "backward")):
        weights = {
            name.removesuffix("_reverse"): parameter
            for name, parameter in layer.named_parameters()
            if name.endswith("_reverse") == bool(d)
        }
        one_way = CELLS[cell].layer(3, 2, batch_first=True).double()
        one_way.load_state_dict(weights)
        inputs = embedded.flip(1) if d else embedded

        def state_after(
            state: Any, first: int, last: int, displacement: Tensor, one_way: Any = one_way, inputs: Tensor = inputs
        ) -> Any:
            """Displace the packed state and read steps first, ..., last - 1."""
            parts = displacement.view(-1, 1, 1, 2)
            if state is not None:
                state = tuple(old + new for old, new in zip(state, parts, strict=True))
                state = state if len(state) > 1 else state[0]
            after = one_way(inputs[:, first:last], state)[1]
            return after if isinstance(after, tuple) else (after,)

        for k in range(1, S):
            norms = []
            for t in range(k, S):
                with torch.no_grad():
                    before = state_after(None, 0, t - k + 1, torch.zeros(0, dtype=torch.float64))
                    width = 2 * len(before)

                    def later(displacement: Tensor, before: Any = before, t: int = t, k: int = k) -> Tensor:
                        return torch.cat(
                            [part.flatten() for part in state_after(before, t - k + 1, t + 1, displacement)]
                        )

                    norms.append(jacobian(later, width).norm() / width**0.5)
            expected = float(torch.stack(norms).mean())
            assert found[f"encoder {direction}: state", 1].mean[k] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"cell": "lstm", "coverage": "sum", "copy": "pointer"},
        {"cell": "gru", "attention": "multi_head", "heads": 2, "layer_norm": True},
        {"cell": "rnn_tanh", "attention": "local_p"},
    ],
    ids=["lstm", "gru", "rnn_tanh"],
)
def test_decoder_states_and_losses_equal_finite_differences(options: dict[str, Any]) -> None:
    """A displacement of the state after step t-k changes attention and context of that step too."""
    model = make(**options)
    found = curves(gradients_over_time(model, [pair()]))
    batch, width = pair(), 4 * model.decoder.stack.cell.parts

    def run_displaced(step: int, displacement: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the states after each step, and the losses, with the state after ``step`` displaced."""
        states: list[Tensor] = []

        def displace(module: Any, arguments: Any, result: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            output, hidden = result
            if len(states) == step:
                output, hidden = output + displacement[:4], hidden + displacement
            states.append(hidden[0, 0])
            return output, hidden

        handle = model.decoder.stack.register_forward_hook(displace)
        with plain_layers(), torch.no_grad():
            losses = -model.log_probs(batch)
        handle.remove()
        return states, losses

    norms: dict[int, list[Tensor]] = {}
    for step in range(T):
        by_state = jacobian(lambda x, step=step: torch.cat(run_displaced(step, x)[0]), width).unflatten(0, (T, width))
        for t in range(step, T):
            norms.setdefault(t - step, []).append(by_state[t].norm() / width**0.5)
    expected = [float(torch.stack(norms[k]).mean()) for k in range(T)]
    assert found["decoder: state", 1].mean == pytest.approx(expected, rel=1e-5)

    def losses_displaced(step: int, displacement: Tensor) -> Tensor:
        def displace(module: Any, arguments: Any, output: Tensor) -> Tensor:
            return output + torch.eye(T, dtype=torch.float64)[step].unsqueeze(1) * displacement

        handle = model.tgt_embedding.register_forward_hook(displace)
        with plain_layers(), torch.no_grad():
            losses = -model.log_probs(batch)
        handle.remove()
        return losses

    by_input = [jacobian(lambda x, step=step: losses_displaced(step, x), 3).norm(dim=1) for step in range(T)]
    expected = [sum(float(by_input[t - k][t]) for t in range(k, T)) / (T - k) for k in range(T)]
    assert found["decoder: loss", 0].mean == pytest.approx(expected, rel=1e-5)
    assert all(not by_input[step][t] for step in range(T) for t in range(step))  # no loss depends on a later input


def test_the_mean_is_over_all_steps_of_all_lines_up_to_the_distance() -> None:
    model = make()
    one, other = pair(), pair([4, 5], [6])
    found = [curves(gradients_over_time(model, some)) for some in ([one], [other], [one, other])]
    for key, both in found[2].items():
        a, b = found[0][key], found[1][key]
        assert len(both.mean) == len(a.mean) > len(b.mean)
        for k in range(len(a.mean)):
            total, count = a.mean[k] * a.pairs[k], a.pairs[k]
            if k < len(b.mean):
                total, count = total + b.mean[k] * b.pairs[k], count + b.pairs[k]
            assert both.mean[k] == pytest.approx(total / count)
            assert both.pairs[k] == count
    short = curves(gradients_over_time(model, [one], max_distance=2))
    for key, curve in short.items():
        assert curve.mean == pytest.approx(found[0][key].mean[:3])


def test_the_model_is_measured_without_dropout_and_does_not_change() -> None:
    model = make(dropout=0.5, recurrent_dropout=0.5, weight_drop=0.5).float()
    plain = make().float()
    plain.load_state_dict(model.state_dict())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cell = model.encoder.cell
    assert gradients_over_time(model, [pair()]) == gradients_over_time(plain, [pair()])
    assert model.training
    assert model.encoder.cell is cell
    assert all(p.requires_grad and p.grad is None and p.dtype == torch.float32 for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_wrong_batches_are_refused() -> None:
    message = "^a batch must hold one pair, so that there is no padding, but holds 2$"
    two = collate([SRC, SRC], [TGT, TGT], pad_id=PAD, bos_id=BOS, eos_id=EOS, copy_ids=[SRC, SRC])
    with pytest.raises(ValueError, match=message):
        gradients_over_time(make(), [two])
    with pytest.raises(ValueError, match=r"^gradients require at least one line that is not blank$"):
        gradients_over_time(make(), [])


def test_an_encoder_with_sentences_is_refused() -> None:
    message = (
        "gradients over time require model.encoder=rnn or transformer, but it is hierarchical, whose layers start anew in "
        "every sentence; choose a model with another encoder"
    )
    model = Seq2Seq(ModelConfig(encoder="hierarchical"), src_size=9, tgt_size=9, shared=True)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        gradients_over_time(model, [pair()])


# ---- the command


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two untrained models whose weights are not those of seed 1."""
    folders = []
    for number, cell in enumerate(("gru", "lstm")):
        folder = tmp_path_factory.mktemp("gradients") / cell
        tokenizer = TokenizerConfig(type="word", vocab_size=50)
        tokenizers = Tokenizers(*[train_tokenizer(TEXT, tokenizer)] * 2)
        search = SearchConfig(beam_size=1, max_length_ratio=1.0, max_length_extra=3)
        model = ModelConfig(cell=cell, embedding_size=4, hidden_size=4, encoder_layers=1 + number)
        settings = Settings(model, tokenizer, search, 4)
        torch.manual_seed(3)
        model_dir.save_settings(folder, settings, tokenizers)
        model_dir.save_weights(folder, model_dir.build_model(settings, tokenizers))
        folders.append(str(folder))
    return folders


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return (
        write(tmp_path / "src", "".join(f"{line}\n" for line in TEXT)),
        write(tmp_path / "tgt", "".join(f"{line}\n" for line in reversed(TEXT))),
    )


def rounded(found: list[GradientCurve]) -> list[dict[str, Any]]:
    return [curve._asdict() | {"mean": pytest.approx(curve.mean)} for curve in found]


def test_the_command_writes_every_number_and_prints_some(
    models: list[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "out.json"
    options = ["--src", files[0], "--tgt", files[1], "--max-distance", "3", "--json", output]
    result = run("gradients", *models, *options)
    assert result.exit_code == 0, result.stderr
    content = json.loads(output.read_text())
    kept = [number for number, line in enumerate(TEXT) if line]
    sources, targets = [TEXT[n] for n in kept], [TEXT[::-1][n] for n in kept]
    assert content["lines"] == 3
    assert list(content["models"]) == models
    for name in models:
        expected = gradients_of_lines(Translator.load(name, device="cpu"), sources, targets, max_distance=3)
        assert content["models"][name] == rounded(expected)
    lines = result.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == models
    assert lines[1].split() == ["k", "0", "1", "2", "3"]
    first = content["models"][models[0]][0]
    assert lines[2].split() == [
        *["encoder", "forward:", "state,", "layer", "1"],
        *(f"{mean:.1e}" for mean in first["mean"]),
    ]
    assert sum("decoder: loss" in line for line in lines) == 2


def test_without_targets_the_translations_of_the_first_model_are_read(
    models: list[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    translator = Translator.load(models[1], device="cpu")
    translations = translator.translate(TEXT[:2])
    outputs = [tmp_path / "own.json", tmp_path / "given.json"]
    given = write(tmp_path / "given", "".join(f"{line}\n" for line in [*translations, "", ""]))
    for output, options in zip(outputs, ([], ["--tgt", given]), strict=True):
        result = run("gradients", models[1], "--src", files[0], *options, "--max-lines", "2", "--json", output)
        assert result.exit_code == 0, result.stderr
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert json.loads(outputs[0].read_text())["lines"] == 2


def test_untrained_adds_the_initial_weights(models: list[str], files: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "out.json"
    result = run("gradients", models[0], "--src", files[0], "--tgt", files[1], "--untrained", "--json", output)
    assert result.exit_code == 0, result.stderr
    found = json.loads(output.read_text())["models"]
    assert list(found) == [f"{models[0]} (untrained)", models[0]]
    settings, tokenizers = model_dir.load_settings(Path(models[0]))
    torch.manual_seed(1)
    initial = Translator(model_dir.build_model(settings, tokenizers), tokenizers, settings.search)
    kept = [number for number, line in enumerate(TEXT) if line]
    expected = gradients_of_lines(initial, [TEXT[n] for n in kept], [TEXT[::-1][n] for n in kept])
    assert found[f"{models[0]} (untrained)"] == rounded(expected)
    assert found[f"{models[0]} (untrained)"] != found[models[0]]


def test_the_picture_has_a_panel_for_each_curve_and_a_label_for_each_model(
    models: list[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    picture = tmp_path / "out.svg"
    result = run("gradients", *models, "--src", files[0], "--max-lines", "1", "--plot", picture)
    assert result.exit_code == 0, result.stderr
    text = picture.read_text()
    for title in ("encoder forward: state", "encoder backward: state", "decoder: state", "decoder: loss"):
        assert text.count(f">{title}<") == 1
    for label in (models[0], f"{models[1]}, layer 1", f"{models[1]}, layer 2"):
        assert len(re.findall(f">[^<]*{re.escape(label[-20:])}<", text)) == 1


def test_wrong_arguments_are_refused(models: list[str], files: tuple[Path, Path], tmp_path: Path) -> None:
    src, _ = files
    blank = write(tmp_path / "blank", "\n \n")
    short = write(tmp_path / "short", "a dog\n")
    same = tmp_path / "out.png"
    cases = [
        ([models[0], models[0], "--src", src], "a model is named twice; name each model once"),
        ([models[0], "--src", blank], f"{blank} has no line that is not blank; give it at least one"),
        ([models[0], "--src", src, "--tgt", short],
         f"{src} has 4 lines but {short} has 1; they must match line by line"),
        ([models[0], "--src", src, "--json", same, "--plot", same],
         f"--json and --plot must be two files, but both are {same}; rename one of them"),
        ([models[0], "--src", src, "--plot", tmp_path / "out.gif"],
         f"a picture's file must end in .png, .svg or .pdf, but is {tmp_path / 'out.gif'}"),
        ([models[0], "--src", src, "--json", src],
         f"the output must not be a file that is read, but {src} is the same file as {src}; write to another file"),
        ([models[0], "--src", src, "--max-distance", "10001"],
         "Invalid value for '--max-distance': it must be at most 10,000, but is 10001: time and memory grow with the "
         "distance; see seq2seq gradients --help"),
    ]  # fmt: skip
    for arguments, message in cases:
        assert refused("gradients", *arguments) == message, arguments


def test_a_picture_requires_matplotlib(
    models: list[str], files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "seq2seq.plot", raising=False)
    message = refused("gradients", models[0], "--src", files[0], "--plot", tmp_path / "out.png")
    assert message.startswith("--plot requires matplotlib (")
    assert message.endswith('); run pip install ".[plot]" in the checkout of seq2seq')
    assert run("gradients", models[0], "--src", files[0]).exit_code == 0
