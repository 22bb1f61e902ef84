"""`evaluate`: questions read, answers made and kept, marks given. The students are tiny and random, or recorded."""

from __future__ import annotations

import collections
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outspoken import training  # noqa: E402
from outspoken.errors import StoppedError, UsageError  # noqa: E402
from outspoken.training import base_models, questions  # noqa: E402
from outspoken.training.accuracy import Grade, Grades, grade  # noqa: E402
from outspoken.training.generation import Decoder, TokenPrompt  # noqa: E402
from outspoken.training.questions import (  # noqa: E402
    GREEDY,
    AnswerFile,
    EvalQuestion,
    StudentAnswer,
)

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return base_models.load_tokenizer(base_models.find_weights("local/smollm2"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A random Llama of two layers with the tokenizer of the embedded model."""
    import transformers as hf

    folder = tmp_path_factory.mktemp("students") / "tiny"
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(config)
    with torch.no_grad():  # peaked enough that what is likely is no matter of rounding
        model.lm_head.weight.mul_(20)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return written(tmp_path / "test.jsonl", [{"question": f"{a} + {a}?", "answer": str(2 * a)} for a in range(12)])


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def replayed(path: Path, answers: dict[str, list[str]]) -> str:
    """A student whose answers to each question are known."""
    rows = [
        {"messages": [{"role": "user", "content": asked}], "text": text}
        for asked, texts in answers.items()
        for text in texts
    ]
    return f"replay/{written(path, rows)}"


ASKED = {"plain": True, "max_tokens": 6, "dtype": "float32", "threads": 1}


def test_batches_answer_as_each_prompt_alone(tiny: Path, tokenizer: Any) -> None:
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    texts = ["a", "猫は寝る", "one two three four five six", "x" * 50, "مرحبا بالعالم", "😀 b", "c d"]
    prompts = [tuple(tokenizer(text)["input_ids"]) for text in texts]
    decoder = Decoder(model, tokenizer, batch_size=4, max_tokens=12)
    found = {at: made for batch in decoder.answers([TokenPrompt(ids) for ids in prompts]) for at, made in batch}
    for at, ids in enumerate(prompts):
        whole = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        )[0][len(ids) :]
        assert found[at].text == tokenizer.decode(whole, skip_special_tokens=True)
        assert found[at].tokens == len(whole)


def test_a_sample_depends_on_its_name_only_and_follows_the_model(tiny: Path, tokenizer: Any) -> None:
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    ids = tuple(tokenizer("Once upon")["input_ids"])
    many = [TokenPrompt(ids, f"draw {at}") for at in range(1500)]

    def drawn(asked: list[TokenPrompt], **options: Any) -> list[str]:
        made = {at: found for batch in Decoder(model, tokenizer, **options).answers(asked) for at, found in batch}
        return [made[at].text for at in range(len(asked))]

    options = {"max_tokens": 3, "temperature": 1.5, "seed": 3}
    together = drawn(many[:30], batch_size=30, **options)
    assert drawn(many[:30][::-1], batch_size=7, **options)[::-1] == together
    assert drawn(many[:30], batch_size=30, **{**options, "seed": 4}) != together
    counts = collections.Counter(drawn(many, batch_size=500, max_tokens=1, temperature=1.5))
    with torch.no_grad():
        chances = torch.softmax(model(torch.tensor([ids])).logits[0, -1] / 1.5, dim=-1)
    top = chances.topk(5)
    for chance, token in zip(top.values.tolist(), top.indices.tolist(), strict=True):
        spread = 4 * np.sqrt(chance * (1 - chance) * len(many))
        assert abs(counts[tokenizer.decode([token])] - chance * len(many)) < max(spread, 4)
    nucleus = drawn(many[:200], batch_size=200, max_tokens=1, temperature=1.5, top_p=float(top.values[0]) / 2)
    assert set(nucleus) == {tokenizer.decode([int(top.indices[0])])}


def test_an_answer_ends_at_the_end_token_at_a_stop_and_at_the_context(tiny: Path, tokenizer: Any) -> None:
    import transformers as hf

    model = hf.AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    ids = tuple(tokenizer("Once upon")["input_ids"])
    [[(_, free)]] = Decoder(model, tokenizer, max_tokens=8).answers([TokenPrompt(ids)])
    assert (free.finish, free.tokens) == ("length", 8)
    second = tokenizer.decode(tokenizer(free.text, add_special_tokens=False)["input_ids"][1:2])
    [[(_, stopped)]] = Decoder(model, tokenizer, max_tokens=8, stop=(second,)).answers([TokenPrompt(ids)])
    assert stopped.finish == "stop"
    assert stopped.text == free.text[: free.text.find(second)]
    [[(_, full)]] = Decoder(model, tokenizer, max_tokens=500).answers([TokenPrompt(ids * 60)])
    assert (full.tokens, full.finish) == (128 - len(ids) * 60, "length")
    with pytest.raises(UsageError, match="context holds 128"):
        next(Decoder(model, tokenizer).answers([TokenPrompt(ids * 64)]))


def test_real_students_are_asked_once_and_their_answers_kept(tiny: Path, paper: Path, tmp_path: Path) -> None:
    out, reported = tmp_path / "結果", []
    options = {**ASKED, "samples": 2, "progress": lambda *at: reported.append(at)}
    first = training.evaluate(paper, students={"tiny": tiny}, out=out, limit=8, **options)
    assert first.students[0].results["test"].greedy.counts.answers == 8
    files = sorted(path.name.rsplit("-", 1)[0] for path in (out / "answers").iterdir())
    assert files == ["tiny-greedy", "tiny-sampled"]
    lines = {path: path.read_text() for path in (out / "answers").iterdir()}
    reported.clear()
    again = training.evaluate(paper, students={"tiny": tiny}, out=out, limit=8, **options)
    assert not [what for what, *_ in reported if what.startswith("asking")]
    assert again.students == first.students
    # More questions and samples ask for these alone; a new name finds the answers of the old one.
    more = training.evaluate(paper, students={"renamed": tiny}, out=out, **{**options, "samples": 3})
    asked = [at for at in reported if at[0] == "asking renamed"]
    assert asked[0] == ("asking renamed", 24, 48)
    assert all(path.read_text().startswith(text) for path, text in lines.items())
    assert more.students[0].results["test"].sampled.counts.answers == 36
    document = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert document == more.to_dict()
    # Another temperature draws again and keeps the greedy answers.
    reported.clear()
    training.evaluate(paper, students={"tiny": tiny}, out=out, **{**options, "temperature": 0.5})
    assert next(at for at in reported if at[0].startswith("asking")) == ("asking tiny", 12, 36)


_KILLED = """
import os, signal, sys
from outspoken import training  # noqa: E402
def tell(what, done, total):
    if what.startswith("asking") and done >= 6:
        os.kill(os.getpid(), signal.SIGKILL)
training.evaluate(sys.argv[1], students={"s": sys.argv[2]}, out=sys.argv[3], plain=True, max_tokens=6, samples=1,
                  dtype="float32", threads=1, batch_size=2, progress=tell)
"""


def test_a_killed_evaluation_asks_nothing_twice(tiny: Path, paper: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    command = [sys.executable, "-c", _KILLED, str(paper), str(tiny), str(out)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = [path for path in (out / "answers").iterdir() if path.stat().st_size]
    with kept[0].open("ab") as file:  # what a kill in the middle of a line leaves
        file.write(b'{"key": "half a li')
    reported: list[tuple[str, int, int]] = []
    options = {**ASKED, "samples": 1, "batch_size": 2, "progress": lambda *at: reported.append(at)}
    resumed = training.evaluate(paper, students={"s": tiny}, out=out, **options)
    assert reported[0] == ("asking s", 6, 24)
    whole = training.evaluate(paper, students={"s": tiny}, out=tmp_path / "whole", **options)
    assert resumed.students == whole.students
    for path in (out / "answers").iterdir():
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        keys = [(row["key"], row["sample"]) for row in rows]
        assert len(set(keys)) == len(keys) == 12
        other = [
            json.loads(line) for line in (tmp_path / "whole" / "answers" / path.name).read_text().splitlines()
        ]
        assert sorted(rows, key=str) == sorted(other, key=str)


def test_a_stop_keeps_what_was_answered(tiny: Path, paper: Path, tmp_path: Path) -> None:
    with pytest.raises(StoppedError, match=r"4 of 12.*continues from there"):
        training.evaluate(paper, students=[tiny], out=tmp_path, stopped=lambda: True, batch_size=4, **ASKED)
    reported: list[Any] = []
    training.evaluate(paper, students=[tiny], out=tmp_path, progress=lambda *at: reported.append(at), **ASKED)
    assert reported[0] == ("asking tiny", 4, 12)


def test_other_models_are_asked_through_the_ledger(tmp_path: Path) -> None:
    paper = written(tmp_path / "q.jsonl", [{"prompt": f"{a}²?", "answer": f"{a * a}"} for a in range(8)])
    good = {
        f"{a}²?": [f"It is \\boxed{{{a * a}}}.", f"#### {a * a}", f"{a * a}", "I really have no idea"]
        for a in range(8)
    }
    poor = {f"{a}²?": [f"{a * a if a < 3 else -1}", "7", "7", f"{a * a}"] for a in range(8)}
    students = {"good": replayed(tmp_path / "g.jsonl", good), "poor": replayed(tmp_path / "p.jsonl", poor)}
    found = training.evaluate(paper, students=students, out=tmp_path / "o", samples=3)
    one, two = (student.results["q"].to_dict() for student in found.students)
    assert one["greedy"]["accuracy"]["value"] == 1
    assert two["greedy"]["right"] == 3
    assert one["sampled"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert one["sampled"]["majority"]["value"] == 1
    assert one["sampled"]["without_final"] == 8
    assert two["sampled"]["pass@3"]["value"] == 1
    greedy = next(entry for entry in found.comparisons if entry.measure == "greedy")
    assert (greedy.only_a, greedy.only_b) == (5, 0)
    assert greedy.p == pytest.approx(2 * 0.5**5)
    assert (tmp_path / "o" / "ledger.sqlite").exists()


def test_answers_that_do_not_come_are_left_out_and_said(tmp_path: Path) -> None:
    paper = written(tmp_path / "q.jsonl", [{"prompt": f"{a}?", "answer": "1"} for a in range(4)])
    source = replayed(tmp_path / "r.jsonl", {f"{a}?": ["1"] for a in range(3)})
    found = training.evaluate(paper, students={"r": source}, out=tmp_path / "o")
    assert (found.unanswered, found.students[0].results["q"].answered) == (1, 3)
    assert "r lacks 1 answer," in found.warnings[0]


@pytest.mark.parametrize(
    ("answer", "finish", "final", "right"),
    [
        ("so #### 18", "stop", "18", True),
        ("18", "stop", "18", True),
        ("The answer is 17.", "stop", "17", False),
        ("I do not know what to say here", "stop", None, False),
        ("first 3, then 18", "length", None, False),
        ("It is \\boxed{18}, since we know that", "length", "18", True),
        ("", "stop", None, False),
        ("答案是18。", "stop", "18", True),
    ],
)
def test_marks(answer: str, finish: str, final: str | None, right: bool) -> None:
    found = grade(EvalQuestion("k", "q", "18", "x:1"), StudentAnswer("k", GREEDY, answer, 1, finish))
    assert (found.final, found.right, found.cut_off) == (final, right, finish == "length")


def test_votes() -> None:
    def marks(*finals: str | None) -> list[Grade]:
        return [Grade(final, final == "5", False) for final in finals]

    votes = [marks("5", "7", "5"), marks("5", "7", "7"), marks("5", "7", None), marks(None, None, None)]
    asked = [EvalQuestion(str(at), "q", "5", "x") for at in range(4)]
    entry = Grades(asked, [each[0] for each in votes], votes).score(3).to_dict()["sampled"]
    assert entry["majority"]["value"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert entry["pass@3"]["value"] == 0.75
    assert entry["accuracy"]["value"] == pytest.approx(4 / 12)


def test_half_lines_and_other_files_of_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with AnswerFile(path) as kept:
        kept.add([StudentAnswer("k", 0, "é\n😀", 3, "stop"), StudentAnswer("k", 1, "\udc80", 1, "stop")])
    path.write_bytes(path.read_bytes() + b"not json\n" + b'{"key": "k", "sample": 2')
    with AnswerFile(path) as kept:
        assert kept.get("k", 0) == StudentAnswer("k", 0, "é\n😀", 3, "stop")
        assert kept.get("k", 2) is None
        kept.add([StudentAnswer("k", 2, "new", 1, "stop")])
    with AnswerFile(path) as kept:
        assert [kept.get("k", at) is not None for at in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(("name", "count"), [("gsm8k/test.jsonl", 1319), ("math/math.jsonl", 500)])
def test_real_benchmarks_are_read(name: str, count: int) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is absent")
    [paper] = questions.read_questions([DATA / name])
    assert len(paper.questions) == count == len({question.key for question in paper.questions})
    first = paper.questions[0]
    assert first.answer == {"gsm8k/test.jsonl": "18", "math/math.jsonl": r"\left( 3, \frac{\pi}{2} \right)"}[name]
    assert all(
        grade(q, StudentAnswer(q.key, GREEDY, f"\\boxed{{{q.answer}}}", 1, "stop")).right
        for q in paper.questions[:40]
    )
    [drawn] = questions.read_questions([DATA / name], limit=20, seed=1)
    assert (
        drawn
        == questions.read_questions([DATA / name], limit=20, seed=1)[0]
        != questions.read_questions([DATA / name], limit=20)[0]
    )
    assert (len(drawn.questions), drawn.entry.of) == (20, count)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "1", "answer": "2"}, r"columns q, answer.*'question', 'problem' or 'prompt'.*rename"),
        ({"question": "1", "reply": "2"}, "a column 'answer'"),
        ({"question": " ", "answer": "2"}, "'question' holds no text"),
        ({"question": "a", "answer": None}, "'answer' holds no text"),
        ("text", "not a JSON object"),
    ],
)
def test_files_in_the_wrong_shape(row: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        questions.read_questions([written(tmp_path / "q.jsonl", [row])])


def test_a_student_without_a_chat_template_needs_plain_questions(tiny: Path, paper: Path, tmp_path: Path) -> None:
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    (bare / "chat_template.jinja").unlink()
    options = {**ASKED, "plain": False}
    with pytest.raises(UsageError, match=r"has no chat template.*--plain"):
        training.evaluate(paper, students=[bare], out=tmp_path / "o", **options)
    assert training.evaluate(paper, students=[bare], out=tmp_path / "o", **ASKED).students


def test_what_cannot_be_evaluated(paper: Path, tiny: Path, tmp_path: Path) -> None:
    def refused(message: str, **changed: Any) -> None:
        given = {"students": [tiny], "out": tmp_path / "o", **ASKED, **changed}
        with pytest.raises(UsageError, match=message):
            training.evaluate(given.pop("questions", paper), **given)

    refused("there is no student", students=[])
    refused("has no students", arms={"a": []})
    refused("appears in the arms twice", arms={"a": [tiny], "b": [tiny]})
    refused("is named twice", students=[tiny, tiny])
    refused("are called 'tiny'", arms={"tiny": [tiny]})
    refused("no such file", questions=tmp_path / "nothing.jsonl")
    refused("is a folder", questions=tmp_path)
    refused("same questions are named twice", questions=[paper, paper])
    refused(r"no \{question\}", plain=False, question_format="Q:")
    refused("choose one of plain and question_format", question_format="{question}")
    refused("does not exist", students=["./nowhere"])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "results.json").write_text('{"kind": "typicality"}')
    refused("results of something else", out=tmp_path / "other")
