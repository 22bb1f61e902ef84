"""Finding final answers, and comparing them."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from outspoken.checking.answer_extraction import FinalAnswer, find_final
from outspoken.checking.maths import Checker, answer_groups, compare_quickly, final_answer, same_answer
from outspoken.checking.numbers import read_number, tidy
from outspoken.errors import UsageError

DATA = Path(__file__).parents[2] / "shared" / "data"

FINALS = {
    "boxed": (r"So it is \boxed{\frac{1}{2}}.", r"\frac{1}{2}", "boxed"),
    "the last box": (r"\boxed{1}, no: \boxed{ {2} }, and \boxed{3", "{2}", "boxed"),
    "an empty box": (r"\boxed{7} and \boxed{}", "7", "boxed"),
    "braces that are text": (r"\boxed{\{1, 2\}}", r"\{1, 2\}", "boxed"),
    "GSM8K": ("16 - 3 - 4 = <<16-3-4=9>>9\n9 * 2 = $<<9*2=18>>18\n#### 18", "18", "####"),
    "GSM8K thousands": ("...\n#### 1,234", "1,234", "####"),
    "a heading": ("#### Step 2: add\n3 + 4 is 7\nThat is all.", "7", "last"),
    "stated": ("The final answer is $x^2 + 1$. I hope it is correct.", "x^2 + 1", "stated"),
    "stated bold": ("Some text.\n**Answer:** **1,000** apples because there are many", "1,000", "stated"),
    "stated on the next line": ("## Final Answer:\n\n18", "18", "stated"),
    "stated in words": ("After all that the answer is Tuesday.", "Tuesday", "stated"),
    "an equation": ("The answer is 2 + 3 = 5.", "5", "stated"),
    "two equations": ("The answer is x = 5, y = 3.", "x = 5, y = 3", "stated"),
    "an amount": ("The answer is $18.50.", "$18.50", "stated"),
    "said twice": ("I think the answer is 3. No, the answer is 4!", "4", "stated"),
    "Chinese": ("所以，答案是18。", "18", "stated"),
    "Japanese": ("したがって、答えは２０です。", "２０", "stated"),
    "Arabic": ("إذن الإجابة النهائية هي ٢٠.", "٢٠", "stated"),
    "Korean": ("따라서 정답은 7입니다.", "7", "stated"),
    "German": ("Die Antwort lautet 12.", "12", "stated"),
    "Russian": ("Ответ: 3,5", "3,5", "stated"),
    "an answer alone": ("x^2 + 1", "x^2 + 1", "whole"),
    "a number with its unit": ("18 square feet", "18 square feet", "whole"),
    "a pair": ("(1, -2)", "(1, -2)", "whole"),
    "a sentence": ("So she has 18 apples left over now.", "18", "last"),
    "a sentence in Chinese": ("共18个", "18", "last"),
    "mathematics last": ("We get 5, so that $x = 3$.", "x = 3", "last"),
    "a percentage": ("that makes about 25% of all the people there", "25%", "last"),
    "after thinking": ("<think>maybe 5, maybe 6</think>\nShe gets 7 dollars in all.", "7", "last"),
}


@pytest.mark.parametrize(("text", "answer", "how"), FINALS.values(), ids=FINALS.keys())
def test_the_final_answer_is_found(text: str, answer: str, how: str) -> None:
    assert find_final(text) == FinalAnswer(answer, how)  # type: ignore[arg-type]
    assert final_answer(text) == answer


@pytest.mark.parametrize("text", ["", "  \n", "I do not know how to do this at all.", "\\boxed{"])
def test_where_there_is_none_none_is_found(text: str) -> None:
    assert final_answer(text) is None


@given(st.text(max_size=200) | st.text("\\boxed{}$#=0123456789 .,answeris:/()%\n", max_size=200))
def test_any_text_is_read_or_not(text: str) -> None:
    found = final_answer(text)
    assert found is None or found.strip()
    read_number(tidy(text))
    assert compare_quickly(text, text) in (True, False, None)


def test_a_hostile_text_takes_no_time() -> None:
    began = time.perf_counter()
    for text in (
        r"\boxed{" * 50_000,
        "the answer is " * 20_000,
        "$" * 100_000,
        "1,111" * 50_000,
        "####  " * 50_000,
    ):
        final_answer(text)
    for text in ("(" * 900, "{" * 900, "1," * 450, "1 " * 450, "\\frac" * 180, "٣" * 900):
        compare_quickly(text, text + "1")
    assert time.perf_counter() - began < 5


SAME = {
    "text": ("18", " 18 "),
    "thousands": ("1234567", "1,234,567"),
    "thousands with blanks": ("1234567", "1 234 567"),
    "thousands in LaTeX": ("1234", "1{,}234"),
    "zeros": ("5", "5.00"),
    "leading zeros": ("7", "007"),
    "a fraction": ("0.5", "1/2"),
    "a LaTeX fraction": (r"\frac{1}{2}", "0.5"),
    "another LaTeX fraction": (r"\dfrac12", "1/2"),
    "a mixed number": ("2.5", "2 1/2"),
    "a mixed number in LaTeX": ("3.5", r"3\frac{1}{2}"),
    "a sign for it": ("2.5", "2½"),
    "six places": ("1/3", "0.333333"),
    "a percentage": ("0.5", "50%"),
    "a bare percentage": ("50", r"50\%"),
    "percent in words": ("12.5%", "12.5 percent"),
    "dollars": ("18", r"\$18.00"),
    "dollars in words": ("$5", "5 dollars"),
    "a unit": ("18", "18 apples"),
    "a unit in LaTeX": (r"5\text{ cm}", "5 cm"),
    "units spelled": ("18 km", "18 kilometres"),
    "degrees": (r"90^\circ", "90 degrees"),
    "powers of ten": ("120000", r"1.2 \times 10^{5}"),
    "millions": ("5 million", "5,000,000"),
    "Chinese digits of full width": ("18", "１８"),
    "Arabic-Indic digits": ("3.5", "٣٫٥"),
    "Persian digits": ("1234", "۱٬۲۳۴"),
    "a minus sign": ("-7", "−7"),
    "a Chinese unit": ("18", "18个"),
    "dollars around it": ("$x+1$", "x+1"),
    "words": (r"\text{Tuesday}", "tuesday."),
    "choices": ("(C)", "C"),
}
DIFFERENT = {
    "numbers": ("18", "19"),
    "signs": ("7", "-7"),
    "a rounding": ("1/3", "0.33"),
    "small numbers": ("0.0000001", "0.0000002"),
    "huge numbers": ("1" * 60, "1" * 59 + "2"),
    "a percentage": ("0.5", "5%"),
    "units": ("18 km", "18 m"),
    "scales": ("5 million", "5"),
    "an anagram": ("Tuesday", "tudeysa"),
    "words": ("red", "blue"),
    "a word and a number": ("none", "0"),
    "nothing": ("5", ""),
    "no division": ("1/0", "2/0"),
}


@pytest.mark.parametrize(("expected", "given"), SAME.values(), ids=SAME.keys())
def test_the_same_without_a_process(expected: str, given: str) -> None:
    if "(C)" not in expected:
        assert compare_quickly(expected, given) is True
        assert compare_quickly(given, expected) is True
    assert same_answer(expected, given) is True


@pytest.mark.parametrize(("expected", "given"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_different_without_a_process(expected: str, given: str) -> None:
    assert same_answer(expected, given) is False
    assert same_answer(given, expected) is False


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9), st.integers(0, 6))
def test_decimals_are_compared_exactly(one: int, other: int, places: int) -> None:
    def written(value: int) -> str:
        digits = f"{abs(value):0{places + 1}d}"
        text = f"{int(digits[: len(digits) - places]):,}" + ("." + digits[-places:] if places else "")
        return ("-" if value < 0 else "") + text

    assert compare_quickly(written(one), written(one)) is True
    assert compare_quickly(written(one), written(other)) is (one == other)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def checker() -> AsyncGenerator[Checker]:
    pytest.importorskip("math_verify")
    async with Checker(seconds=3, workers=2) as made:
        yield made


MATHEMATICS = [
    (r"\frac{\pi}{2}", "pi/2", True),
    (r"\frac{\pi}{2}", "π/2", True),
    ("x^2 + 2x + 1", "(x+1)^2", True),
    ("x²+1", "1+x^2", True),
    (r"\sqrt{2}/2", r"1/\sqrt{2}", True),
    ("5", "x = 5", True),
    (r"\{1, 2\}", "2, 1", True),
    (r"\left( 3, \frac{\pi}{2} \right)", "(3, pi/2)", True),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2.0 \end{pmatrix}", True),
    ("[1, 2)", "(1, 2]", False),
    ("5x", "5", False),
    ("2 pi", "2", False),
    ("x^2", "x^3", False),
    ("3.5", "3,5", False),
    ("nonsense \\frac{", "5", False),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("expected", "given", "same"), MATHEMATICS)
async def test_mathematics(checker: Checker, expected: str, given: str, same: bool) -> None:
    assert await checker.same(expected, given) is same
    assert checker.timeouts == 0


@pytest.mark.asyncio(loop_scope="module")
async def test_what_takes_too_long_is_neither(capfd: pytest.CaptureFixture[str]) -> None:
    async with Checker(seconds=1, workers=2) as checker:
        hard = ["10^{10^{10^{10}}}", "9^{9^{9^{9^{9}}}}", "1000000!", "2^{2^{100}}"]
        began = time.perf_counter()
        found = await asyncio.gather(*(checker.same(each, "5") for each in hard))
        assert found[0] is None
        assert True not in found
        assert checker.timeouts == found.count(None)
        assert time.perf_counter() - began < 20
        assert await checker.same("x+1", "1+x") is True, "another process goes on"
        assert checker.timeouts == found.count(None)
    assert capfd.readouterr() == ("", "")


@pytest.mark.asyncio(loop_scope="module")
async def test_groups(checker: Checker) -> None:
    answers = ["1/2", "x", "0.5", "2", r"\frac{2}{4}", "50%", "y", "2.0", "x+x", "2x"]
    assert await checker.groups(answers) == [0, 1, 0, 2, 0, 0, 3, 2, 4, 4]
    assert await checker.groups([]) == []


@pytest.mark.asyncio(loop_scope="module")
async def test_cancelling_leaves_no_process() -> None:
    checker = Checker(seconds=60)
    task = asyncio.create_task(checker.same("10^{10^{10^{10}}}", "5"))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    children = Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children")
    if children.exists():
        before = children.read_text().split()
        assert await checker.same("x+1", "1+x") is True
        await checker.close()
        assert set(children.read_text().split()) <= set(before)
    await checker.close()


def test_from_threads() -> None:
    pytest.importorskip("math_verify")
    found: list[bool | None] = []
    threads = [threading.Thread(target=lambda: found.append(same_answer("x+y", "y + x"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
    assert answer_groups(["a", "b", "a"]) == [0, 1, 0]


def test_bounds_that_cannot_be() -> None:
    for bound in ({"seconds": 0.0}, {"workers": 0}):
        with pytest.raises(UsageError, match="seconds must be above 0"):
            Checker(**bound)  # type: ignore[arg-type]


def test_gsm8k_is_read_whole() -> None:
    path = DATA / "gsm8k" / "test.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/gsm8k/test.jsonl is absent")
    began = time.perf_counter()
    answers = [json.loads(line)["answer"] for line in path.read_text("utf-8").splitlines()]
    finals = [final_answer(answer) for answer in answers]
    for answer, final in zip(answers, finals, strict=True):
        assert final == answer.rpartition("#### ")[2]
        assert compare_quickly(answer.rpartition("#### ")[2], f"${float(final.replace(',', '')):,.2f}") is True
    assert time.perf_counter() - began < 10


@pytest.mark.asyncio(loop_scope="module")
async def test_answers_of_math_are_themselves_and_not_each_other(checker: Checker) -> None:
    path = DATA / "math" / "math.jsonl"
    if not path.is_file():
        pytest.skip("shared/data/math/math.jsonl is absent")
    answers = [json.loads(line)["answer"] for line in path.read_text("utf-8").splitlines()][:150]
    for answer in answers:
        assert final_answer(rf"We see that $x > 3$ in 2 cases, hence $\boxed{{{answer}}}$.") == answer.strip()
        assert compare_quickly(answer, f"${answer}$") is True
