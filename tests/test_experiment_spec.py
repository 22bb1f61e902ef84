from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numpy")

from outspoken import UsageError
from outspoken.experiment.analysis import check_measuring
from outspoken.experiment.grid import Grid
from outspoken.experiment.runner import estimate_grid
from outspoken.experiment.spec import ExperimentSpec, load, names
from outspoken.methods.call import MethodCall
from outspoken.methods.steps import start
from outspoken.templates import load as template

ISSUE = ("coverage-qa", "creative", "dice", "k", "min-p", "placebo", "scaling", "tau", "temperature", "top-p")
ISSUE = (*ISSUE, "us-states", "wording")


@pytest.fixture
def replay(tmp_path: Path) -> str:
    path = tmp_path / "replies.jsonl"
    path.write_text(json.dumps({"text": "好"}) + "\n", encoding="utf-8")
    return f"replay/{path}"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def grid(name: str, replay: str, **changes: Any) -> Grid:
    return Grid.make(load(name).changed(models=(replay,), **changes))


def test_all_experiments_ship() -> None:
    assert names() == ISSUE


@pytest.mark.parametrize("name", ISSUE)
def test_every_shipped_experiment_makes_a_grid(name: str, replay: str, tmp_path: Path) -> None:
    spec = load(name)
    assert spec.title
    assert spec.about
    questions = tmp_path / "questions.json"
    questions.write_text('{"Name a fruit.": {"answers": [["apple"]]}}')
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "x"}\n')
    for each in (spec, spec.fullsize()):
        models = (replay, f"replay/{other}") if name == "scaling" else (replay,)
        data = str(questions) if name == "coverage-qa" else None
        expanded = Grid.make(each.changed(models=models, data=data))
        assert expanded.cells
        assert len({cell.id for cell in expanded.cells}) == len(expanded.cells)
        assert expanded.content()


def test_the_calls_of_each_method_are_those_of_table_1(replay: str) -> None:
    expanded = grid("creative", replay, tasks=("jokes",), n=30, k=5)
    calls = {}
    for cell in expanded.cells:
        settings, goal = cell.plan().settings, cell.plan().run.goal
        calls[cell.arm.name] = (goal.n, settings.k, settings.turns if cell.arm.method == "vs-multi" else 1)
    assert calls == {
        "direct": (30, 1, 1),
        "direct-cot": (30, 1, 1),
        "sequence": (30, 5, 1),
        "multi-turn": (None, 30, 1),
        "vs-standard": (30, 5, 1),
        "vs-cot": (30, 5, 1),
        "vs-multi": (30, 5, 6),
    }
    assert {cell.plan().settings.temperature for cell in expanded.cells} == {0.7}
    assert {cell.plan().settings.top_p for cell in expanded.cells} == {1.0}


def test_an_axis_varies_only_the_methods_to_which_it_applies(replay: str) -> None:
    expanded = grid("tau", replay)
    direct = [cell for cell in expanded.cells if cell.arm.name == "direct"]
    assert [(cell.value, cell.plan().settings.tau) for cell in direct] == [(None, None)]
    verbalized = [cell for cell in expanded.cells if cell.arm.name == "vs-standard"]
    assert [cell.value for cell in verbalized] == [1.0, 0.9, 0.5, 0.2, 0.05, 0.005, 0.001]
    assert [cell.plan().settings.tau for cell in verbalized] == [None, 0.9, 0.5, 0.2, 0.05, 0.005, 0.001]
    assert [cell.settings("tau")["tau"] for cell in verbalized][:2] == [1.0, 0.9]
    assert direct[0].settings("tau")["tau"] is None


def test_min_p_goes_under_the_providers_own_name(replay: str) -> None:
    expanded = grid("min-p", replay)
    assert {cell.plan().settings.extra["min_p"] for cell in expanded.cells} == {0.0, 0.01, 0.02, 0.05, 0.1}
    assert expanded.cells[1].settings("min_p")["min_p"] == 0.01


def test_the_wordings_are_the_seven_definitions(replay: str) -> None:
    expanded = grid("wording", replay)
    used = [cell.plan().settings.template for cell in expanded.cells if cell.arm.method == "vs-standard"]
    assert used == ["paper", "implicit", "relative", "percent", "confidence", "perplexity", "nll"]
    assert len({template(name).hash for name in used}) == 7


def test_the_placebo_asks_for_the_same_without_the_probability(replay: str) -> None:
    expanded = grid("placebo", replay)
    cell = next(cell for cell in expanded.cells if cell.arm.name == "placebo")
    assert cell.arm.weights == "uniform"
    assert cell.settings("")["weights"] == "uniform"
    plan = cell.plan()
    request = next(start(MethodCall((*request_of("x"),), plan.settings, plan.template, "m", True)))
    text = " ".join(message.content for message in request.messages)
    assert "probab" not in text.lower()
    assert '"number"' in text
    assert request.schema is not None
    item = request.schema["properties"]["responses"]["items"]["properties"]
    assert list(item) == ["text", "number"]


def request_of(text: str) -> Any:
    from outspoken.chat import as_messages

    return as_messages(text)


def test_the_placebos_numbers_do_not_decide_which_responses_are_cut(replay: str) -> None:
    with pytest.raises(UsageError, match="multiple of k"):
        grid("placebo", replay, n=11)


def test_a_model_that_takes_no_such_setting_is_refused_in_one_sentence(
    replay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from outspoken.models import Capabilities
    from outspoken.models.replay import Replay

    monkeypatch.setattr(Replay, "capabilities", Capabilities(schema=True))
    with pytest.raises(UsageError, match=r"replay/.* does not take the setting min_p: .*$"):
        grid("min-p", replay)
    with pytest.raises(UsageError, match=r"replay/.* takes no seed"):
        grid("creative", replay, seed=1)


def test_changes_from_the_command_line(replay: str) -> None:
    spec = load("creative").changed(
        methods=("vs-standard", "sequence"), tasks=("jokes",), n=7, k=3, prompts=2, seed=4, models=(replay,)
    )
    expanded = Grid.make(spec)
    assert [cell.arm.name for cell in expanded.cells] == ["vs-standard", "sequence"]
    assert [prompt.id for prompt in expanded.tasks[0].prompts] == ["1", "2"]
    plan = expanded.cells[0].plan()
    assert (plan.run.goal.n, plan.settings.k, plan.settings.seed) == (7, 3, 4)
    assert load("creative").fullsize().settings == {"temperature": 0.7, "top_p": 1.0, "max_tokens": 8192}


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path, replay: str) -> None:
    (tmp_path / "colours.toml").write_text('prompts = ["สี", "色"]', encoding="utf-8")
    (tmp_path / "own.toml").write_text('base = "standard"\n[direct]\nsystem = "短く"\n', encoding="utf-8")
    text = f"""
    tasks = ["./colours.toml"]
    models = ["{replay}"]
    [[arms]]
    name = "short"
    method = "direct"
    template = "own.toml"
    temperature = 0.1
    [settings]
    temperature = 1.0
    """
    expanded = Grid.make(load(write(tmp_path, text)))
    (cell,) = expanded.cells
    assert expanded.spec.name == "mine"
    assert [prompt.prompt for prompt in cell.task.prompts] == ["สี", "色"]
    assert cell.plan().settings.temperature == 0.1
    assert cell.plan().template.wordings["direct"].system == "短く"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks = [", "not TOML"),
        ('tsks = ["jokes"]', "did you mean 'tasks'"),
        ('arms = ["direct"]', "has no tasks"),
        ('tasks = ["jokes"]', "has no arms"),
        ('tasks = ["jokes"]\narms = ["direkt"]', "did you mean 'direct'"),
        ('tasks = ["jokes"]\narms = [{ name = "a", metod = "direct" }]', "did you mean 'method'"),
        ('tasks = ["jokes"]\narms = ["direct", "direct"]', "two arms are called 'direct'"),
        ('tasks = ["jokes"]\narms = ["direct"]\nbaseline = "sequence"', "unknown baseline"),
        ('tasks = ["jokes"]\narms = ["direct"]\nn = 0', "n must be"),
        ('tasks = ["jokes"]\narms = ["direct"]\nn = "many"', "n must be a whole number"),
        ('tasks = ["jokes"]\narms = ["direct"]\nprompts = "some"', 'or "all"'),
        ('tasks = ["jokes"]\narms = ["direct"]\naxis = "k"', "needs values"),
        ('tasks = ["jokes"]\narms = ["direct"]\nvalues = [1]', "no axis"),
        ('tasks = ["jokes"]\narms = ["direct"]\naxis = "top_k"\nvalues = [1]', "unknown axis"),
        ('tasks = ["jokes"]\narms = ["direct"]\naxis = "tau"\nvalues = [0.1]', "applies to none"),
        ('tasks = ["jokes"]\narms = ["vs-cot"]\naxis = "tau"\nvalues = [0.1, 0.1]', "must differ"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[settings]\ntemprature = 1', "did you mean 'temperature'"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[settings]\nk = 3', "unknown setting 'k'"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[quality]\njudge = "x"', "key in [quality]"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[full]\nsize = 1', "key in [full]"),
        ('tasks = ["jokes"]\narms = [{ method = "direct", weights = "none" }]', "unknown weights"),
        ('tasks = ["jokes"]\narms = [{ method = "sequence", token_match = "vs-cot" }]', "token_match"),
        ('tasks = ["jokes"]\narms = ["direct"]\nname = "../evil"', "becomes the name of a folder"),
        ('tasks = ["jokes"]\narms = ["direct"]\nname = ".."', "becomes the name of a folder"),
        ('tasks = [3]\narms = ["direct"]', "tasks must be texts, not 3"),
        ('tasks = ["jokes"]\narms = [{ name = "", method = "direct" }]', "an arm has an empty name"),
        ('tasks = ["jokes"]\narms = [{ name = 3, method = "direct" }]', "an arm of {path}: name must be text"),
        ('tasks = ["jokes"]\narms = [{ method = ["direct"] }]', "an arm of {path}: method must be text"),
        (
            'tasks = ["jokes"]\narms = ["direct"]\n[settings]\ntemperature = "hot"',
            "temperature must be a number from 0 to 10, not 'hot'",
        ),
        (
            'tasks = ["jokes"]\narms = ["direct"]\n[settings]\ntau = "low"',
            "tau must be a number above 0 and below 1",
        ),
        (
            'tasks = ["jokes"]\narms = ["direct"]\naxis = "temperature"\nvalues = ["hot"]',
            "values: temperature must be",
        ),
        ('tasks = ["jokes"]\narms = ["direct"]\naxis = "min_p"\nvalues = ["low"]', "values: min_p must be"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[quality]\nmodel = 3', "[quality] of {path}: model must be text"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[full]\nsettings = 3', "[full]: settings must be a table"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[full]\nn = "many"', "n must be"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[capability]\nm = nan', "[capability]: the number of m"),
        ('tasks = ["jokes"]\narms = ["direct"]\n[capability]\nm = "high"', "[capability]: the number of m"),
    ],
)
def test_a_broken_spec_is_refused_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert message.format(path=path) in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('temperature = "hot"', "temperature must be a number"),
        ("top_p = true", "top_p must be a number"),
        ("max_tokens = 1.5", "max_tokens must be a whole number"),
        ('seed = "x"', "seed must be a whole number"),
        ('k = "x"', "k must be a whole number"),
        ("template = 3", "template must be text"),
        ("stop = 3", "stop must be a list"),
        ('stop = "END"', "stop must be a list"),
        ("extra = 3", "extra must map"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_refused_wherever_it_stands(
    tmp_path: Path, setting: str, message: str
) -> None:
    arm = f'tasks = ["jokes"]\narms = [{{ name = "色", method = "vs-multi", {setting} }}]'
    table = f'tasks = ["jokes"]\narms = ["direct"]\n[settings]\n{setting}'
    for text in (arm, *([] if setting.startswith("k ") else [table])):
        with pytest.raises(UsageError) as caught:
            load(write(tmp_path, text))
        assert message in str(caught.value)
        assert ("the arm 色" if text == arm else "[settings]") in str(caught.value)


def test_an_arm_may_not_be_matched_with_one_that_is_matched_itself(tmp_path: Path) -> None:
    arms = '"direct", { name = "a", method = "sequence", token_match = "%s" }'
    arms += ', { name = "b", method = "sequence", token_match = "a" }'
    for first in ("direct", "b"):
        with pytest.raises(UsageError, match="which is itself matched"):
            load(write(tmp_path, f'tasks = ["jokes"]\narms = [{arms % first}]'))


def test_measuring_is_checked_before_anything_is_asked(replay: str, tmp_path: Path) -> None:
    states = grid("us-states", replay)
    for changes, message in (
        ({"judge": "nosuch/x"}, "nosuch"),
        ({"judge": replay}, "name a rubric"),
        ({"embedder": "minilmm"}, "did you mean 'minilm'"),
        ({"primary": "covrage"}, "did you mean 'coverage'"),
    ):
        with pytest.raises(UsageError, match=message):
            check_measuring(states.spec.changed(**changes), states.tasks)
    check_measuring(states.spec.changed(judge=replay, rubric="creative", embedder="none"), states.tasks)
    mixed = grid("creative", replay, tasks=("jokes", "us-states"), judge=replay)
    check_measuring(mixed.spec, mixed.tasks)
    estimate = estimate_grid(mixed, tmp_path / "out")
    wanted = sum(cell.wanted * len(cell.task.prompts) for cell in mixed.cells if cell.task.name == "jokes")
    assert any(f"judges about {wanted:,} responses" in line for line in estimate.assumptions)


def test_listed_answers_must_be_given(replay: str, tmp_path: Path) -> None:
    path, counts = tmp_path / "teas.toml", tmp_path / "counts.json"
    path.write_text('prompts = ["茶"]\nanswers = "listed"', encoding="utf-8")
    counts.write_text('{"Assam": 1}')
    with pytest.raises(UsageError, match="write known"):
        grid("creative", replay, tasks=(str(path),))
    assert grid("creative", replay, tasks=(str(path),), reference=str(counts)).tasks[0].expected is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("jokes", "jokes")}, "two tasks are called 'jokes'"),
        ({"tasks": ("coverage-qa",)}, "--data FILE"),
        ({"reference": "counts.json"}, "cannot be listed"),
        ({"data": "prompts.jsonl"}, "--tasks"),
        ({"methods": ("vs-fast",)}, "unknown method"),
        ({"settings": {"temperature": -1}}, "temperature"),
    ],
)
def test_contradictory_settings_are_refused(replay: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        grid("creative", replay, **changes)
    assert message in str(caught.value)


def test_scaling_takes_two_models(replay: str) -> None:
    with pytest.raises(UsageError, match="two or more"):
        grid("scaling", replay)
    spec = load("creative").changed(models=(replay, replay))
    with pytest.raises(UsageError, match="named twice"):
        Grid.make(spec)


def test_capability_is_the_axis_of_scaling(replay: str, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "x"}\n')
    spec = load("scaling").changed(models=(replay, f"replay/{other}"), capability={replay: 3.5})
    values = {cell.model.name: cell.settings("capability")["capability"] for cell in Grid.make(spec).cells}
    assert values == {replay: 3.5, f"replay/{other}": None}


def test_the_content_of_a_grid_identifies_it(replay: str) -> None:
    same = grid("us-states", replay).content()
    assert same == grid("us-states", replay, judge=replay).content()
    assert same != grid("us-states", replay, n=31).content()
    assert isinstance(load("us-states"), ExperimentSpec)
