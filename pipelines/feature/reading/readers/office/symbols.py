"""Characters of fonts that hold signs instead of letters (Symbol, Wingdings), as Unicode."""

from __future__ import annotations

_PRIVATE = 0xF000  # where Office puts the codes of such fonts

_SYMBOL = dict(
    zip(
        range(0x20, 0x7F),
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾"
        "αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
        strict=True,
    )
) | dict(
    zip(
        range(0xA0, 0xFF),
        "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊⟨®©™∑"
        "⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪ ⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
        strict=True,
    )
)
_WINGDINGS = dict(
    zip(
        range(0x21, 0x7F),
        "✏✂✁👓🔔📖🕯☎✆✉✉📪📫📬📭📁📂📄📄📄🗄⌛⌨🖱🖲💻💾💾💾✇✍✍✌👌👍👎☜☞☝☟✋☺😐☹💣☠🏳🏳✈☼💧❄✝✞✝✠✡☪☯ॐ☸"
        "♈♉♊♋♌♍♎♏♐♑♒♓&&●○■□□❑❒⬧⧫◆❖⬥⌧⮹⌘❀✿❝❞",
        strict=True,
    )
) | dict(
    zip(
        [*range(0x80, 0x96), *range(0x9E, 0xC3)],
        "⓪①②③④⑤⑥⑦⑧⑨⑩⓿❶❷❸❹❺❻❼❽❾❿·•▪○●●◉◎○▪◻▲✦★✶✴✹✵⌖⌖✧⌑❓✪✰🕐🕑🕒🕓🕔🕕🕖🕗🕘🕙🕚🕛",
        strict=True,
    )
) | dict(
    zip(
        [0xD5, 0xD6, 0xD8, *range(0xDF, 0xE7), 0xE7, 0xE8, *range(0xEF, 0xF5), *range(0xFB, 0xFF)],
        "⌫⌦➢←→↑↓↖↗↙↘←→⇦⇨⇧⇩⬄⇳✗✓☒☑",
        strict=True,
    )
)  # fmt: skip
_WINGDINGS_2 = {
    0x4F: "✗", 0x50: "✓", 0x51: "☒", 0x52: "☑", 0x53: "☒", 0x54: "☒", 0x2A: "☐", 0xA2: "■",
    0xA3: "☐", 0x96: "•", 0x97: "●", 0x98: "●", 0x99: "○",
}  # fmt: skip
_WINGDINGS_3 = {
    0x66: "←", 0x67: "→", 0x68: "↑", 0x69: "↓", 0x70: "▲", 0x71: "▼", 0x74: "◀", 0x75: "▶",
    0x7C: "◀", 0x7D: "▶", 0x84: "◀",
}  # fmt: skip
_WEBDINGS = {
    0x61: "✓", 0x72: "✗", 0x63: "□", 0x67: "■", 0x6E: "●", 0x69: "ℹ", 0x33: "◀", 0x34: "▶",
    0x35: "▲", 0x36: "▼", 0x59: "♥", 0x73: "?", 0xD6: "☎",
}  # fmt: skip
_FONTS = {
    "symbol": _SYMBOL,
    "wingdings": _WINGDINGS,
    "wingdings 2": _WINGDINGS_2,
    "wingdings 3": _WINGDINGS_3,
    "webdings": _WEBDINGS,
}


def is_symbol_font(font: str) -> bool:
    """Whether the font's codes stand for signs."""
    return font.strip().lower() in _FONTS


def symbol(code: int, font: str) -> str:
    """The character of ``code`` in a font; empty where no character is known for it."""
    table = _FONTS.get(font.strip().lower())
    private = _PRIVATE <= code <= _PRIVATE + 0xFF
    if table is None:
        if private:
            code -= _PRIVATE
        return chr(code) if 0x20 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else ""
    return table.get(code - _PRIVATE if private else code, "")


def with_symbols(text: str, font: str) -> str:
    """``text`` in which codes of a font of signs, as Office writes them, are characters."""
    if not any(_PRIVATE <= ord(c) <= _PRIVATE + 0xFF for c in text):
        return text
    known = font if is_symbol_font(font) else "symbol"
    return "".join(
        symbol(ord(c), known) if _PRIVATE <= ord(c) <= _PRIVATE + 0xFF else c for c in text
    )
