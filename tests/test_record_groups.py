"""How recorded responses are grouped: settings, files that repeat prompts, and columns that nobody named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numpy", reason="extra `measure` is not installed")
pytest.importorskip("pyarrow")

from test_records import COFFEE, TEA, calls, lines, row, shared, texts, written

from outspoken.measure import sets
from outspoken.measure.response_files import read, read_all
from outspoken.measure.values import group_label


def test_two_temperatures_of_one_run_are_two_groups(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", {"prompt": TEA}, {"prompt": COFFEE})
    replies = lines(tmp_path / "replies.jsonl", *({"text": f"answer {n}"} for n in range(4)))
    outs = []
    for temperature, suffix in ((0.3, "jsonl"), (1.2, "csv")):
        outs.append(tmp_path / f"out-{temperature}.{suffix}")
        options = ["--method", "direct", "--n", 2, "--temperature", temperature, "--model", f"replay/{replies}"]
        command = [sys.executable, "-m", "outspoken", "run", prompts, "--out", outs[-1], *options]
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    records = read_all(outs)
    assert [group.settings["temperature"] for group in records.groups] == [0.3, 1.2]
    assert [[len(prompt.responses) for prompt in group.prompts] for group in records.groups] == [[2, 2], [2, 2]]
    assert [group_label(group, records.groups) for group in records.groups] == [
        "direct temperature=0.3",
        "direct temperature=1.2",
    ]
    assert records.problems == ()


def test_people_and_a_model_on_the_same_prompts() -> None:
    files = [shared("novelty_bench", f"{name}_curated.jsonl") for name in ("gpt-4o", "humans")]
    records = read_all(files)
    model, people = records.groups
    assert [(g.method, g.model) for g in records.groups] == [
        ("recorded", "gpt-4o-2024-11-20"),
        ("recorded", "human"),
    ]
    assert {a.prompt_id for a in model.prompts} == {a.prompt_id for a in people.prompts}
    assert [len(a.responses) for a in model.prompts] == [10] * 100
    assert [len(a.responses) for a in people.prompts] == [8] * 100
    assert records.problems == ()
    for file, group in zip(files, records.groups, strict=True):
        recorded = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        for prompt, one in zip(group.prompts, recorded, strict=True):
            assert prompt.prompt == one["prompt"]
            assert [r.text for r in prompt.responses] == one["generations"]
            scores = sets.first_of_class(
                [r.partition for r in prompt.responses], [r.score for r in prompt.responses]
            )
            assert sets.utility_k(scores) == pytest.approx(one["utility"], abs=1e-9)


def test_files_that_name_nothing_are_separate_groups(tmp_path: Path) -> None:
    for name in ("direct", "vs"):
        (tmp_path / name).mkdir()
        lines(tmp_path / name / "responses.jsonl", calls(TEA, "a"), calls(TEA, "b"))
    files = [tmp_path / name / "responses.jsonl" for name in ("direct", "vs")]
    people = lines(tmp_path / "people.v2.jsonl", row(TEA, "c"), row(TEA, "d"))
    assert [group.method for group in read_all([*files, people]).groups] == ["direct", "vs", "people.v2"]
    copy = lines(tmp_path / "direct" / "direct.jsonl", row(TEA, "c"), row(TEA, "d"))
    assert [group.method for group in read_all([files[0], copy]).groups] == ["direct/responses", "direct/direct"]
    assert [group.method for group in read(files[0]).groups] == ["recorded"]


def test_files_that_share_no_prompt_are_one_group(tmp_path: Path) -> None:
    named = {"method": "direct", "model": "m", "prompt_id": "1"}
    one = lines(tmp_path / "1.jsonl", row(TEA, "a", call=0, **named), row(TEA, "b", call=1, **named))
    two = lines(tmp_path / "2.jsonl", row(COFFEE, "d", call=0, **named))
    other = lines(tmp_path / "3.jsonl", row(TEA, "e", **{**named, "model": "n"}))
    records = read_all([one, two, other])
    assert texts(records) == {
        ("direct", "m"): {"1": ["a", "b"], "1 (2)": ["d"]},
        ("direct", "n"): {"1": ["e"]},
    }
    assert records.problems == ("1 prompt has the id of another prompt; they count as different prompts",)
    assert records.source == f"{one}, {two}, {other}"


def test_runs_with_other_settings_are_other_groups(tmp_path: Path) -> None:
    """Nobody has to name the column: two temperatures of one method never become one column of figures."""
    named = {"method": "direct", "model": "m"}
    files = [
        lines(tmp_path / f"{t}.jsonl", *(row(TEA, f"{t} {n}", temperature=t, **named) for n in range(4)))
        for t in (0.3, 1.2)
    ]
    records = read_all(files)
    assert [dict(group.settings) for group in records.groups] == [{"temperature": 0.3}, {"temperature": 1.2}]
    assert [group_label(group, records.groups) for group in records.groups] == [
        "direct temperature=0.3",
        "direct temperature=1.2",
    ]
    assert records.problems == ()


def test_files_that_repeat_prompts_are_put_apart_and_named_by_what_differs(tmp_path: Path) -> None:
    named = {"method": "direct", "model": "m"}
    by_column = [
        lines(tmp_path / f"{persona}.jsonl", row(TEA, persona, persona=persona, note="x", **named))
        for persona in ("poet", "clerk")
    ]
    records = read_all(by_column)
    assert [dict(group.settings) for group in records.groups] == [{"persona": "poet"}, {"persona": "clerk"}]
    assert "named by the column 'persona'" in records.problems[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        lines(tmp_path / folder / "x.jsonl", row(TEA, folder, **named))
    records = read_all([tmp_path / "a" / "x.jsonl", tmp_path / "b" / "x.jsonl"])
    assert [dict(group.settings) for group in records.groups] == [{"file": "a/x"}, {"file": "b/x"}]
    assert "named by their files" in records.problems[0]


def test_responses_of_one_file_that_a_column_parts_are_reported(tmp_path: Path) -> None:
    rows = [
        row(prompt, f"{t} {n}", temp=t, topic=prompt, method="direct")
        for prompt in (TEA, COFFEE)
        for t in (0.3, 1.2)
        for n in range(3)
    ]
    (problem,) = read(lines(tmp_path / "r.jsonl", *rows)).problems
    assert "differ in the column 'temp' ('0.3', '1.2')" in problem or "differ in the column 'temp' (0.3" in problem
    assert "--by temp" in problem
    assert read(tmp_path / "r.jsonl", by=["temp"]).problems == ()


@pytest.mark.parametrize(
    ("one", "other", "settings"),
    [
        ({"temperature": 1}, {"temperature": "0.3"}, [{"temperature": 1.0}, {"temperature": 0.3}]),
        ({"temperature": 1}, {"temperature": "1.0"}, [{"temperature": 1.0}]),
        ({"k": 5.0, "words": "20"}, {"k": "5", "words": 20}, [{"k": 5, "words": 20}]),
        ({"tau": 0.1}, {"tau": None}, [{"tau": 0.1}, {}]),
        ({"temperature": "hot"}, {"temperature": float("nan")}, [{"temperature": "hot"}, {}]),
        ({"settings": '{"top_k": 5}'}, {"settings": {"top_k": 9}}, [{"top_k": 5}, {"top_k": 9}]),
        ({"settings": "[1"}, {"settings": ""}, [{"settings": "[1"}, {}]),
    ],
)
def test_settings_are_equal_however_they_are_written(tmp_path: Path, one, other, settings) -> None:
    rows = [row(TEA, "a", method="direct", **one), row(COFFEE, "b", method="direct", **other)]
    assert [dict(group.settings) for group in read(lines(tmp_path / "r.jsonl", *rows)).groups] == settings


def test_shards_of_runs_that_a_column_tells_apart(tmp_path: Path) -> None:
    named = {"method": "direct", "model": "m"}
    files = [
        lines(tmp_path / f"{number}.jsonl", row(prompt, persona, persona=persona, topic=prompt, **named))
        for number, (prompt, persona) in enumerate((p, q) for p in (TEA, COFFEE) for q in ("poet", "clerk"))
    ]
    records = read_all(files)
    assert [(dict(group.settings), len(group.prompts)) for group in records.groups] == [
        ({"persona": "poet"}, 2),
        ({"persona": "clerk"}, 2),
    ]
    assert "named by the column 'persona'" in records.problems[0]
    # A third run of the poet: no column tells it from the first.
    third = lines(tmp_path / "third.jsonl", row(TEA, "c", persona="poet", topic=TEA, **named))
    assert [dict(group.settings) for group in read_all([*files[:2], third]).groups] == [
        {"file": "0"},
        {"file": "1"},
        {"file": "third"},
    ]


def test_columns_that_are_carried_with_one_call_part_nothing(tmp_path: Path) -> None:
    rows = [row(TEA, f"{style}", call=0, style=style, method="direct") for style in ("a", "b")]
    (group,) = read(lines(tmp_path / "r.jsonl", *rows)).groups
    assert (len(group.prompts[0].responses), dict(group.settings)) == (2, {})


def test_seeds_name_runs_and_part_no_responses(tmp_path: Path) -> None:
    rows = {
        seed: [row(TEA, f"{seed} {n}", seed=seed, method="direct", temperature=0.7) for n in (1, 2)]
        for seed in (1, 2)
    }
    files = [lines(tmp_path / f"{seed}.jsonl", *rows[seed]) for seed in rows]
    assert [dict(g.settings) for g in read_all(files).groups] == [
        {"temperature": 0.7, "seed": 1},
        {"temperature": 0.7, "seed": 2},
    ]
    both = read(lines(tmp_path / "both.jsonl", *rows[1], *rows[2]))
    assert (len(both.groups), both.problems) == (1, ())


def test_files_of_one_name_and_folder_are_named_in_full(tmp_path: Path) -> None:
    rows = [row(TEA, "a", method="direct")]
    files = [written(tmp_path / name, rows) for name in ("r.jsonl", "r.csv")]
    assert [dict(group.settings) for group in read_all(files).groups] == [{"file": "r.jsonl"}, {"file": "r.csv"}]


def test_partitions_never_join(tmp_path: Path) -> None:
    entry = {"id": "1", "prompt": TEA, "model": "m", "generations": ["a", "b"], "partition": [0, 1]}
    regular = lines(tmp_path / "regular.jsonl", entry)
    in_context = lines(tmp_path / "in-context.jsonl", {**entry, "generations": ["c", "d"]})
    records = read_all([regular, in_context])
    assert [dict(group.settings) for group in records.groups] == [{"file": "regular"}, {"file": "in-context"}]
    (twice,) = read(lines(tmp_path / "twice.jsonl", entry, {**entry, "generations": ["c", "d"]})).groups
    assert [response.partition for response in twice.prompts[0].responses] == [0, 1, 2, 3]


def test_columns_distinguish_groups(tmp_path: Path) -> None:
    rows = [row(TEA, f"{t}", temperature=t, method="direct") for t in (0.5, 1.0, 0.5)]
    groups = read(lines(tmp_path / "r.jsonl", *rows), by=["temperature"]).groups
    assert [(dict(g.settings), len(g.prompts[0].responses)) for g in groups] == [
        ({"temperature": 0.5}, 2),
        ({"temperature": 1.0}, 1),
    ]
