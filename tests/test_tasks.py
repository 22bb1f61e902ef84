from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("numpy")

from outspoken import UsageError, tasks
from outspoken.experiment.spec import load as load_spec
from outspoken.measure.values import PromptGroup

STATES = Path(__file__).parents[2] / "shared" / "data" / "states" / "reference_redpajama_counts.json"
QUESTIONS = Path(__file__).parents[2] / "shared" / "data" / "coverage_qa" / "questions.json"


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def asked(prompt: str) -> PromptGroup:
    return PromptGroup("1", prompt, ())


@pytest.mark.parametrize("name", tasks.names())
def test_every_shipped_task_loads(name: str) -> None:
    task = tasks.load(name)
    assert task.name == name
    assert task.title
    assert task.about
    assert len({prompt.id for prompt in task.prompts}) == len(task.prompts)
    assert len({prompt.prompt for prompt in task.prompts}) == len(task.prompts)


@pytest.mark.parametrize("name", ["jokes", "stories", "poems"])
def test_the_creative_tasks_ask_twenty_things_in_the_papers_words(name: str) -> None:
    opening = {
        "jokes": "Write me a joke about ",
        "stories": "Write a short story about ",
        "poems": "Write a poem about ",
    }
    task = tasks.load(name)
    assert len(task.prompts) == 20
    assert all(prompt.prompt.startswith(opening[name]) for prompt in task.prompts)
    assert task.rubric


def test_the_states_count_as_equally_likely_until_there_are_counts() -> None:
    task = tasks.load("us-states")
    answers = task.answers_for(asked("anything"))
    assert answers.known is not None
    assert len(answers.known) == 50
    assert answers.reference is None
    assert "--reference" in task.warning
    for text in ("Texas", "texas.", "**Texas**", "Texas\nIt is large.", "\n  Texas  \n"):
        assert answers.label(text) == "Texas"
    assert answers.label("New  york") == "New York"
    assert answers.label("The US state is **Rhode Island**.") == "Rhode Island"
    assert answers.label("Answer: Illinois") == "Illinois"
    assert answers.label("The states are: Texas, Ohio") not in answers.known
    assert answers.label("Paris") not in answers.known


def test_the_states_with_the_counts_of_a_corpus() -> None:
    if not STATES.is_file():
        pytest.skip("the reference counts of the states are absent")
    task = tasks.load("us-states").with_reference(STATES)
    reference = task.answers_for(asked("x")).reference
    assert reference is not None
    assert reference["New York"] == pytest.approx(0.14707665898914413, rel=1e-9)
    assert not task.warning


@pytest.mark.parametrize(
    ("text", "face"),
    [
        ("4", "4"),
        ("You rolled a 4!", "4"),
        ("**6**", "6"),
        ("12", "12"),
        ("3.5", "3.5"),
        ("４", "4"),
        ("sechs", "6"),
    ],
)
def test_a_die_has_six_faces(text: str, face: str) -> None:
    answers = tasks.load("dice").answers_for(asked("x"))
    assert answers.label(text) == face
    assert answers.reference == {str(number): pytest.approx(1 / 6) for number in range(1, 7)}


def test_questions_come_from_a_file_with_their_own_answers(tmp_path: Path) -> None:
    file = tmp_path / "questions.json"
    questions = {
        "说一个国家。": {"answers": [["中国", "中华人民共和国"], ["日本"]]},
        "Name a planet.": {"answers": [["Mars"], ["Earth", "Terra"]]},
    }
    file.write_text(json.dumps(questions, ensure_ascii=False), encoding="utf-8")
    task = tasks.load("coverage-qa").with_prompts(file)
    assert [prompt.prompt for prompt in task.prompts] == list(questions)
    assert task.answers_for(asked("说一个国家。")).label("中华人民共和国。") == "中国"
    assert task.answers_for(asked("Name a planet.")).known == ("Mars", "Earth")
    assert task.answers_for(asked("another")).known is None


def test_the_published_questions() -> None:
    if not QUESTIONS.is_file():
        pytest.skip("the questions of CoverageQA are absent")
    task = tasks.load("coverage-qa").with_prompts(QUESTIONS)
    assert len(task.prompts) == 60
    assert all(prompt.expected is not None for prompt in task.prompts)


def test_a_task_of_ones_own_without_code(tmp_path: Path) -> None:
    (tmp_path / "asked.jsonl").write_text(
        '{"id": "a", "prompt": "اذكر لوناً", "answers": [["أحمر"], ["أزرق"]]}\n{"id": "b", "prompt": "สีอะไร"}\n',
        encoding="utf-8",
    )
    (tmp_path / "counts.json").write_text('{"red": 3, "Blue": {"count": 1}}', encoding="utf-8")
    text = """
    title = "Colours 🎨"
    prompts_file = "asked.jsonl"
    primary = "tv"
    [normalise]
    first_line = true
    pattern = '(?i)colou?r:\\s*(\\w+)'
    strip = "<>"
    [reference]
    file = "counts.json"
    """
    task = tasks.load(write(tmp_path, text, "colours.toml"))
    assert (task.name, task.answers) == ("colours", "listed")
    assert [(prompt.id, prompt.prompt) for prompt in task.prompts] == [("a", "اذكر لوناً"), ("b", "สีอะไร")]
    own, general = task.answers_for(asked("اذكر لوناً")), task.answers_for(asked("สีอะไร"))
    assert own.known == ("أحمر", "أزرق")
    assert general.reference == {"red": 0.75, "Blue": 0.25}
    assert general.label("My colour: RED, I think\nor blue") == "red"
    assert general.label("<blue>") == "Blue"


def test_free_answers_are_compared_after_normalising(tmp_path: Path) -> None:
    task = tasks.load(write(tmp_path, 'prompts = ["Say 😀"]\n[normalise]\nfirst_line = true'))
    answers = task.answers_for(asked("Say 😀"))
    assert answers.known is None
    assert answers.label("A cat.\nReally") == answers.label("a CAT")
    assert answers.label("") == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompts = [", "not TOML"),
        ('promts = ["x"]', "did you mean 'prompts'"),
        ('prompts = "x"', "prompts must be a list, not 'x'"),
        ('prompts = [" "]', "prompt 1"),
        ('prompts = [{ prompt = "x", id = "1" }, { prompt = "y", id = "1" }]', "two prompts have the id '1'"),
        ('prompts = [{ prompt = "x", ansers = [] }]', "did you mean 'answers'"),
        ('prompts = ["x"]\nprompts_file = "y.jsonl"', "keep one"),
        ('prompts_file = "none.jsonl"', "none.jsonl"),
        ('prompts = ["x"]\nn = 0', "n must be at least 1"),
        ('prompts = ["x"]\nn = true', "n must be"),
        ('prompts = ["x"]\nanswers = "some"', "unknown answers"),
        ('prompts = ["x"]\nanswers = "free"\nknown = ["a"]', 'answers = "listed"'),
        ('prompts = ["x"]\nknown = [true]', "answer 1"),
        ('prompts = ["x"]\nname = "a/b"', "is used for files"),
        ('prompts = ["x"]\n[normalise]\npatern = "x"', "did you mean 'pattern'"),
        ('prompts = ["x"]\n[normalise]\npattern = "(x"', "not a regular expression"),
        ('prompts = ["x"]\n[normalise]\npattern = "x"', "exactly one group"),
        ('prompts = ["x"]\n[normalise]\nfirst_line = "yes"', "first_line must be true or false, not 'yes'"),
        ('prompts = ["x"]\n[reference]\ncount = { a = 1 }', "did you mean 'counts'"),
        ('prompts = ["x"]\n[reference]\ncounts = { a = -1 }', "'a'"),
        ('prompts = ["x"]\n[reference]\nfile = "none.json"', "none.json"),
        ('prompts = ["x"]\n[reference]', "[reference] is empty"),
        ('prompts = ["x"]\nprimary = "covrage"', "did you mean 'coverage'"),
        ('prompts = ["x"]\nname = ".."', "is used for files"),
        ('prompts = [{ prompt = "x", answers = "red" }]', "prompt 1: answers must be a list"),
        ('prompts = [{ prompt = "x", answers = ["赤"] }, { prompt = "x", answers = ["青"] }]', "is given twice"),
        ('prompts = [{ prompt = "x", answers = ["赤"] }, "x"]', "is given twice"),
    ],
)
def test_a_broken_task_is_refused_with_the_file_and_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        tasks.load(path)
    assert message in str(caught.value)
    assert "mine.toml" in str(caught.value) or "none." in str(caught.value)


def test_answers_in_a_table_of_prompts_must_be_lists(tmp_path: Path) -> None:
    file = tmp_path / "asked.csv"
    file.write_text("prompt,answers\nName a colour.,red\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"asked\.csv.*answers must be a list"):
        tasks.load("coverage-qa").with_prompts(file)
    twice = tmp_path / "asked.jsonl"
    rows = [{"prompt": "色", "answers": [answer]} for answer in ("赤", "赤", "青")]
    twice.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]), encoding="utf-8")
    assert len(tasks.load("coverage-qa").with_prompts(twice).prompts) == 2
    twice.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UsageError, match=r"asked\.jsonl.*is given twice, with different answers"):
        tasks.load("coverage-qa").with_prompts(twice)


def test_what_is_no_task() -> None:
    with pytest.raises(UsageError, match="did you mean 'jokes'"):
        tasks.load("joke")
    with pytest.raises(UsageError, match="cannot read the task"):
        tasks.load("./not-there.toml")
    with pytest.raises(UsageError, match="cannot be listed"):
        tasks.load("poems").with_reference("counts.json")


def test_counts_are_no_questions_and_questions_no_counts(tmp_path: Path) -> None:
    counts, questions = tmp_path / "counts.json", tmp_path / "questions.json"
    counts.write_text('{"a": 1}')
    questions.write_text('{"q": {"answers": [["a"]]}}')
    with pytest.raises(UsageError, match="--reference"):
        tasks.load("coverage-qa").with_prompts(counts)
    with pytest.raises(UsageError, match="--data"):
        tasks.load("us-states").with_reference(questions)


def test_the_files_in_the_documentation_are_good(tmp_path: Path):
    page = (Path(__file__).parent.parent / "docs" / "experiments.md").read_text(encoding="utf-8")
    task, spec = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "teas.toml").write_text(task, encoding="utf-8")
    (tmp_path / "mine.toml").write_text(spec, encoding="utf-8")
    loaded = load_spec(str(tmp_path / "mine.toml"))
    (teas,) = (tasks.load(name) for name in loaded.tasks)
    assert [prompt.prompt for prompt in teas.prompts] == ["Name a tea.", "说出一种茶。"]
    assert [arm.name for arm in loaded.arms] == ["direct", "vs-standard", "tail", "paper"]
    assert loaded.judge.startswith("anthropic/")
