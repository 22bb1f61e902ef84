"""`train`: what is learned, how it goes on after a kill, and what it refuses. The student is tiny and random."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("peft")

from outspoken import training  # noqa: E402
from outspoken.errors import OutputError, OutspokenError, StoppedError, UsageError  # noqa: E402
from outspoken.training import base_models, loss_page  # noqa: E402
from outspoken.training.record import BaseEntry, StepLoss, TrainingRecord  # noqa: E402
from outspoken.training.training_data import DataSummary  # noqa: E402

SMALL: dict[str, Any] = {"batch_size": 4, "dtype": "float32", "learning_rate": 3e-3, "threads": 1}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    reached: list[Any] = []

    def refuse(_: Any, address: Any) -> None:
        reached.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield
    assert not reached


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    return written(
        tmp_path / "sums.jsonl",
        [{"prompt": f"Q: {a} + {b}?\nA:", "completion": f" {a + b}"} for a in range(4) for b in range(6)],
    )


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}


def test_it_learns_and_leaves_what_can_be_used(tiny: Path, sums: Path, tmp_path: Path, capfd: Any) -> None:
    reported: list[tuple[int, int, float | None]] = []
    out = tmp_path / "学生"
    found = training.train(sums, out=out, model=tiny, epochs=4, progress=lambda *at: reported.append(at), **SMALL)
    assert found.losses[-1] < found.losses[0] - 2
    assert [step for step, _, _ in reported] == list(range(25))
    assert reported[-1][1] == 24
    assert sorted(path.name for path in out.iterdir()) == ["loss.html", "loss.png", "model", "training.json"]
    document = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert document == found.record.to_dict()
    assert training.TrainingRecord.from_dict(document) == found.record
    assert document["data"]["examples"] == 24
    assert document["steps"] == 24 == len(document["losses"])
    assert document["settings"]["seed"] == 0
    assert document["versions"]["trl"]
    assert document["finished"]
    # Every epoch goes over every token once.
    assert document["tokens"] == 4 * document["data"]["tokens"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "http" not in str(found.record.losses)
    assert any(not torch.equal(new, weights(tiny)[name]) for name, new in weights(out / "model").items())
    assert capfd.readouterr().out == ""
    # A finished one is not trained again, and says so.
    again = training.train(sums, out=out, model=tiny, epochs=4, **SMALL)
    assert again.trained_before
    assert again.record == found.record
    # What it has learned is a student itself.
    assert base_models.find_weights(out).folder == str(out / "model")


def test_the_loss_is_that_of_the_answers_tokens_alone(tiny: Path, tmp_path: Path) -> None:
    """The first loss against a forward pass by hand, one row at a time, without padding."""
    import transformers as hf

    rows = [("Q: how much is 2 + 2?\nA:", " four"), ("猫は？", " 🐈 a cat, قط"), ("x", " y")]
    data = written(tmp_path / "d.jsonl", [{"prompt": p, "completion": c} for p, c in rows])
    found = training.train(data, out=tmp_path / "o", model=tiny, max_steps=1, **SMALL)
    model = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    tokenizer = hf.AutoTokenizer.from_pretrained(tiny)
    total, count = 0.0, 0
    for prompt, completion in rows:
        before = tokenizer(prompt)["input_ids"]
        after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, torch.tensor(after), reduction="sum"))
        count += len(after)
    assert found.losses[0] == pytest.approx(total / count, rel=1e-4)
    assert found.record.data.tokens_learned == count


def test_batches_that_are_added_up_are_one_step(tiny: Path, sums: Path, tmp_path: Path) -> None:
    options = {**SMALL, "max_steps": 3}
    whole = training.train(sums, out=tmp_path / "a", model=tiny, **{**options, "batch_size": 8})
    parts = training.train(
        sums, out=tmp_path / "b", model=tiny, **{**options, "batch_size": 2}, gradient_accumulation=4
    )
    assert parts.losses == pytest.approx(whole.losses, rel=1e-4)


def test_seeds_give_other_students_and_the_same_seed_the_same(tiny: Path, sums: Path, tmp_path: Path) -> None:
    one, two, other = (
        training.train(sums, out=tmp_path / name, model=tiny, max_steps=4, seed=seed, **SMALL).losses
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == two != other


_KILLED = """
import os, signal, sys
from pathlib import Path
from outspoken import training  # noqa: E402

def tell(step, steps, loss):
    if loss is not None:
        with open(sys.argv[4], "a") as file:
            file.write(f"{step}\\n")
    if step == 9:
        os.kill(os.getpid(), signal.SIGKILL)

training.train(Path(sys.argv[1]), out=sys.argv[2], model=sys.argv[3], max_steps=14, save_every=4, batch_size=4,
               dtype="float32", learning_rate=3e-3, threads=1, lora=sys.argv[5] == "lora", lora_dropout=0.1, progress=tell)
"""


@pytest.mark.parametrize("how", [pytest.param("full", marks=pytest.mark.proof(only=True)), "lora"])
def test_a_killed_training_goes_on_and_ends_as_if_nothing_had_happened(
    tiny: Path, sums: Path, tmp_path: Path, how: str
) -> None:
    steps = tmp_path / "steps"
    command = [sys.executable, "-c", _KILLED, str(sums), str(tmp_path / "killed"), str(tiny), str(steps), how]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert steps.read_text().split() == [str(step) for step in range(1, 10)]
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert [path.name for path in checkpoints.glob("checkpoint-*")] == ["checkpoint-8"]
    # Half a checkpoint, as a kill within the writing leaves it, is no checkpoint.
    (checkpoints / "checkpoint-12").mkdir()
    options = {**SMALL, "max_steps": 14, "save_every": 4, "lora": how == "lora", "lora_dropout": 0.1}
    reported: list[int] = []
    resumed = training.train(
        sums, out=tmp_path / "killed", model=tiny, progress=lambda step, *_: reported.append(step), **options
    )
    assert reported == list(range(8, 15))
    whole = training.train(sums, out=tmp_path / "whole", model=tiny, **options)
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)
    assert resumed.record.tokens == whole.record.tokens
    for name, tensor in weights(tmp_path / "whole" / "model").items():
        assert torch.allclose(tensor, weights(tmp_path / "killed" / "model")[name], atol=1e-6), name
    assert not checkpoints.exists()


def test_a_stop_writes_a_checkpoint_and_other_settings_are_refused(tiny: Path, sums: Path, tmp_path: Path) -> None:
    out, reported = tmp_path / "out", []

    def go(stopped: Callable[[], bool] | None = None, **changed: Any) -> Any:
        options = {**SMALL, "max_steps": 6, **changed}
        return training.train(
            sums, out=out, model=tiny, stopped=stopped, progress=lambda step, *_: reported.append(step), **options
        )

    with pytest.raises(StoppedError, match=r"step 3 of 6.*continues from there"):
        go(stopped=lambda: reported[-1] >= 2 if reported else False)
    with pytest.raises(UsageError, match=r"seed was 0, now 5.*--overwrite"):
        go(seed=5)
    sums_before = sums.read_text()
    sums.write_text(sums_before + sums_before)
    with pytest.raises(UsageError, match="data was"):
        go()
    sums.write_text(sums_before)
    reported.clear()
    assert go(save_every=100).record.steps == 6
    assert reported[0] == 3
    with pytest.raises(UsageError, match="seed was 0, now 5"):
        go(seed=5)
    other = training.train(sums, out=out, model=tiny, overwrite=True, **{**SMALL, "max_steps": 1, "seed": 5})
    assert other.record.steps == 1


def test_an_interrupt_is_a_stop(tiny: Path, sums: Path, tmp_path: Path) -> None:
    def press(step: int, *_: Any) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match=r"step [34] of 8"):
        training.train(sums, out=tmp_path / "o", model=tiny, max_steps=8, progress=press, **SMALL)
    assert signal.getsignal(signal.SIGINT) is before
    assert list((tmp_path / "o" / "checkpoints").glob("checkpoint-*"))


def test_lora_keeps_the_adapter_and_merges_it(tiny: Path, sums: Path, tmp_path: Path) -> None:
    import peft
    import transformers as hf

    found = training.train(sums, out=tmp_path / "o", model=tiny, lora=True, lora_rank=4, epochs=3, **SMALL)
    assert found.losses[-1] < found.losses[0]
    base = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):
        adapted = peft.PeftModel.from_pretrained(base, tmp_path / "o" / "adapter").eval()
    merged = hf.AutoModelForCausalLM.from_pretrained(found.model, dtype=torch.float32)
    ids = torch.tensor([[5, 77, 1234, 9]])
    with torch.no_grad():
        assert torch.allclose(adapted(ids).logits, merged(ids).logits, atol=1e-4)


def test_bfloat16_learns_the_same_and_writes_half(tiny: Path, sums: Path, tmp_path: Path) -> None:
    exact = training.train(sums, out=tmp_path / "a", model=tiny, epochs=3, **SMALL)
    rough = training.train(sums, out=tmp_path / "b", model=tiny, epochs=3, **{**SMALL, "dtype": "bfloat16"})
    assert rough.losses == pytest.approx(exact.losses, rel=0.05)
    assert rough.losses != exact.losses
    sizes = [(found.model / "model.safetensors").stat().st_size for found in (exact, rough)]
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.05)


def test_dpo_comes_to_prefer_what_was_chosen(tiny: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"Q: {a}?\nA:", "chosen": " yes", "rejected": " no, إطلاقا"} for a in range(12)]
    data = written(tmp_path / "pairs.jsonl", rows)
    found = training.train(data, out=tmp_path / "o", model=tiny, objective="dpo", epochs=3, **SMALL)
    first, last = found.record.losses[0], found.record.losses[-1]
    assert first.loss == pytest.approx(0.6931, abs=1e-3)
    assert last.loss < 0.5
    assert last.margin > 0
    assert last.preferred == 1
    assert "preference" in (tmp_path / "o" / "loss.html").read_text(encoding="utf-8")


def test_packing_learns_the_same_from_each_example(tiny: Path, tmp_path: Path) -> None:
    """The first loss of one packed row is that of its examples apart: none of them sees another."""
    data = written(tmp_path / "d.jsonl", [{"prompt": f"{a} is", "completion": f" {a} {a}"} for a in range(4)])
    options = {**SMALL, "max_steps": 1, "batch_size": 4}
    apart = training.train(data, out=tmp_path / "a", model=tiny, **options)
    packed = training.train(data, out=tmp_path / "b", model=tiny, packing=True, **options)
    assert packed.losses == pytest.approx(apart.losses, rel=1e-3)


def test_what_is_not_ours_is_never_touched(tiny: Path, sums: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    (out / "model").mkdir(parents=True)
    (out / "model" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="holds files of something else"):
            training.train(sums, out=out, model=tiny, overwrite=overwrite, **SMALL)
    assert (out / "model" / "thesis.txt").read_text() == "years of work"
    done = tmp_path / "done"
    training.train(sums, out=done, model=tiny, **{**SMALL, "max_steps": 1})
    (done / "notes.md").write_text("mine")
    training.train(sums, out=done, model=tiny, overwrite=True, **{**SMALL, "max_steps": 2})
    assert (done / "notes.md").read_text() == "mine"


def test_bad_input_leaves_an_earlier_student_alone(tiny: Path, sums: Path, tmp_path: Path) -> None:
    found = training.train(sums, out=tmp_path / "o", model=tiny, **{**SMALL, "max_steps": 1})
    bad = written(tmp_path / "bad.jsonl", [{"q": 1}])
    with pytest.raises(UsageError, match="none of the 1 row "):
        training.train(bad, out=tmp_path / "o", model=tiny, overwrite=True, **SMALL)
    assert weights(found.model)


def test_a_disk_that_is_too_small_is_an_error_before_training(
    tiny: Path, sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("outspoken.io.atomic.shutil.disk_usage", lambda _: usage(10, 9, 2**20))
    with pytest.raises(OutputError, match="make room"):
        training.train(sums, out=tmp_path / "o", model=tiny, **SMALL)
    # With room made, the same command works.
    monkeypatch.undo()
    assert training.train(sums, out=tmp_path / "o", model=tiny, **{**SMALL, "max_steps": 1}).record.steps == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "No space left on device.*the same command continues"),
        (RuntimeError("[enforce fail at inline_container.cc] PytorchStreamWriter failed"), "cannot be written"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "lower --batch-size"),
    ],
)
def test_a_full_disk_or_memory_while_it_trains(
    error: Exception, message: str, tiny: Path, sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outspoken.training import trainers

    def fail(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(trainers._Sft, "_save_optimizer_and_scheduler", fail)
        with pytest.raises(OutspokenError, match=message):
            training.train(sums, out=tmp_path / "o", model=tiny, max_steps=3, save_every=1, **SMALL)
    # The half that it left is no checkpoint, and the same call goes on.
    found = training.train(sums, out=tmp_path / "o", model=tiny, max_steps=3, save_every=1, **SMALL)
    assert found.record.steps == 3


def test_two_cannot_train_into_one_folder(tiny: Path, sums: Path, tmp_path: Path) -> None:
    def second(step: int, *_: Any) -> None:
        if step == 1:
            training.train(sums, out=tmp_path / "o", model=tiny, **SMALL)

    with pytest.raises(UsageError, match="another process is writing"):
        training.train(sums, out=tmp_path / "o", model=tiny, progress=second, **{**SMALL, "max_steps": 2})


def test_a_loss_that_is_no_number_ends_it(tiny: Path, sums: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="lower --learning-rate"):
        training.train(sums, out=tmp_path / "o", model=tiny, epochs=30, **{**SMALL, "learning_rate": 1e30})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "rl"}, "unknown objective"),
        ({"learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 on"),
        ({"epochs": 0}, "epochs must be a number above 0"),
        ({"warmup": 1.0}, "at least 0 and below 1"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"objective": "dpo", "packing": True}, "packing is for sft"),
    ],
)
def test_settings_that_cannot_be(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        training.train("x.jsonl", out=tmp_path / "o", **options)


def test_the_page_holds_text_of_the_data_as_text() -> None:
    record = TrainingRecord(
        version="0",
        created="",
        settings={"objective": "sft"},
        data=DataSummary("<script>alert(1)</script>", "", examples=1),
        base=BaseEntry("مدل 🙂", ""),
        versions={},
        device="cpu",
        steps=4999,
        seconds=1,
        tokens=1,
        losses=tuple(StepLoss(step, 1 / step, 0.0, 1) for step in range(1, 5000)),
    )
    page = loss_page.render(record)
    assert "<script>alert(1)" not in page
    assert "مدل 🙂" in page
    assert len(page) < 1_500_000


@pytest.mark.proof(only=True)
def test_the_embedded_model_learns_in_a_few_steps(sums: Path, tmp_path: Path) -> None:
    begun = time.monotonic()
    found = training.train(sums, out=tmp_path / "o", max_steps=3, batch_size=4, learning_rate=1e-4, warmup=0)
    assert found.losses[-1] < found.losses[0], f"{found.losses} in {time.monotonic() - begun:.0f} s"
    assert found.record.base.name == "local/smollm2"
