"""What tests of several files share: the embedded model, and an environment that is not the user's."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from browser import browsing
from commands import Commands
from hypothesis import settings
from proofs import PROOFS

from outspoken.models.local import Local

# llama.cpp's threads wait for each other spinning: alone that is fastest, beside other work it stands still. One
# thread is nearly as fast for so small a model, whatever else the machine does; child processes inherit this.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")
# The same for the threads of NumPy's linear algebra: every processor has its own tests to run.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples each time, so that a change fails for what it changed; `make proofs` and `make latest` look for
# new ones. A time limit for each example would fail on a busy machine.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None, print_blob=True)
settings.load_profile("steady")


# Several processes run the tests: those of a file stay together and share its fixtures. The tests of these files share
# nothing and take long, so that each goes where there is room.
_APART = {
    "test_cli_measure",
    "test_docs",
    "test_experiment_run",
    "test_job",
    "test_judge",
    "test_local",
    "test_synth_process",
    "test_training",
}
# What takes longest begins first, so that no process is left alone with it.
_FIRST = ("ray", "browser", "test_docs", "test_job", "test_serve_clients")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m core` the other files are not even imported: they may need what is not installed."""
    if config.option.markexpr == "core" and collection_path.name.startswith("test_"):
        return "pytest.mark.core" not in collection_path.read_text(encoding="utf-8") or None
    return None


# Before xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only `make proofs` runs, and say which tests share a process: two clusters of Ray on one
    machine would find each other."""
    left = [item for item in items if not PROOFS and (mark := item.get_closest_marker("proof")) and mark.kwargs]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)
    order: dict[pytest.Item, int] = {}
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        file = item.path.stem
        if mark is None and file not in _APART:
            item.add_marker(pytest.mark.xdist_group(file))
        group = mark.args[0] if mark is not None else file
        order[item] = _FIRST.index(group) if group in _FIRST else len(_FIRST)
    items.sort(key=order.__getitem__)


@pytest.fixture(autouse=True)
def _no_model_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OUTSPOKEN_MODEL", raising=False)


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    """Runs commands of the command line in processes of their own."""
    if os.name != "posix":
        pytest.skip("processes that fork")
    started = Commands()
    yield started
    started.close()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[Local]:
    """The embedded model, loaded once; its file comes from the cache, or is fetched into it."""
    pytest.importorskip("xllamacpp")
    model = Local("smollm2")
    yield model
    asyncio.run(model.aclose())


@pytest.fixture(scope="session")
def minilm() -> Iterator[Local]:
    """The embedded embedding model, loaded once; its file comes from the cache, or is made there."""
    pytest.importorskip("xllamacpp")
    pytest.importorskip("gguf")
    model = Local("minilm")
    yield model
    asyncio.run(model.aclose())


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Any]:
    """One browser for all tests that need one; each opens pages without a past in it."""
    async with browsing() as found:
        yield found


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with the tokenizer of the embedded model."""
    hf, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    from outspoken.training import base_models

    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = base_models.load_tokenizer(base_models.find_weights("local/smollm2"))
    config = hf.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of JavaScript packages with openai in it; the test is skipped where it cannot be had."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is absent")
    folder = tmp_path_factory.mktemp("npm")
    try:
        installed = subprocess.run(
            ["npm", "install", "openai", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("the npm package openai did not come within 60 s")
    if installed.returncode:
        pytest.skip(f"the npm package openai cannot be installed: {installed.stderr.strip()[-300:]}")
    return folder / "node_modules"
