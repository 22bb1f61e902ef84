"""The step export: its files as other libraries read them, its card, and the errors it raises."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numpy", reason="extra `synth` is not installed")
pa = pytest.importorskip("pyarrow", reason="extra `synth` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from outspoken.errors import OutputError, UnknownNameError, UsageError  # noqa: E402
from outspoken.synth.manifest import StepManifest, spec_text  # noqa: E402
from outspoken.synth.steps.base import Step  # noqa: E402
from outspoken.synth.steps.export import NO_COMPLETION, NO_PROMPT, ExportOptions, run  # noqa: E402
from outspoken.synth.steps.export_files import ExportContents, card  # noqa: E402

TEXTS = ["Two and two?", "二加二等于几？", "كم يساوي اثنان زائد اثنين؟", "🍎 + 🍏 = ?"]
ROWS: list[dict[str, Any]] = [
    {
        "id": f"r{number}",
        "text": text,
        "value": json.dumps({"question": text, "hint": "🤔 思考", "n": number}, ensure_ascii=False),
        "prompt": "Write a sum.",
        "method": "vs-standard",
        "model": "local/smollm2" if number else "openai/gpt|x",
        "answer": f"Four.\n四 أربعة 4️⃣ {number}",
        "final": "4",
        "negatives": ["Five", "", f"Four.\n四 أربعة 4️⃣ {number}", "Five", "五"],
    }
    for number, text in enumerate(TEXTS)
]
INSTRUCTION = 'Write a "sum" about {topic}:\n```\none | two \\ three\n```\n用中文 🎉 <b>\t'


def manifest(name: str, do: str, source: str | None, **more: Any) -> dict[str, Any]:
    return {
        "step": name,
        "do": do,
        "settings": {},
        "seed": 7,
        "model": None,
        "source": source,
        "key": "0" * 32,
        "records": 9,
        "kept": 4,
        "removed": {},
        "figures": {},
        "warnings": [],
        "partly": "",
        "seconds": 1.5,
        "files": {},
        **more,
    }


def step_of(folder: Path, rows: list[dict[str, Any]], *, schema: Any = None) -> Step:
    """A folder of a pipeline whose last step is next."""
    folder.mkdir(exist_ok=True)
    bench = folder / "gsm8k.jsonl"
    bench.write_text("")
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "04-verify.parquet")
    spent = {"requests": 12, "from_ledger": 2, "tokens": 3456, "usd": 0.0125, "failures": 1}
    asking = {"method": "vs-standard", "temperature": 0.7, "k": 5}
    settings = {"instruction": INSTRUCTION, "topics": ["bees", "茶"], "count": None, "asking": asking, "model": ""}
    compared = {"against": [str(bench)], "ngram": 8, "meaning": 0.85, "numbers": True}
    manifests = [
        manifest("01-generate", "generate", None, settings=settings, figures=spent, model="openai/gpt|x"),
        manifest("02-decontaminate", "decontaminate", "01-generate.parquet", settings=compared, removed={"shares words with a benchmark": 2}),
        manifest("03-answer", "answer", "02-decontaminate.parquet", figures={**spent, "usd": None}, model="local/smollm2", partly="budget"),
        manifest("04-verify", "verify", "03-answer.parquet", removed={"wrong | answer": 3}, warnings=["slow <b>"]),
        manifest("03-balance", "balance", "02-decontaminate.parquet", removed={"of an older spec": 1}),
    ]  # fmt: skip
    for each in manifests:
        (folder / f"{each['step']}.json").write_text(json.dumps(each))
    mark = {"format": 1, "name": "sums: 茶 #1", "spec": 'input = "sub/seeds.jsonl"\n'}
    (folder / "synth.json").write_text(json.dumps(mark))
    return Step("05-export", folder, folder / "04-verify.parquet", 7, "openai/gpt|x")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_all_formats(tmp_path: Path) -> None:
    step = step_of(tmp_path / "out", ROWS)
    options = ExportOptions(
        formats=("chat", "preferences", "parquet", "datasets"),
        prompt="{question} {{{hint}}}",
        completion="A: {answer}",
        system="Be brief. 简短",
    )
    outcome = await run(options, step)
    folder = step.folder / "export"
    assert files_in(folder) == {
        "README.md",
        "train.jsonl",
        "preferences.jsonl",
        "train.parquet",
        "data/train-00000-of-00001.parquet",
        "preferences/train-00000-of-00001.parquet",
    }
    chats = lines(folder / "train.jsonl")
    assert [list(chat) for chat in chats] == [["messages"]] * 4
    assert chats[1]["messages"] == [
        {"role": "system", "content": "Be brief. 简短"},
        {"role": "user", "content": "二加二等于几？ {🤔 思考}"},
        {"role": "assistant", "content": "A: Four.\n四 أربعة 4️⃣ 1"},
    ]
    pairs = lines(folder / "preferences.jsonl")
    assert len(pairs) == 8
    assert pairs[2:4] == [
        {
            "prompt": chats[1]["messages"][:2],
            "chosen": chats[1]["messages"][2:],
            "rejected": [{"role": "assistant", "content": f"A: {wrong}"}],
        }
        for wrong in ("Five", "五")
    ]
    tables = [pq.read_table(folder / name) for name in ("train.parquet", "data/train-00000-of-00001.parquet")]
    assert tables[0].equals(tables[1])
    assert tables[0]["messages"].to_pylist() == [chat["messages"] for chat in chats]
    assert tables[0]["record_prompt"].to_pylist() == ["Write a sum."] * 4
    assert not {"prompt", "chosen", "rejected"} & set(tables[0].schema.names)
    assert pq.read_table(step.out).to_pylist() == ROWS
    assert not step.removed.exists()
    assert (outcome.kept, outcome.removed, outcome.warnings) == (4, {}, ())
    assert outcome.figures["pairs"] == 8
    assert outcome.figures["files"]["train.jsonl"] == 4


async def test_default_templates_and_records_left_out(tmp_path: Path) -> None:
    more = [
        {**ROWS[0], "id": "empty", "text": " \n"},
        {**ROWS[0], "id": "null", "text": None},
        {**ROWS[0], "id": "mute", "answer": ""},
        {**ROWS[0], "id": "none", "answer": None},
    ]
    step = step_of(tmp_path, [*ROWS, *more])
    outcome = await run(ExportOptions(), step)
    assert outcome.removed == {NO_PROMPT: 2, NO_COMPLETION: 2}
    gone = pq.read_table(step.removed).to_pylist()
    assert [(row["id"], row["reason"]) for row in gone] == [
        ("empty", NO_PROMPT),
        ("null", NO_PROMPT),
        ("mute", NO_COMPLETION),
        ("none", NO_COMPLETION),
    ]
    assert [row["messages"][0] for row in lines(tmp_path / "export" / "train.jsonl")] == [
        {"role": "user", "content": text} for text in TEXTS
    ]
    assert pq.read_table(step.out).to_pylist() == ROWS


async def test_records_are_held_out_by_text_and_seed(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "id": f"r{at}", "text": f"Sum {at % 500} 茶", "answer": str(at)} for at in range(1000)]
    rows[999]["text"] = "SUM 499 茶!"
    sides = []
    for seed in (1, 1, 2):
        step = step_of(tmp_path, rows)
        step = Step(step.name, step.folder, step.source, seed)
        outcome = await run(ExportOptions(test_share=0.1), step)
        train, test = ({row["messages"][0]["content"] for row in lines(tmp_path / "export" / name)} for name in ("train.jsonl", "test.jsonl"))  # fmt: skip
        assert not {text.lower().strip("!") for text in train} & {text.lower().strip("!") for text in test}
        assert 60 <= outcome.figures["test"] <= 140
        assert outcome.figures["train"] + outcome.figures["test"] == 1000
        sides.append(test)
    assert sides[0] == sides[1] != sides[2]
    # What an earlier export wrote and this one does not is gone; a user's file stays.
    (tmp_path / "export" / "mine.txt").write_text("mine")
    await run(ExportOptions(formats=("chat",)), step)
    assert files_in(tmp_path / "export") == {"README.md", "train.jsonl", "mine.txt"}


async def test_too_few_records_to_hold_out(tmp_path: Path) -> None:
    outcome = await run(ExportOptions(test_share=0.001), step_of(tmp_path, ROWS))
    assert outcome.warnings == ("no record fell into the 0% to hold out: there is no test set",)
    outcome = await run(ExportOptions(test_share=0.999), step_of(tmp_path, ROWS))
    assert "there is no training set" in outcome.warnings[0]
    assert not (tmp_path / "export" / "train.jsonl").exists()


async def test_no_records(tmp_path: Path) -> None:
    schema = pa.Table.from_pylist(ROWS).schema
    outcome = await run(
        ExportOptions(formats=("chat", "preferences", "datasets")), step_of(tmp_path, [], schema=schema)
    )
    assert outcome.kept == 0
    assert "there are no preferences" in outcome.warnings[0]
    assert files_in(tmp_path / "export") == {"README.md"}


# Read by other libraries


OF_DATASETS = """
import json, sys
from datasets import load_dataset
folder = sys.argv[1]
loaded = load_dataset(folder)
pairs = load_dataset(folder, "preferences")
chat = load_dataset("json", data_files={"train": folder + "/train.jsonl"})
json.dump({
    "splits": {name: part.num_rows for name, part in loaded.items()},
    "rows": [row for part in loaded.values() for row in part],
    "columns": loaded["train"].column_names,
    "pairs": pairs["train"][0],
    "chat": chat["train"][0],
}, open(sys.argv[2], "w"))
"""


def loaded_by_datasets(folder: Path, cache: Path) -> dict[str, Any]:
    """What `datasets` loads in another process, with its cache in `cache`."""
    script, output = cache / "load.py", cache / "loaded.json"
    script.write_text(OF_DATASETS)
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"), "1")
    environment = {**os.environ, **offline, "HF_HOME": str(cache / "hf")}
    done = subprocess.run(
        [sys.executable, script, folder, output], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded: dict[str, Any] = json.loads(output.read_text())
    return loaded


async def test_loaded_by_datasets(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="extra `train` is not installed")
    rows = [{**row, "id": f"{row['id']}-{at}", "text": f"{row['text']} {at}"} for at in range(20) for row in ROWS]
    step = step_of(tmp_path / "out", rows)
    options = ExportOptions(formats=("chat", "preferences", "parquet", "datasets"), test_share=0.2)
    outcome = await run(options, step)
    found = loaded_by_datasets(step.folder / "export", tmp_path)
    assert found["splits"] == {"train": outcome.figures["train"], "test": outcome.figures["test"]}
    assert min(found["splits"].values()) > 0
    assert {row["id"] for row in found["rows"]} == {row["id"] for row in rows}
    assert {row["text"] for row in found["rows"]} == {row["text"] for row in rows}
    assert found["columns"][-1] == "messages"
    assert found["rows"][0]["messages"] == found["chat"]["messages"]
    assert found["pairs"] == lines(step.folder / "export" / "preferences.jsonl")[0]
    # Another export of as many rows into the same folder is not taken for this one, which is in the cache.
    await run(options, step_of(tmp_path / "out", [{**row, "answer": "另一個 🍵"} for row in rows]))
    found = loaded_by_datasets(step.folder / "export", tmp_path)
    assert {row["messages"][-1]["content"] for row in found["rows"]} == {"另一個 🍵"}


async def test_the_files_are_what_trl_expects(tmp_path: Path) -> None:
    """TRL's own functions recognise the form, and apply a chat template to it."""
    pytest.importorskip("trl", reason="extra `train` is not installed")
    step = step_of(tmp_path, ROWS)
    await run(ExportOptions(formats=("chat", "preferences", "datasets")), step)
    script = """
import json, sys
import pyarrow.parquet as pq
from trl.data_utils import apply_chat_template, is_conversational, maybe_extract_prompt
class Tokenizer:
    def apply_chat_template(self, messages, tokenize, add_generation_prompt=False, **_):
        text = "".join(f"<{m['role']}>{m['content']}" for m in messages)
        return text + "<assistant>" * add_generation_prompt
folder = sys.argv[1]
pair = json.loads(open(folder + "/preferences.jsonl", encoding="utf-8").readline())
row = pq.read_table(folder + "/data/train-00000-of-00001.parquet").to_pylist()[0]
json.dump([is_conversational(pair), maybe_extract_prompt(pair) == pair, apply_chat_template(pair, Tokenizer()),
           is_conversational(row), apply_chat_template({"messages": row["messages"]}, Tokenizer())], open(sys.argv[2], "w"))
"""
    (tmp_path / "check.py").write_text(script)
    done = subprocess.run(
        [sys.executable, tmp_path / "check.py", tmp_path / "export", tmp_path / "checked.json"],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    is_pair, same, pair, is_chat, chat = json.loads((tmp_path / "checked.json").read_text())
    assert is_pair
    assert is_chat
    assert same
    assert pair == {
        "prompt": "<user>Two and two?<assistant>",
        "chosen": "Four.\n四 أربعة 4️⃣ 0",
        "rejected": "Five",
    }
    assert chat == {"text": "<user>Two and two?<assistant>Four.\n四 أربعة 4️⃣ 0"}


# The card


def front_of(text: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    assert text.startswith("---\n")
    return yaml.safe_load(text.split("---\n")[1])


async def test_the_card(tmp_path: Path) -> None:
    step = step_of(tmp_path, ROWS)
    options = ExportOptions(formats=("chat", "preferences", "datasets"), licence="CC-BY-4.0", prompt="{question}")
    await run(options, step)
    text = (tmp_path / "export" / "README.md").read_text("utf-8")
    front = front_of(text)
    assert (front["pretty_name"], front["license"], front["size_categories"]) == (
        "sums: 茶 #1",
        "cc-by-4.0",
        ["n<1K"],
    )
    assert front["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": "data/train-00000-of-00001.parquet"}],
        },
        {
            "config_name": "preferences",
            "data_files": [{"split": "train", "path": "preferences/train-00000-of-00001.parquet"}],
        },
    ]
    for part in (
        "Of this data: CC-BY-4.0.",
        "| 02-decontaminate | 9 | 4 | 2 shares words with a benchmark |",
        "| 04-verify | 9 | 4 | 3 wrong &#124; answer |",
        "03-answer is not finished: budget.",
        "| 01-generate | openai/gpt&#124;x | 12 | 2 | 3,456 | 1 | 0.0125 |",
        "| 03-answer | local/smollm2 | 12 | 2 | 3,456 | 1 | unknown |",
        "| local/smollm2 | vs-standard | 3 |",
        "- local/smollm2: Apache-2.0",
        "- openai/gpt|x: look it up",
        "Verified in the step 04-verify, which removed 3;",
        "Compared with the questions of gsm8k.jsonl by runs of 8 words, and by meaning from a cosine of 0.85.",
        "- 04-verify: slow &lt;b>.",
        "`record_prompt` is the record's own `prompt`",
        "No near-duplicates were looked for",
    ):
        assert part in text, part
    assert "older spec" not in text
    assert str(tmp_path) not in text
    spec = tomllib.loads(text.split("````toml\n")[1].split("\n````")[0])
    assert (spec["name"], spec["seed"], spec["input"]) == ("sums: 茶 #1", 7, "seeds.jsonl")
    assert [entry["do"] for entry in spec["step"]] == ["generate", "decontaminate", "answer", "verify", "export"]
    assert spec["step"][0]["instruction"] == INSTRUCTION
    assert (spec["step"][0]["k"], spec["step"][0]["topics"]) == (5, ["bees", "茶"])
    assert spec["step"][1]["against"] == ["gsm8k.jsonl"]
    assert spec["step"][4]["licence"] == "CC-BY-4.0"


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("", {"license": "unknown"}),
        ("MIT", {"license": "mit"}),
        ("Our own: #1, 'free'", {"license": "other", "license_name": "our-own-1-free"}),
        ("只供研究使用", {"license": "other"}),
    ],
)
def test_licences(tmp_path: Path, licence: str, fields: dict[str, str]) -> None:
    text = card(
        Step("02-export", tmp_path), [], {"licence": licence}, ExportContents(3, 0, {"train.jsonl": 3}), {}
    )
    front = front_of(text)
    assert {key: value for key, value in front.items() if key.startswith("license")} == fields
    assert (licence or "unknown, none was stated") in text
    assert "they came as a file" in text
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "train.jsonl"}]
    assert front["pretty_name"] == tmp_path.name


names = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
values = st.recursive(
    st.one_of(
        names, st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)


@given(names, st.dictionaries(names.filter(lambda name: name != "asking"), values, max_size=4))
def test_settings_survive_writing_and_reading_a_spec(name: str, settings: dict[str, Any]) -> None:
    parsed = tomllib.loads(
        spec_text(
            name, None, [StepManifest.from_dict(manifest("01-x", "mine", None, settings=settings, model="m"))]
        )
    )
    written = {key: value for key, value in settings.items() if value != {}}
    assert parsed == {"name": name, "model": "m", "seed": 7, "step": [{"do": "mine", **written}]}


@given(names)
def test_any_name_is_valid_yaml(name: str) -> None:
    yaml = pytest.importorskip("yaml")
    from outspoken.synth.steps.export_files import _quoted

    assert yaml.safe_load(f"name: {_quoted(name)}") == {"name": name}


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": "{txet}"}, "unknown field in the prompt 'txet': did you mean 'text'"),
        ({"completion": "{solution}"}, "unknown field in the completion 'solution'"),
        ({"prompt": "{question} {value}"}, "unknown field in the prompt 'value'"),
    ],
)
async def test_a_field_that_does_not_exist(tmp_path: Path, settings: dict[str, str], message: str) -> None:
    step = step_of(tmp_path, ROWS)
    with pytest.raises(UnknownNameError, match=message):
        await run(ExportOptions(**settings), step)
    assert not step.out.exists()
    assert not (tmp_path / "export").exists()


async def test_a_field_that_only_some_records_have(tmp_path: Path) -> None:
    rows = [{**row, "value": None} for row in ROWS[:3]] + [ROWS[3]]
    outcome = await run(ExportOptions(prompt="{question}"), step_of(tmp_path, rows))
    assert (outcome.kept, outcome.removed) == (1, {NO_PROMPT: 3})


async def test_records_without_answers(tmp_path: Path) -> None:
    step = step_of(tmp_path, [{"id": "1", "text": "茶?"}])
    with pytest.raises(UnknownNameError, match=r"'answer'.*the step answer writes it"):
        await run(ExportOptions(), step)
    with pytest.raises(UsageError, match="preferences needs wrong answers"):
        await run(ExportOptions(formats=("preferences",)), step)


async def test_a_second_export_and_an_unwritable_folder(tmp_path: Path) -> None:
    step = step_of(tmp_path, ROWS)
    (tmp_path / "export").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        await run(ExportOptions(), step)
    assert not step.out.exists()
    (tmp_path / "export").unlink()
    (tmp_path / "04-verify.json").write_text(json.dumps(manifest("04-verify", "export", None)))
    with pytest.raises(UsageError, match="exports once"):
        await run(ExportOptions(), step)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formats": ()}, "formats must be a list"),
        ({"formats": "chat"}, "formats must be a list"),
        ({"formats": ("chats",)}, "did you mean 'chat'"),
        ({"prompt": " "}, "prompt is empty"),
        ({"test_share": 1.0}, "test_share must be"),
        ({"test_share": float("nan")}, "test_share must be"),
        ({"formats": ("preferences",), "completion": "{final}"}, "completion must hold"),
        ({"formats": ("preferences",), "completion": "{answer} {final}"}, "completion must hold"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportOptions(**settings)


async def test_cancelling_leaves_earlier_files(tmp_path: Path) -> None:
    """No unfinished file stays, and those of an earlier export do."""
    rows = [{**ROWS[0], "id": str(at), "text": f"Sum {at}?"} for at in range(10_000)]
    step = step_of(tmp_path, rows)
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "train.jsonl").write_text("earlier")
    before = files_in(tmp_path)
    task = asyncio.create_task(run(ExportOptions(formats=("chat", "preferences", "parquet", "datasets")), step))
    while not step.progress.done:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == before
    assert (tmp_path / "export" / "train.jsonl").read_text() == "earlier"
