"""Which language a text is in, roughly: enough to see that people write in another than before.

Writing systems tell many languages apart; those in Latin letters are told apart by their function
words, which make up about half of any sentence (Grefenstette, "Comparing Two Language
Identification Schemes", 1995). No model and no dependency; a text of two words may mislead it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

_FUNCTION_WORDS = {
    "en": "the of and to in is was what which who how does do did when where why are were for that "
    "with from by on at it this be can many much has have had not",
    "de": "der die das den dem des und ist war was welche welcher wer wie wann wo warum sind ein "
    "eine einen einer nicht mit von für auf im zu zum zur wird werden hat haben",
    "fr": "le la les des du de et est était qui que quoi quel quelle quels comment quand où "
    "pourquoi sont un une dans pour avec sur par au aux ne pas il elle combien",
    "es": "el la los las del de y es fue qué quién cuál cuándo dónde cómo cuántos por para con en "
    "un una que se no son está al su cuál cuánto",
    "it": "il lo la gli le dei del della di e è era che chi quale quando dove come perché sono un "
    "una nel nella per con su da non si quanti",
    "pt": "o a os as do da dos das de e é foi que quem qual quando onde como porque são um uma no "
    "na em por para com não se ao quantos",
    "nl": "de het een en van is was wat welke wie hoe wanneer waar waarom zijn niet met voor op in "
    "te dat die er aan bij naar wordt worden hoeveel",
    "sv": "och är var vad vilken vem hur när varför en ett det den de som på med för av inte till "
    "har hade kan ska många",
    "pl": "i jest był co który która kto jak kiedy gdzie dlaczego są nie w na z do od że się po za "
    "przez ile czy",
    "tr": "ve bir bu ne kim hangi nasıl zaman nerede neden için ile mi mı var değil olan kaç da de",
}
_BY_WORD: dict[str, list[str]] = {}
for _language, _line in _FUNCTION_WORDS.items():
    for _word in _line.split():
        _BY_WORD.setdefault(_word, []).append(_language)

#: Writing systems as Unicode names their letters, and what a text in one is called.
_SCRIPTS = {
    "CJK": "zh", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "cyrillic",
    "GREEK": "el", "ARABIC": "arabic", "HEBREW": "he", "THAI": "th", "DEVANAGARI": "devanagari",
    "ARMENIAN": "hy", "GEORGIAN": "ka", "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te",
    "KHMER": "km", "LAO": "lo", "MYANMAR": "my", "ETHIOPIC": "am",
}  # fmt: skip
_LOOKED_AT = 2_000  # characters; more tell no more
UNKNOWN = "unknown"


def language(text: str) -> str:
    """ISO 639-1 code of the text's language, the name of its script, or ``unknown``.

    Languages that share a script other than Latin go by the script's name (``cyrillic``). Latin
    text without any function word known here is ``unknown``, as are numbers.
    """
    letters = Counter(
        unicodedata.name(c, "").split(" ")[0].split("-")[0]
        for c in text[:_LOOKED_AT]
        if c.isalpha()
    )
    if not letters:
        return UNKNOWN
    # Japanese is mostly written in Chinese characters; any kana tells.
    if letters["HIRAGANA"] + letters["KATAKANA"] > 0 and letters["CJK"] >= letters["LATIN"]:
        return "ja"
    script, _ = letters.most_common(1)[0]
    if script != "LATIN":
        return _SCRIPTS.get(script, UNKNOWN)
    votes: dict[str, float] = {}
    for word in re.findall(r"[^\W\d_]+", text[:_LOOKED_AT].casefold()):
        languages = _BY_WORD.get(word, ())  # a word of four says a quarter of each
        for found in languages:
            votes[found] = votes.get(found, 0.0) + 1 / len(languages)
    if not votes:
        return UNKNOWN
    return max(votes.items(), key=lambda item: (item[1], item[0] == "en", item[0]))[0]
