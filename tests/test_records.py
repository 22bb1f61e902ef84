"""Recorded responses in every format, and reports about rows that cannot be read."""

from __future__ import annotations

import csv
import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from outspoken.errors import UsageError

pytest.importorskip("numpy", reason="extra `measure` is not installed")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

from outspoken.measure import sets  # noqa: E402
from outspoken.measure.response_files import Records, from_rows, read, read_all  # noqa: E402
from outspoken.measure.values import Response  # noqa: E402

SHARED = Path(__file__).parents[2] / "shared" / "data"
TEA, COFFEE = "说一种茶 🍵", "قهوة؟"


def lines(path: Path, *rows: Any) -> Path:
    written = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(f"{line}\n" for line in written), encoding="utf-8")
    return path


def shared(*parts: str) -> Path:
    path = SHARED.joinpath(*parts)
    if not path.is_file():
        pytest.skip(f"{path.name} is absent")
    return path


def texts(records: Records) -> dict[tuple[str, str], dict[str, list[str]]]:
    return {
        (group.method, group.model): {
            prompt.prompt_id: [r.text for r in prompt.responses] for prompt in group.prompts
        }
        for group in records.groups
    }


def row(prompt: str, text: Any, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "text": text, **more}


ROWS = [
    row(TEA, "乌龙", probability=0.7, stated=0.35, method="vs-standard", model="m", template="standard", call=0),
    row(TEA, "ชา ☕", probability=0.3, stated=0.15, method="vs-standard", model="m", template="standard", call=0),
    row(COFFEE, "موكا", probability=None, stated=None, method="direct", model="m", template="", call=1),
    row(TEA, "お茶", probability=None, stated=None, method="direct", model="m", template="", call=0),
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        lines(path, *rows)
    return path


@pytest.mark.parametrize("name", ["r.jsonl", "r.csv", "r.parquet", "r.json", "r.jsonl.gz"])
def test_rows_of_responses_in_every_format(tmp_path: Path, name: str) -> None:
    records = read(written(tmp_path / name, ROWS))
    vs, direct = records.groups
    assert (vs.method, vs.model, dict(vs.settings)) == ("vs-standard", "m", {"template": "standard"})
    assert (direct.method, direct.model, dict(direct.settings)) == ("direct", "m", {})
    (tea,) = vs.prompts
    assert (tea.prompt_id, tea.prompt) == (TEA, TEA)
    assert tea.responses == (Response("乌龙", 0.7, 0.35, 0), Response("ชา ☕", 0.3, 0.15, 0))
    assert [prompt.prompt_id for prompt in direct.prompts] == [COFFEE, TEA]
    assert direct.prompts[0].responses == (Response("موكا", call=1),)
    assert records.source == str(tmp_path / name)


def test_what_run_writes_is_read(tmp_path: Path) -> None:
    prompts = lines(tmp_path / "p.jsonl", {"id": "tea", "prompt": TEA, "topic": 7}, {"id": "c", "prompt": COFFEE})
    replies = lines(
        tmp_path / "replies.jsonl",
        *(
            {"text": json.dumps({"responses": [{"text": text, "probability": share} for text, share in reply]})}
            for reply in ([("红茶", 0.4), ("🍵", 0.1)], [("موكا", 0.5), ("لاتيه", 0.5)])
        ),
    )
    for suffix in ("jsonl", "parquet"):
        out = tmp_path / f"out.{suffix}"
        command = ["run", prompts, "--out", out, "-k", 2, "--model", f"replay/{replies}", "--concurrency", 1]
        subprocess.run([sys.executable, "-m", "outspoken", *map(str, command)], check=True, capture_output=True)
        records = read(out, by=["topic"])
        assert [(g.method, g.model, dict(g.settings)) for g in records.groups] == [
            ("vs-standard", f"replay/{replies}", {"template": "standard", "k": 2, "topic": topic})
            for topic in (7, None)
        ]
        (tea,) = records.groups[0].prompts
        assert (tea.prompt_id, tea.prompt) == ("tea", TEA)
        assert [r.text for r in tea.responses] == ["红茶", "🍵"]
        assert [r.probability for r in tea.responses] == pytest.approx([0.8, 0.2])
        assert [r.stated for r in tea.responses] == [0.4, 0.1]
        assert all(len(r.request) == 32 and r.call == 0 for r in tea.responses)


def test_failures_and_blanks_are_no_responses(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "r.jsonl",
        row(TEA, "绿茶"),
        row(TEA, None),
        {"prompt": TEA, "error": "timeout"},
        row(TEA, "half a", error="cut off"),
        row(TEA, " \n　"),
        row(TEA, ""),
        row(COFFEE, None),
        row(TEA, 4),
    )
    records = read(file)
    tea, coffee = records.groups[0].prompts
    assert ([r.text for r in tea.responses], tea.failures, tea.empty) == (["绿茶", "4"], 3, 2)
    assert (coffee.responses, coffee.failures, coffee.empty) == ((), 1, 0)
    assert records.problems == ()
    lines(tmp_path / "r.jsonl.failures.jsonl", {"id": "7"}, {"id": "8"})
    assert "2 prompts of its run lack responses" in read(file).problems[0]


def test_unreadable_rows_are_reported_with_their_line(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "r.jsonl",
        row(TEA, "绿茶", probability="much", call=1.5),
        "{not JSON",
        '"just text"',
        row("", "a"),
        {"prompt": TEA},
        row(TEA, ["a"]),
        '{"prompt": "x", "text": "\\ud800"}',
        row(TEA, "b", probability=-1),
    )
    records = read(file)
    assert texts(records) == {("recorded", ""): {TEA: ["绿茶", "b"]}}
    assert [r.probability for r in records.groups[0].prompts[0].responses] == [None, None]
    messages = [problem.removeprefix(f"{file}:") for problem in records.problems]
    assert [problem[:6] for problem in messages[:6]] == [
        "2: not",
        "3: not",
        "4: no ",
        "5: no ",
        "6: the",
        "7: lon",
    ]
    assert messages[6:] == [
        "1: probability 'much' was left out",
        "1: call 1.5 was left out",
        "8: probability -1 was left out",
    ]


def test_many_bad_lines_are_counted(tmp_path: Path) -> None:
    file = lines(tmp_path / "r.jsonl", row(TEA, "a"), row(TEA, "b"), *["{"] * 1200)
    problems = read(file).problems
    assert len(problems) == 11
    assert problems[-1] == f"{file}: 1,190 more rows that cannot be read"


def test_a_truncated_file_is_read_as_far_as_possible(tmp_path: Path) -> None:
    complete = written(tmp_path / "r.jsonl.gz", [row(TEA, str(n) * 50) for n in range(5000)]).read_bytes()
    (tmp_path / "r.jsonl.gz").write_bytes(complete[: len(complete) // 2])
    records = read(tmp_path / "r.jsonl.gz")
    assert 0 < len(records.groups[0].prompts[0].responses) < 5000
    assert "cannot be read from here on" in records.problems[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.jsonl", "", "holds no rows"),
        ("r.csv", "prompt,text\n", "holds no rows"),
        ("r.jsonl", '{"prompt": "a", "answer": "b"}', "has no column 'text'.*the columns are prompt, answer"),
        ("r.csv", "question,text\na,b\n", "has no column 'prompt': the columns are question, text"),
        ("r.jsonl", "{\n[1]\n", "line 1 of .*r.jsonl opens cannot be read"),
        ("r.txt", "an answer\n", "holds no row that can be read"),
        ("r.json", '{"prompt": "a"}\n{"prompt": "b"}', r"one object per line belongs in a \.jsonl file"),
        ("r.json", '{"Texas": 3000000}', "reference with --reference"),
        ("r.jsonl", "\xff\xfe{\x00\x00", "utf-16"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match=message):
        read(path)


def test_wrong_use(tmp_path: Path) -> None:
    file = lines(tmp_path / "r.jsonl", *ROWS)
    for call, message in (
        (lambda: read(tmp_path), "is a folder"),
        (lambda: read(tmp_path / "none.jsonl"), "no such file"),
        (lambda: read(file, by=["topic"]), "has no column 'topic'.*prompt, text"),
        (lambda: read_all([file, tmp_path / "." / "r.jsonl"]), "more than once"),
        (lambda: read_all([]), "no file"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


def test_generations_without_a_partition(tmp_path: Path) -> None:
    given = {"id": 3, "prompt": TEA, "model": "m", "generations": ["绿茶", None, "", "红茶"]}
    records = read(lines(tmp_path / "g.jsonl", {**given, "partition": [0, 1]}), method="direct")
    (prompt,) = records.groups[0].prompts
    assert (records.groups[0].method, prompt.prompt_id, prompt.failures, prompt.empty) == ("direct", "3", 1, 1)
    assert prompt.responses == (Response("绿茶"), Response("红茶"))
    assert records.problems[0].endswith("g.jsonl:1: partition, not one for each of 4 generations was left out")


def calls(prompt: str, *responses: Any) -> dict[str, Any]:
    return {"prompt": prompt, "responses": list(responses)}


def test_the_official_packages_files(tmp_path: Path) -> None:
    file = lines(
        tmp_path / "responses.jsonl",
        calls(TEA, {"text": "绿茶", "probability": 0.6}, {"text": "红茶", "probability": "20%"}),
        calls(TEA, {"text": "白茶", "probability": 12.5}, {"text": "🍵", "probability": 40}),
        calls(TEA, {"text": "黑茶", "probability": 0.1}, {"text": "", "probability": 0.1}),
        calls(TEA, {"text": ""}),
        calls(TEA, {"text": "", "probability": 1.0}),
        calls(TEA),
        calls(TEA, {"text": None}),
        calls(TEA, "花茶"),
        calls(TEA, {"text": [{"response": "奶茶", "probability": 1.0}]}),
        calls(TEA, {"text": "{'responses': ['a', 'b']}"}),
    )
    records = read(file, method="vs-standard", model="gpt-4.1")
    assert (records.groups[0].method, records.groups[0].model) == ("vs-standard", "gpt-4.1")
    (prompt,) = records.groups[0].prompts
    assert prompt.responses == (
        Response("绿茶", 0.6, 0.6, 0),
        Response("红茶", 0.2, 0.2, 0),
        Response("白茶", None, 12.5, 1),
        Response("🍵", None, 40.0, 1),
        Response("黑茶", 0.1, 0.1, 2),
        Response("花茶", call=7),
        Response("奶茶", call=8),
    )
    assert (prompt.failures, prompt.empty) == (5, 1)
    assert [problem.removeprefix(f"{file}: ") for problem in records.problems[:3]] == [
        "failed calls that were saved as empty answers, and count as failures: 4",
        "replies that were saved unparsed as answers, and count as failures: 1",
        "1 call states numbers outside 0 to 1: their responses have equal weights",
    ]


def test_turns_of_one_conversation_are_one_call(tmp_path: Path) -> None:
    def candidate(text: str, index: int) -> dict[str, Any]:
        return {"probability": 0.25, "text": text, "index": index}

    multi = lines(
        tmp_path / "a.jsonl",
        calls(TEA, candidate("a", 0), candidate("b", 1)),
        calls(TEA, candidate("c", 2)),
        calls(TEA, candidate("d", 0), candidate("e", 1)),
        calls(TEA, candidate("", 2)),
        # Its first turn is missing.
        calls(COFFEE, candidate("f", 1)),
    )
    turns = lines(
        tmp_path / "b.jsonl",
        *(calls(TEA, {"text": text, "turn": turn}) for text, turn in (("a", 1), ("b", 2), ("c", 1), ("d", 2))),
    )
    tea, coffee = read(multi).groups[0].prompts
    assert [(r.text, r.call) for r in tea.responses] == [("a", 0), ("b", 0), ("c", 0), ("d", 1), ("e", 1)]
    assert tea.failures == 1
    assert [r.call for r in coffee.responses] == [2]
    assert [r.call for r in read(turns).groups[0].prompts[0].responses] == [0, 0, 1, 1]


def test_counts_of_answers_are_trials() -> None:
    file = shared("states", "direct_gpt-4.1_500.json")
    trials = json.loads(file.read_text(encoding="utf-8"))
    records = read(file)
    (group,) = records.groups
    (prompt,) = group.prompts
    assert (group.method, group.model, records.problems) == ("recorded", "", ())
    assert len(prompt.responses) == 500
    for at, trial in enumerate(trials):
        assert Counter(r.text for r in prompt.responses if r.call == at) == trial
    total = sum(map(Counter, trials), Counter())
    expected = {state: count / 500 for state, count in total.items()}
    assert sets.answer_weights(prompt.responses, str) == pytest.approx(expected)


def test_one_trial_and_weights(tmp_path: Path) -> None:
    one = tmp_path / "one.json"
    one.write_text('{"东京": 2, "大阪": 0, "京都": 1}', encoding="utf-8")
    assert [r.text for r in read(one).groups[0].prompts[0].responses] == ["东京", "东京", "京都"]
    shares = tmp_path / "shares.json"
    shares.write_text('[{"东京": 0.5, "大阪": 0.25}, {"东京": 1}]', encoding="utf-8")
    responses = read(shares).groups[0].prompts[0].responses
    assert responses == (Response("东京", 0.5, call=0), Response("大阪", 0.25, call=0), Response("东京", call=1))
    assert sets.answer_weights(responses, str) == pytest.approx({"东京": 5 / 6, "大阪": 1 / 6})


@pytest.mark.parametrize(
    ("probabilities", "read_as", "mixed"),
    [
        (["40%", "60%"], [0.4, 0.6], False),
        (["40%", "60"], [0.4, 0.6], False),
        (["40%", 0.6], [0.4, 0.6], False),
        (["40%", "59", "1"], [0.4, 0.59, 0.01], False),
        (["99%", "1"], [0.99, 0.01], False),
        ([40, 60], [0.4, 0.6], False),
        ([70, 30, 0], [0.7, 0.3, 0.0], False),
        ([90.5, 9, 0.5], [0.905, 0.09, 0.005], False),
        (["½", "1 in 4", "25 percent"], [0.5, 0.25, 0.25], False),
        (["40%", "60", "0.1"], [None, None, None], True),
        (["40%", "20", 0.4], [None, None, None], True),
        ([40, 0.6], [None, None], True),
    ],
)
def test_probabilities_of_one_call_are_on_one_scale(tmp_path: Path, probabilities, read_as, mixed) -> None:
    rows = [row(TEA, f"t{at}", probability=value, call=0) for at, value in enumerate(probabilities)]
    official = {
        "prompt": TEA,
        "responses": [{"text": f"t{at}", "probability": v} for at, v in enumerate(probabilities)],
    }
    for path in (lines(tmp_path / "rows.jsonl", *rows), lines(tmp_path / "official.jsonl", official)):
        records = read(path)
        found = [response.probability for response in records.groups[0].prompts[0].responses]
        assert found == (read_as if mixed else pytest.approx(read_as))
        assert any("on several scales" in problem for problem in records.problems) == mixed


def test_percentages_without_signs_add_up_to_100(tmp_path: Path) -> None:
    entry = {"prompt": TEA, "responses": [{"text": "a", "probability": 70}, {"text": "b", "probability": 30}]}
    responses = read(lines(tmp_path / "r.jsonl", entry)).groups[0].prompts[0].responses
    assert [response.probability for response in responses] == pytest.approx([0.7, 0.3])


def test_lists_and_counts_of_answers_alone(tmp_path: Path) -> None:
    def put(name: str, value: Any) -> Path:
        (tmp_path / name).write_text(json.dumps(value), encoding="utf-8")
        return tmp_path / name

    trials = {
        f"responses_{n}": [{"text": "Texas", "probability": 0.5}, {"text": "Ohio", "probability": 0.5}]
        for n in (1, 2)
    }
    (prompt,) = read(put("named.json", trials)).groups[0].prompts
    assert [(one.text, one.call) for one in prompt.responses] == [
        ("Texas", 0),
        ("Ohio", 0),
        ("Texas", 1),
        ("Ohio", 1),
    ]
    (prompt,) = (
        read(put("counts.json", {"Texas": {"count": 2}, "Ohio": {"count": 1, "share": 0.3}})).groups[0].prompts
    )
    assert [one.text for one in prompt.responses] == ["Texas", "Texas", "Ohio"]
    (prompt,) = read(put("draws.json", [4, 3, "Red", 4])).groups[0].prompts
    assert [one.text for one in prompt.responses] == ["4", "3", "Red", "4"]


def test_draws_that_are_no_answers(tmp_path: Path) -> None:
    file = tmp_path / "draws.json"
    file.write_text('[null, "Red", 4, null, NaN, " ", true, {"a": 1}, {"prompt": "x", "text": "y"}]')
    records = read(file)
    (prompt,) = records.groups[0].prompts
    assert ([one.text for one in prompt.responses], prompt.failures, prompt.empty) == (["Red", "4"], 3, 1)
    assert [problem.removeprefix(f"{file}: ") for problem in records.problems] == [
        "row 7: not a JSON object",
        "row 8: an object, where the first row is an answer alone",
        "row 9: an object, where the first row is an answer alone",
    ]
    file.write_text("[null, null]")
    with pytest.raises(UsageError, match=r"holds no row that can be read: .*row 1: null"):
        read(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"Texas": "2", "Ohio": 1}', "the count of 'Texas' must be a number of at least 0, not '2'"),
        ('{"Texas": {"count": null}, "Ohio": {"count": 1}}', "the count of 'Texas' must be .* not None"),
        ('{"Texas": NaN}', "the count of 'Texas' must be .* not nan"),
        ('{"Texas": -2}', "the count of 'Texas' is -2, outside"),
    ],
)
def test_counts_that_are_no_numbers(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "counts.json"
    file.write_text(content)
    with pytest.raises(UsageError, match=message):
        read(file)


def test_results_of_the_official_evaluators(tmp_path: Path) -> None:
    """`diversity_results.json` and its like repeat the responses; those of a judge do not."""
    file = tmp_path / "diversity_results.json"
    entries = [{"response_length": 1, "response": text, "prompt": TEA} for text in ("绿茶", "红茶", "")]
    file.write_text(json.dumps({"instance_metrics": [*entries, None], "overall_metrics": {"avg_diversity": 0.3}}))
    records = read(file)
    (prompt,) = records.groups[0].prompts
    assert (prompt.prompt, [one.text for one in prompt.responses], prompt.empty) == (TEA, ["绿茶", "红茶"], 1)
    assert records.problems == (f"{file}: row 4: null",)
    file.write_text(json.dumps({"instance_metrics": [{"fluency": {"score": 3}}], "overall_metrics": {}}))
    with pytest.raises(
        UsageError, match=r"holds metrics and no responses: .*generation/EXPERIMENT/responses\.jsonl"
    ):
        read(file)


def test_rows_in_memory(tmp_path: Path) -> None:
    given = [*ROWS, row("", "a"), row(TEA, "\ud800"), row(TEA, None, method="direct", model="m")]
    records = from_rows(given)
    assert records.groups[0] == read(lines(tmp_path / "r.jsonl", *ROWS)).groups[0]
    assert records.groups[1].prompts[1].failures == 1
    assert records.problems[0] == "responses: row 5: no prompt"
    assert records.problems[1].startswith("responses: row 6: lone surrogate")
    assert given[-1] == row(TEA, None, method="direct", model="m")
    assert len(from_rows([{"东京": 2, "大阪": 1}]).groups[0].prompts[0].responses) == 3
    for rows, message in (([], "responses holds no rows"), ([{"text": "a"}], "responses has no column 'prompt'")):
        with pytest.raises(UsageError, match=message):
            from_rows(rows)
