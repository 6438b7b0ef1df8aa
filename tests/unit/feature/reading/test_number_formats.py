from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti.pipelines.feature.reading.readers.sheets.numberformats import code_of, shown


@pytest.mark.parametrize(
    ("value", "code", "expected"),
    [
        (1067, "00000", "01067"),
        (0.125, "0%", "13%"),
        (0.125, "0.0%", "12.5%"),
        (-1234.5, "#,##0.00", "-1,234.50"),
        (-1234.5, "#,##0.00_);(#,##0.00)", "(1,234.50)"),
        (1234567, '#,##0 "kg"', "1,234,567 kg"),
        (12.5, "#,##0.00 [$€-407]", "12.50 €"),
        (12.5, '"$"#,##0.00', "$12.50"),
        (1_500_000, '0.0,,"M"', "1.5M"),
        (12345, "0.00E+00", "1.23E+04"),
        (99999, "0.0E+0", "1.0E+5"),
        (123456, "##0.0E+0", "123.5E+3"),
        (1.5, "# ?/?", "1 1/2"),
        (5551234567, "(000) 000-0000", "(555) 123-4567"),
        (0, '0;-0;"none"', "none"),
        (5, '[>100]"many";[>3]"some";"few"', "some"),
        (-5, "0;[Red]0", "5"),
        (-0.001, "0.00", "0.00"),
        (5, "0,000", "0,005"),
        (1.005, "0.00", "1.01"),
        (0.1 + 0.2, "General", "0.3"),
        (5, 'General "pcs"', "5 pcs"),
        (7, '"No. "0', "No. 7"),
        (42, "@", "42"),
        (1, ";;;", "1"),
        (1e300, "0.00", "1e+300"),
        (43894, "yyyy-mm-dd", "2020-03-04"),
        (43894, "dd.mm.yyyy", "04.03.2020"),
        (43894, "yyyy-mm-dd h:mm:ss", "2020-03-04"),
        (43894.999999, "yyyy-mm-dd", "2020-03-04"),
        (44259.3541666667, "yyyy-mm-dd h:mm", "2021-03-04 08:30"),
        (43894, "ddd d mmm yy", "Wed 4 Mar 20"),
        (43894, "[$-409]d\\-mmm\\-yyyy;@", "4-Mar-2020"),
        (0.354166667, "h:mm", "8:30"),
        (0.854166667, "h:mm AM/PM", "8:30 PM"),
        (1.5, "[h]:mm", "36:00"),
        (0.5 / 24 / 60, "mm:ss.0", "00:30.0"),
        (-5, "yyyy-mm-dd", "-5"),
    ],
)
def test_a_number_reads_as_in_the_sheet(value: float, code: str, expected: str) -> None:
    assert shown(value, code) == expected


def test_formats_without_a_code_are_known_by_their_number() -> None:
    assert shown(44000, code_of(14)) == "2020-06-18"
    assert shown(0.25, code_of(9)) == "25%"
    assert shown(-3, code_of(38)) == "(3)"


def test_days_count_from_1904_where_the_file_says_so() -> None:
    assert shown(42432, "yyyy-mm-dd", since_1904=True) == "2020-03-04"


@given(st.floats(), st.text('0#?.,%E+-/ydmhs[]"\\;@_* G€', max_size=20))
def test_no_code_fails(value: float, code: str) -> None:
    assert isinstance(shown(value, code), str)
