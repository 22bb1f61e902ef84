"""The names that models use for a list of candidates, a candidate's text and its weight, in many languages."""

from __future__ import annotations

import re
import unicodedata

from outspoken.parsing.words import alternatives

__all__ = [
    "ANY_WEIGHT_LABEL",
    "BOOKKEEPING",
    "LISTS",
    "QUESTIONS",
    "REASONING",
    "TEXTS",
    "USUAL_TEXTS",
    "WEIGHTS",
    "WEIGHT_LABEL",
    "plain",
]


def plain(key: str) -> str:
    """The form in which keys are compared: Unicode NFKC, lower case, words joined by an underscore."""
    if key.isascii() and key.islower() and key.isalpha():
        return key
    folded = unicodedata.normalize("NFKC", key).strip().strip("*_`\"'").casefold()
    return "_".join(folded.replace("-", " ").replace("_", " ").split())


def _words(names: str) -> list[str]:
    return [plain(name) for name in names.split()]


_PROBABILITY = _words(
    "probability probabilities prob probs p likelihood likelihoods confidence certainty weight weights score "
    "scores chance odds frequency estimated_probability probability_estimate stated_probability "
    "relative_probability probability_score confidence_score likelihood_score chances "
    "概率 機率 几率 機會 可能性 置信度 信心 概率值 機率值 確率 信頼度 확률 가능성 신뢰도 "
    "wahrscheinlichkeit probabilité probabilite probabilidad probabilidade probabilità probabilita "
    "вероятность شанс احتمال الاحتمال احتمالية הסתברות סבירות olasılık waarschijnlijkheid kans "
    "prawdopodobieństwo pravděpodobnost sannolikhet sandsynlighed todennäköisyys πιθανότητα valószínűség "
    "probabilitate xác_suất khả_năng độ_tin_cậy संभावना प्रायिकता ความน่าจะเป็น probabilitas kemungkinan "
    "ймовірність probabilty probablity probabilitiy propability confidance plausibility plausibilität "
    "prawdopodobieństwem вероятностью olasılığı olasılıkla todennäköisyydellä valószínűséggel pravděpodobností "
    "ймовірністю wahrscheinlichkeiten probabilidades probabilités probabilitats вероятности "
    "konfidenz sicherheit vraisemblance confiance confianza confiança fiducia probabilité_estimée verosimilitud "
    "уверенность правдоподобие ثقة الثقة نسبة_الاحتمال ביטחון güven ihtimal pewność szansa zekerheid "
    "可信度 信賴度 信心度 確信度 確度 自信度 発生確率 確らしさ 확신도 신뢰수준 उम्मीद ความมั่นใจ "
    "βεβαιότητα εμπιστοσύνη certeza certezza certitude gewissheit zuversicht točnost pravděpodobnosti "
    "নিশ্চয়তা సంభావ్యత சாத்தியம் நிகழ்தகவு სავარაუდო "
    "est._prob est._probability prob._est. subjective_probability"
)
_PERCENT = _words(
    "probability_percent probability_percentage percent_probability percentage_probability likelihood_percent "
    "confidence_percent chance_percent prob_percent prob_pct probability_pct "
    "percent percentage pct percents percentages 百分比 百分率 prozent pourcentage porcentaje процент % "
    "porcentagem percentuale yüzde odsetek パーセント 퍼센트"
)
_NLL = _words("nll negative_log_likelihood neg_log_likelihood surprisal")
_LOGPROB = _words("logprob log_prob log_probability log_likelihood loglikelihood logp")

WEIGHTS: dict[str, str] = {
    **dict.fromkeys(_PROBABILITY, "probability"),
    **dict.fromkeys(_PERCENT, "percent"),
    **dict.fromkeys(_NLL, "nll"),
    **dict.fromkeys(("perplexity", "ppl"), "perplexity"),
    **dict.fromkeys(_LOGPROB, "logprob"),
}
"""The keys of a weight, and the scale of a number under each."""

TEXTS = {
    name: rank
    for rank, name in enumerate(
        _words(
            "text response answer content output completion candidate reply result message sentence "
            "generated_text response_text value texts option generation value_text body "
            "文本 文字 內容 内容 回答 回應 回应 回复 回覆 答案 テキスト 応答 回答文 텍스트 응답 답변 "
            "antwort réponse respuesta risposta resposta texte texto testo ответ текст إجابة نص תשובה טקסט "
            "الإجابة النص الرد جواب הטקסט התשובה उत्तर पाठ जवाब टेक्स्ट κείμενο απάντηση odpowiedź tekst treść "
            "cevap yanıt metin "
            "antwoord svar jawaban teks відповідь відповіді câu_trả_lời văn_bản คำตอบ ข้อความ "
            "답 내용 본문 문장 本文 文 応答文 "
            "句子 答复 正文 生成文本 phrase frase satz предложение guess joke story poem idea suggestion"
        )
    )
}
"""The keys of a candidate's text, ranked: the most reliable first."""

LISTS = frozenset(
    _words(
        "responses candidates answers items results outputs completions options texts list data generations "
        "samples replies variants choices alternatives distribution suggestions ideas examples jokes stories "
        "poems sentences guesses palpites respuestas réponses antworten risposte respostas ответы варианты "
        "yanıtlar cevaplar odpowiedzi antwoorden απαντήσεις إجابات الإجابات ردود תשובות "
        "回答一覧 選択肢 답변들 응답들 "
        "回答 回應 回应 候選 候选 答案 応答 응답"
    )
)
"""The keys of a list of candidates."""

REASONING = frozenset(
    _words(
        "reasoning thinking thought thoughts analysis rationale chain_of_thought reasoning_content scratchpad "
        "推理 思考 分析 理由"
    )
)
BOOKKEEPING = frozenset(_words("id index rank number no idx # type role"))
QUESTIONS = frozenset(_words("question problem prompt input query instruction task 问题 問題 질문 вопрос frage"))
"""Beside one of these keys, an answer is a field of a structured candidate and not its text."""

USUAL_TEXTS = ("text", "response", "answer", "content", "output", "completion", "candidate")
"""The names of a text that a misspelt one is compared with."""

_AMBIGUOUS = frozenset(
    (
        "p",
        "odds",
        "chance",
        "chances",
        "kans",
        "信心",
        "score",
        "scores",
        "機會",
        "weight",
        "weights",
        "frequency",
        "%",
        "sicherheit",
        "güven",
        "ثقة",
        "الثقة",
        "szansa",
        "ביטחון",
        "confiance",
        "fiducia",
        "उम्मीद",
        "ihtimal",
        "khả_năng",
    )
)


def _pattern(names: list[str]) -> str:
    return alternatives("|".join(re.escape(name).replace("_", r"[\s_-]?") for name in names))


WEIGHT_LABEL = _pattern([name for name in WEIGHTS if name not in _AMBIGUOUS])
"""A pattern for the labels of a weight in running text."""

ANY_WEIGHT_LABEL = _pattern([name for name in WEIGHTS if name != "%"])
"""A pattern for the labels of a weight at the beginning of a field: it has ambiguous words."""
