"""Openings before short answers are left out, and answers that only look like openings stay."""

from __future__ import annotations

import pytest

from outspoken.measure.short_answers import answer_of

OPENED = {
    "The answer is: Red": "Red",
    "Answer: Red": "Red",
    "My answer: Red": "Red",
    "**Answer:** Red": "Red",
    "The answer is Red.": "Red.",
    "Sure! Here is one: Red": "Red",
    "Sure, here's a color: Red": "Red",
    "Here is my answer: Red": "Red",
    "Certainly! Here is a name for your cat: Miso": "Miso",
    "My choice is: Portugal": "Portugal",
    "Response: blue": "blue",
    "Final answer: 42": "42",
    "Antwort: Rot": "Rot",
    "Die Antwort ist: Rot": "Rot",
    "Réponse : Rouge": "Rouge",
    "La respuesta es: Rojo": "Rojo",
    "Resposta: Vermelho": "Vermelho",
    "Risposta: Rosso": "Rosso",
    "Ответ: красный": "красный",
    "答案：红色": "红色",
    "我的答案是：红色": "红色",
    "答えは：赤": "赤",
    "정답: 빨강": "빨강",
    "الإجابة هي: أحمر": "أحمر",
}
KEPT = (
    "Red",
    "The answer is blowing in the wind",
    "Sure Thing",
    "Re: Zero",
    "Dr. No",
    "3:15 pm",
    "C#",
    "-5",
    "Answer me!",
    "The Answer",
    "Answer:",
    "Here is where we met",
    "Of course: a short story about a golf course that wanted to be an ocean, and about the gulls who believed it",
    "Sure, the sea is cold.",
    "Reply All",
    "Yes: a band",
    "答案",
    "回答问题的人",
    "Antwort auf Hiob",
    "Ответ на всё",
    "A:B testing",
    "My choice",
    "",
    "x" * 500,
)


@pytest.mark.parametrize(("text", "answer"), OPENED.items())
def test_an_opening_is_left_out(text, answer):
    assert answer_of(text).strip("* ") == answer
    assert answer_of(answer) == answer


@pytest.mark.parametrize("text", KEPT)
def test_other_texts_stay(text):
    assert answer_of(text) == text
