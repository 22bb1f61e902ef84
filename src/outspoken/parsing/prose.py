"""What surrounds the answer in running text: drafts that a later version replaces, a choice after it, a refusal."""

from __future__ import annotations

import re

from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import is_rule

__all__ = ["answer_lines", "is_refusal", "replaces"]

_REPLACES = re.compile(
    r"\b(?:correct(?:ed|ion)|revis(?:ed|ion)|fixed|updated|improved|final(?:ly| answer| version| list| response| responses| distribution| output| set| result)?|actual(?:ly)?|let me (?:redo|fix|correct|revise|try again|rewrite)"
    r"|wait|oops|on second thought|better version|second (?:draft|attempt|version)|rewritten|re-?normali[sz]ed|adjusted|cleaned[- ]up|scratch that|instead"
    r"|korrigiert\w*|überarbeitet\w*|endgültig\w*|korrektur|verbessert\w*|moment|corrigée?s?|révisée?s?|finale?s?|version définitive|corregid[oa]s?|revisad[oa]s?|definitiv[oa]s?|versión final|respuesta final"
    r"|corretto|corretta|rivist[oa]|definitiv[oa]|versione finale|corrigid[oa]s?|versão final|poprawion[aey]|ostateczn[aey]|düzeltilmiş|nihai|son hali|исправлен\w*|окончательн\w*|итогов\w*|уточнённ\w*)\b"
    r"|修正|更正|訂正|修订|修訂|最终|最終|改正|更新後|更新后|수정|최종|정정|المصححة|المعدلة|النهائي\w*|תיקון|סופי\w*|संशोधित|अंतिम|แก้ไข|ฉบับสุดท้าย|τελικ\w*|διορθωμέν\w*|cuối cùng|đã sửa",
    re.IGNORECASE,
)
_CHOICE = re.compile(
    r"\W*(?:selected|chosen|(?:my |the )?(?:final )?(?:choice|selection|pick|decision)|winner|best (?:option|choice|response)|recommendation|recommended|i(?:'ll| will| would)? (?:choose|pick|select|go with)|sampled"
    r"|final answer|selection|auswahl|gewählt|meine wahl|ausgewählt|choix|sélectionnée?|elección|selección|elegid[oa]|seleccionad[oa]|scelta|escolha|выбор|выбран\w*|wybór|seçim"
    r"|選擇|选择|已選定|已选定|選定|选定|推荐|推薦|最终选择|選んだ|選択|推奨|선택|추천|الاختيار|المختار|הבחירה|चयन|ตัวเลือกที่เลือก|lựa chọn cuối|επιλογή)"
    r"(?:\s?(?:response|option|answer|idea|candidate))?s?\s?\W*(?:[:：—–-].*|\s?#?\d{1,2}\W*)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"(?:i['’]?m (?:really |very |so |truly )?(?:sorry|afraid|unable|not able|not comfortable)|i am (?:really |very )?(?:sorry|afraid|unable|not able)|sorry[,!. ]|i (?:can['’]?t|cannot|can not|won['’]?t|will not|must decline|have to decline|don['’]?t feel comfortable|do not feel|am not comfortable)"
    r"|as an ai|my apolog|apologies|unfortunately[, ]+i|i['’]?d rather not|i have to refuse|i need to decline|not something i can|es tut mir leid|tut mir leid|ich kann (?:dabei |das |dir |ihnen |hier)?(?:leider )?(?:nicht|keine)|leider kann ich|entschuldigung"
    r"|je suis désolée?|désolée?[,. ]|je ne peux pas|je ne suis pas en mesure|lo siento|no puedo|disculpa|mi dispiace|non posso|spiacente|desculpe|lamento|não posso|sinto muito"
    r"|извините|простите|к сожалению|я не могу|не могу помочь|przepraszam|niestety|nie mogę|üzgünüm|maalesef|yapamam|yardımcı olamam|het spijt me|ik kan (?:hier|je|dat)?\s?niet|xin lỗi|tôi không thể|λυπάμαι|δεν μπορώ|maaf"
    r"|抱歉|对不起|對不起|很遗憾|很遺憾|我无法|我無法|我不能|不能提供|无法提供|無法提供|申し訳|すみません|ごめんなさい|お手伝いできません|お答えできません|죄송|도와드릴 수 없|할 수 없습니다|آسف|أعتذر|عذرًا|عذرا|لا أستطيع|لا يمكنني|מצטער|סליחה|איני יכול|אני לא יכול"
    r"|क्षमा|माफ़|मैं मदद नहीं|खेद|ขออภัย|ขอโทษ|ไม่สามารถ)",
    re.IGNORECASE,
)


def replaces(text: str) -> bool:
    """Whether a text between two answers says that the second replaces the first."""
    return len(text) < 2_000 and _REPLACES.search(text) is not None


def answer_lines(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the answer, without a draft before it and a choice after it, and the repairs."""
    repairs: list[str] = []
    cut = _last_replacement(lines)
    if cut:
        lines = lines[cut:]
        repairs.append("draft")
    for at in range(1, len(lines)):
        line = lines[at].strip()
        if (
            not line
            or len(line) > 200
            or (lines[at - 1].strip() and not is_rule(lines[at - 1]) and line[0] not in "#*")
        ):
            continue
        if _CHOICE.fullmatch(line) and not any(find_weight(rest) for rest in lines[at + 1 :][:200]):
            if any(part.strip() for part in lines[:at]):
                repairs.append("suffixed")
                return lines[:at], repairs
    return lines, repairs


def _last_replacement(lines: list[str]) -> int:
    """The position after the last line that announces a corrected or final answer; 0 without one.

    The parts before and after it both state weights; the part after states at least half as many.
    """
    if len(lines) > 5_000:
        return 0
    weighted = [at for at, line in enumerate(lines) if find_weight(line) is not None]
    if len(weighted) < 2:
        return 0
    others = set(range(1, len(lines))).difference(weighted)
    marks = [at for at in sorted(others) if 0 < len(lines[at].strip()) < 240 and _REPLACES.search(lines[at])]
    for at in reversed(marks):
        before = sum(1 for each in weighted if each < at)
        after = sum(1 for each in weighted if each > at)
        if at in weighted or not before or after * 2 < before:
            continue
        blank = next((line for line in range(at - 1, -1, -1) if lines[line].strip()), 0)
        announces = (
            lines[at].strip().rstrip("*_ ")[-1:] in tuple(":：.。!")
            or lines[at].lstrip()[:1] in "#*"
            or blank < at - 1
        )
        if announces:
            return at + 1
    return 0


def is_refusal(lines: list[str]) -> bool:
    """Whether the first lines decline to answer."""
    head = " ".join(" ".join(lines[:8]).split())[:400]
    match = _REFUSAL.search(head)
    return match is not None and match.start() < 160
