from __future__ import annotations

import pytest

from fti.pipelines.feature.reading.readers import SourcesConfig
from fti.pipelines.feature.reading.readers.base import MAX_METADATA_CHARACTERS, MAX_METADATA_KEYS
from fti.pipelines.feature.reading.readers.charsets import decode
from fti.pipelines.feature.reading.readers.plain import read_markdown
from fti.store.errors import ExtractionError

RUSSIAN = "После окончательного разорения отца семейство переехало в Италию, а он остался."
POLISH = "Należałoby przyjrzeć się, w jaki sposób walczyć z otyłością, i źródłom żywności."
FRENCH = "L'été était très chaud cette année ; où irons-nous ? Ça dépend, naïf garçon."
GERMAN = "Größe und Maß: Süß schmeckt, was öfter übrig bleibt. Ärgerlich, aber schön."
GREEK = "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια."
JAPANESE = "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。"
CHINESE = "人人生而自由,在尊嚴和權利上一律平等。他們賦有理性和良心。"
KOREAN = "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."
SIMPLIFIED = (
    "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。"
)
CZECH = "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv, řekl před chvílí."
SPANISH = "¿Dónde está el niño? Mañana saldrá el señor con su corazón alegre, ¡qué ilusión!"
HEBREW = "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (FRENCH, "cp1252"),
        (GERMAN, "cp1252"),
        (POLISH, "iso8859_2"),
        (POLISH, "cp1250"),
        (RUSSIAN, "koi8_r"),
        (RUSSIAN, "cp1251"),
        (GREEK, "cp1253"),
        (HEBREW, "cp1255"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "cp932"),
        (CHINESE, "big5"),
        (SIMPLIFIED, "gb18030"),
        (KOREAN, "euc_kr"),
        (CZECH, "cp1250"),
        (SPANISH, "cp1252"),
        ("Straße über Müller", "cp1252"),
        ("naïve café", "cp1252"),
        ("“Smart” quotes – and dashes…", "cp1252"),
        ("only one é", "cp1252"),
    ],
)
def test_texts_of_older_encodings_are_read(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding))[0] == text


@pytest.mark.parametrize("text", [FRENCH, RUSSIAN, CHINESE, HEBREW, "🙂", "plain"])
def test_utf_8_is_utf_8(text: str) -> None:
    assert decode(text.encode("utf-8")) == (text, "utf-8")


def test_the_encoding_is_found_far_behind_a_plain_beginning() -> None:
    text = "All of this is plain.\n" * 20_000 + FRENCH

    assert decode(text.encode("cp1252"))[0] == text


def test_a_declared_encoding_decides_where_it_fits() -> None:
    assert decode("né".encode("cp437"), declared="cp437") == ("né", "cp437")
    assert decode("né".encode(), declared="iso-8859-1") == ("né", "utf-8")
    assert decode("né".encode("cp1252"), declared="no-such-charset")[0] == "né"


def test_a_broken_wide_text_says_where() -> None:
    with pytest.raises(ExtractionError, match="begins as utf-16"):
        decode(b"\xff\xfea\x00\x00")


def markdown(text: str) -> tuple[str, str, dict[str, str]]:
    (found,) = read_markdown(text.encode("utf-8"), SourcesConfig())
    return found.title, found.text, dict(found.metadata)


def test_front_matter_becomes_metadata_and_leaves_the_text() -> None:
    title, text, metadata = markdown(
        "---\ntitle: 'Opening: hours'\nauthor: Ann Lee  # editor\ntags: [a, b]\n"
        "nested:\n  key: value\n# comment\nlevel: 2\n---\n\n# Heading\n"
    )

    assert title == "Opening: hours"
    assert text.strip() == "# Heading"
    assert metadata == {"author": "Ann Lee", "level": "2"}


def test_front_matter_after_windows_line_breaks() -> None:
    assert markdown("---\r\ntitle: A\r\n---\r\nbody")[:2] == ("A", "body")


def test_front_matter_may_not_speak_for_the_pipeline() -> None:
    assert markdown("---\nsource: /etc/passwd\nwarnings: none\npages: 9\n---\nbody")[2] == {}


def test_front_matter_is_bounded() -> None:
    entries = "\n".join(f"key{i}: {'v' * 600}" for i in range(100))

    metadata = markdown(f"---\n{entries}\n---\nbody")[2]

    assert len(metadata) == MAX_METADATA_KEYS
    assert max(map(len, metadata.values())) <= MAX_METADATA_CHARACTERS


@pytest.mark.parametrize(
    "text",
    ["---\n\nA rule over prose.\n\n---\n\nMore.", "---\nnever: closed\n\nbody", "----\na: b\n----"],
)
def test_rules_are_not_taken_for_front_matter(text: str) -> None:
    assert markdown(text)[1:] == (text, {})


def test_the_title_is_the_first_heading_of_the_highest_level() -> None:
    assert markdown("intro\n\n## Small\n\n# Big\n\n# Second\n")[0] == "Big"
    assert markdown("```\n# code\n```\n## Small\n")[0] == "Small"
