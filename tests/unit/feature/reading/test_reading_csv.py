"""Tables as text: which row names the columns, and what stands around them."""

from __future__ import annotations

import pytest

from fti.pipelines.feature.reading.readers import Extracted, SourcesConfig
from fti.pipelines.feature.reading.readers.sheets.csv_tables import read_csv, read_tsv


def table(text: str) -> Extracted:
    (found,) = read_csv(text.encode("utf-8"), SourcesConfig())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sep=;\nItem;Count\nRope;1,5\n", "Item: Rope\nCount: 1,5"),
        ("Stock of 3 May,,\n,,\nItem,Shelf,Count\nRope,A4,17\n",
         "Stock of 3 May\n\nItem: Rope\nShelf: A4\nCount: 17"),
        ("Exported:,2024-05-01,,\nItem,Shelf,Count,Note\nRope,A4,17,x\n",
         "Exported: | 2024-05-01\n\nItem: Rope\nShelf: A4\nCount: 17\nNote: x"),
        ("Item;Price\nLamp;12,50\n\nSource: the shop\n",
         "Item: Lamp\nPrice: 12,50\n\nSource: the shop"),
        ("Name,Phone,Phone\nAnn,111,222\n", "Name: Ann\nPhone: 111\nPhone 2: 222"),
        ("Name;;City\nAnn;;Rome\n", "Name: Ann\nCity: Rome"),
        ("Name;;City\nAnn;x;Rome\nBob;y;Bonn\n",
         "Name: Ann\ncolumn 2: x\nCity: Rome\n\nName: Bob\ncolumn 2: y\nCity: Bonn"),
        (";Office;Extension\nAnn;North;none\nBob;South;4412\nCy;West;4413\n",
         "column 1: Ann\nOffice: North\nExtension: none\n\ncolumn 1: Bob\nOffice: South\n"
         "Extension: 4412\n\ncolumn 1: Cy\nOffice: West\nExtension: 4413"),
        ("Region,2023,2024\nNorth,5,7\n", "Region: North\n2023: 5\n2024: 7"),
        ("Name,Extension\nAnn,none yet\nBob,4412\n",
         "Name: Ann\nExtension: none yet\n\nName: Bob\nExtension: 4412"),
        ("2,Ann\n3,Bob\n", "2,Ann\n\n3,Bob"),
        ("\ufeffPrice\n12,50\n", "Price: 12,50"),
    ],
    ids=["sep", "title", "title-cells", "note-below", "doubled", "blank", "unnamed", "corner",
         "years", "late-number", "headerless", "one-column"],
)  # fmt: skip
def test_every_value_stands_under_its_own_name(text: str, expected: str) -> None:
    assert table(text).text == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Part,Qty,Store\nBolt,12,A\nNut,7,B\n\nEmployee,Phone\nAnn Lee,4471\nBo,4472\n",
         "Employee: Ann Lee\nPhone: 4471\n\nEmployee: Bo\nPhone: 4472"),
        ("Stock;;\nPart;Qty;Store\nBolt;1,5;A\nNut;7,0;B\n;;\nStaff;;\nName;Ext;Room\nAnn;41;9\n",
         "Part: Nut\nQty: 7,0\nStore: B\n\nStaff\n\nName: Ann\nExt: 41\nRoom: 9"),
        ("Term,Meaning,Source\nbow,front,A\nstern,rear,B\n\nName,Town\nAnn,Kiel\nBo,Ulm\n",
         "Name: Ann\nTown: Kiel\n\nName: Bo\nTown: Ulm"),
        # groups of rows, whose first values may be missing
        ("Part,Qty\nBolt,12\n\nNut,7\nPin,3\n", "Part: Nut\nQty: 7\n\nPart: Pin\nQty: 3"),
        ("Part,Qty\nBolt,12\n\nNut,n/a\nPin,3\n", "Part: Nut\nQty: n/a\n\nPart: Pin\nQty: 3"),
        ("Part,Qty\nBolt,12\n\nGroup B,\nPin,3\n", "Part: Group B\n\nPart: Pin\nQty: 3"),
    ],
    ids=["widths", "titles", "words", "group", "missing", "group-title"],
)  # fmt: skip
def test_tables_below_one_another_have_names_of_their_own(text: str, expected: str) -> None:
    assert table(text).text.endswith(expected)


def test_a_tsv_keeps_quotes_that_are_no_quotes() -> None:
    (found,) = read_tsv(b'name\tsize\n"Long" saw\t6"\nRope\t12"\n', SourcesConfig())

    assert found.text == 'name: "Long" saw\nsize: 6"\n\nname: Rope\nsize: 12"'
