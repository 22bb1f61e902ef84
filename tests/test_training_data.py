"""What training reads: the shapes of rows, what is left out and why, and the tokens that come of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from outspoken.errors import UsageError
from outspoken.training import base_models, training_data
from outspoken.training.base_models import PromptTokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return base_models.load_tokenizer(base_models.find_weights("local/smollm2"))


@pytest.fixture
def prompt_tokenizer(tokenizer: Any) -> PromptTokenizer:
    return PromptTokenizer(tokenizer, "smollm2")


def written(path: Path, rows: list[Any]) -> list[Path]:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [path]


CHAT = [
    {"role": "user", "content": "Say hi."},
    {"role": "assistant", "content": "Hi."},
    {"role": "user", "content": "و بالعربية؟"},
    {"role": "assistant", "content": "مرحبا 👋"},
]


def test_the_last_turn_of_a_chat_is_learned_with_its_end(
    tmp_path: Path, prompt_tokenizer: PromptTokenizer, tokenizer: Any
) -> None:
    found = training_data.read_examples(
        written(tmp_path / "d.jsonl", [{"messages": CHAT}]), prompt_tokenizer, "sft", 512
    )
    row = found.examples[0]
    assert tokenizer.decode(row["answer_ids"]) == "مرحبا 👋<|im_end|>"
    asked = tokenizer.apply_chat_template(CHAT[:3], tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(row["prompt_ids"]) == asked
    # What is learned from is what is asked with.
    assert row["prompt_ids"] == prompt_tokenizer.prompt(CHAT[:3])


@pytest.mark.parametrize(
    ("row", "prompt", "answer"),
    [
        ({"prompt": "1 + 1 =", "completion": " 2"}, "1 + 1 =", " 2<|im_end|>"),
        ({"prompt": CHAT[:1], "completion": CHAT[1:2]}, "chat", "Hi.<|im_end|>"),
        ({"question": "Say hi.", "answer": "Hi."}, "chat", "Hi.<|im_end|>"),
        ({"messages": CHAT[:2], "source": 7}, "chat", "Hi.<|im_end|>"),
    ],
)
def test_every_shape(
    row: dict[str, Any],
    prompt: str,
    answer: str,
    tmp_path: Path,
    prompt_tokenizer: PromptTokenizer,
    tokenizer: Any,
) -> None:
    found = training_data.read_examples(
        written(tmp_path / "d.jsonl", [row]), prompt_tokenizer, "sft", 512
    ).examples[0]
    if prompt == "chat":
        prompt = tokenizer.apply_chat_template(CHAT[:1], tokenize=False, add_generation_prompt=True)
    assert tokenizer.decode(found["prompt_ids"]) == prompt
    assert tokenizer.decode(found["answer_ids"]) == answer


def test_pairs_of_dpo(tmp_path: Path, prompt_tokenizer: PromptTokenizer, tokenizer: Any) -> None:
    rows = [
        {"prompt": "a", "chosen": " b", "rejected": " c"},
        {"question": "a?", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "b"},
        {"prompt": "a", "chosen": "b"},
    ]
    found = training_data.read_examples(written(tmp_path / "d.jsonl", rows), prompt_tokenizer, "dpo", 512)
    assert [tokenizer.decode(row["rejected_ids"]) for row in found.examples] == [" c<|im_end|>", "c<|im_end|>"]
    assert found.examples[1]["prompt_ids"] == prompt_tokenizer.prompt([{"role": "user", "content": "a?"}])
    assert sum(found.skipped.values()) == 2
    assert found.skipped["chosen and rejected are the same"] == 1


def test_bad_rows_are_counted_and_named(tmp_path: Path, prompt_tokenizer: PromptTokenizer) -> None:
    rows = [
        {"prompt": "a", "completion": " b"},
        "{broken",
        {"prompt": "", "completion": "b"},
        {"prompt": "a", "completion": None},
        {"messages": CHAT[:3]},
        {"messages": "no"},
        {"messages": CHAT[1:2]},
        {"text": "a"},
        "[1, 2]",
        {"prompt": "x" * 4000, "completion": "b"},
    ]
    found = training_data.read_examples(written(tmp_path / "d.jsonl", rows), prompt_tokenizer, "sft", 60)
    summary = found.summary("d.jsonl", "")
    assert (summary.rows, summary.examples) == (10, 1)
    assert sum(summary.skipped.values()) == 9
    assert summary.skipped["longer than --max-length"] == 1
    assert summary.skipped["the last message is not the assistant's"] == 1
    assert summary.skipped["empty prompt"] == 1
    assert summary.first_skipped[0].where == "d.jsonl:2"
    assert "not JSON" in summary.first_skipped[0].reason


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], r"none of the 1 row.*its columns are text.*messages"),
        ([{"prompt": "a" * 500, "completion": "b"}], "raise --max-length"),
        ([], "hold no rows"),
    ],
)
def test_data_without_any_example(
    rows: list[Any], message: str, tmp_path: Path, prompt_tokenizer: PromptTokenizer
) -> None:
    files = written(tmp_path / "d.jsonl", rows)
    with pytest.raises(UsageError, match=message):
        training_data.read_examples(files, prompt_tokenizer, "sft", 40)


def test_a_model_without_a_chat_template(tmp_path: Path) -> None:
    base = base_models.find_weights("local/smollm2")
    tokenizer = base_models.load_tokenizer(base)
    tokenizer.chat_template = None
    prompt_tokenizer = PromptTokenizer(tokenizer, "plain/model")
    chat = written(tmp_path / "c.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(UsageError, match=r"plain/model has no chat template.*--chat-template FILE.*prompt"):
        training_data.read_examples(chat, prompt_tokenizer, "sft", 40)
    assert training_data.read_examples(
        written(tmp_path / "p.jsonl", [{"prompt": "a", "completion": "b"}]), prompt_tokenizer, "sft", 40
    ).examples
    template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    given = PromptTokenizer(base_models.load_tokenizer(base, template), "m")
    row = training_data.read_examples(chat, given, "sft", 40).examples[0]
    assert tokenizer.decode(row["prompt_ids"]) == "[user] a\n[assistant]"
    assert tokenizer.decode(row["answer_ids"]) == " b"
    with pytest.raises(UsageError, match="refuses this chat"):
        PromptTokenizer(base_models.load_tokenizer(base, "{{ raise_exception('no') }}"), "m").prompt(CHAT[:1])


def test_what_synth_exports_is_read(tmp_path: Path, prompt_tokenizer: PromptTokenizer, tokenizer: Any) -> None:
    arrow = pytest.importorskip("pyarrow")
    from outspoken.synth.steps.export_files import FORMATS, Example, ExportFiles

    records = arrow.table({"id": ["a", "b", "c"], "question": ["1?", "2?", "3?"], "answer": ["x", "y", "z"]})
    made = [
        Example("You count.", f"{number}?", f"so {number} 數", ("wrong", "خطأ"), held_out=number == 3)
        for number in (1, 2, 3)
    ]
    for formats in (tuple(FORMATS), ("parquet",), ("datasets",), ("preferences", "datasets")):
        folder = tmp_path / "-".join(formats)
        folder.mkdir()
        with ExportFiles(folder, formats) as files:
            files.write(made, records)
        lessons = training_data.read_examples(
            training_data.data_files(folder, "sft"), prompt_tokenizer, "sft", 512
        ).examples
        assert [tokenizer.decode(row["answer_ids"]) for row in lessons] == [
            "so 1 數<|im_end|>",
            "so 2 數<|im_end|>",
        ]
        assert "You count." in tokenizer.decode(lessons[0]["prompt_ids"])
        if "preferences" in formats:
            pairs = training_data.read_examples(
                training_data.data_files(folder, "dpo"), prompt_tokenizer, "dpo", 512
            )
            assert tokenizer.decode(pairs.examples[1]["rejected_ids"]) == "خطأ<|im_end|>"
            assert len(pairs.examples) == 4


def test_folders_and_files_that_hold_no_data(tmp_path: Path) -> None:
    for data, message in ((tmp_path / "nothing", "no such file or folder"), (tmp_path, "holds no data for dpo")):
        with pytest.raises(UsageError, match=message):
            training_data.data_files(data, "dpo")
    (tmp_path / "README.md").write_text("# card")
    only = written(tmp_path / "a.jsonl", [{}])
    assert training_data.data_files(tmp_path, "sft") == only
    written(tmp_path / "b.jsonl", [{}])
    with pytest.raises(UsageError, match="2 possible files"):
        training_data.data_files(tmp_path, "sft")
    with pytest.raises(UsageError, match=r"must end in \.jsonl"):
        list(training_data.read_rows(tmp_path / "README.md"))


def test_the_same_contents_have_the_same_digest(tmp_path: Path) -> None:
    one, other = (written(tmp_path / name, [{"a": "é"}]) for name in ("a.jsonl", "b.jsonl"))
    assert training_data.digest(one) == training_data.digest(other) != training_data.digest([*one, *other])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("local/smolm2", "did you mean 'smollm2'"),
        ("local/minilm", "embeds texts"),
        ("./nowhere", "does not exist"),
    ],
)
def test_models_that_are_none(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        base_models.find_weights(name, offline=True)


def test_folders_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        base_models.find_weights(tmp_path)
    (tmp_path / "training.json").write_text("{}")
    with pytest.raises(UsageError, match="has not finished"):
        base_models.find_weights(tmp_path)
    broken = tmp_path / "model"
    broken.mkdir()
    (broken / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UsageError, match="cannot be loaded as a language model"):
        base_models.load_model(base_models.find_weights(tmp_path), "float32")


def test_gguf_by_its_path_is_the_embedded_model() -> None:
    named = base_models.find_weights("local/smollm2")
    path = base_models.weight_files.TABLE["smollm2"].path
    for name in (str(path), f"local/{path}"):
        assert base_models.find_weights(name).fingerprint == named.fingerprint
        assert base_models.find_weights(name).folder == named.folder
