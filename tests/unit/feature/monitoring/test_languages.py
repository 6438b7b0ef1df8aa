from __future__ import annotations

import pytest

from fti.pipelines.feature.monitoring.languages import language


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("en", "When is the kiln fired?"),
        ("de", "Wann wird der Ofen befeuert?"),
        ("fr", "Quand le four est-il allumé ?"),
        ("es", "¿Cuándo se enciende el horno?"),
        ("it", "Quando viene acceso il forno?"),
        ("pt", "Quando o forno é aceso?"),
        ("nl", "Wanneer wordt de oven gestookt?"),
        ("sv", "När eldas ugnen?"),
        ("pl", "Kiedy piec jest rozpalany?"),
        ("tr", "Fırın ne zaman yakılır?"),
        ("zh", "窑什么时候烧？"),
        ("ja", "窯はいつ焚きますか"),
        ("ko", "가마는 언제 불을 때나요?"),
        ("ru", "Когда обжигают печь?"),
        ("ar", "متى يتم إشعال الفرن؟"),
        ("en", "What does 窑 mean?"),
        ("unknown", "1984 + 12?"),
        ("unknown", "Kiln temperature"),
        ("en", "Guests sign in at the desk near the gate"),
        ("unknown", ""),
    ],
)
def test_a_question_tells_its_language(expected: str, text: str) -> None:
    assert language(text) == expected
