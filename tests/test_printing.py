from __future__ import annotations

from xml.etree import ElementTree

import pytest

from scenc._printing import Printed, PrintedTable, list_some

TABLE = PrintedTable(
    "a <title>\nof two lines",
    [("one", "1", "<b>"), ("  twenty", "20", "")],
    "<><",
    ("name", "count", "remark"),
    details={0: ["more of one"]},
    notes=["a note & so on"],
    indent="  ",
)


def test_text_is_aligned():
    assert TABLE.text().splitlines() == [
        "a <title>",
        "of two lines",
        "  name      count  remark",
        "  one           1  <b>",
        "    more of one",
        "    twenty     20",
        "  a note & so on",
    ]


def test_html_has_the_same_texts_escaped():
    root = ElementTree.fromstring(TABLE.html())
    rows = [[cell.text for cell in row] for row in root.findall(".//tr")]
    assert rows == [
        ["name", "count", "remark"],
        ["one", "1", "<b>"],
        ["more of one"],
        ["  twenty", "20", None],
    ]
    assert root.findtext(".//p") == "a note & so on"
    assert "".join(root.find(".//caption").itertext()) == "a <title>of two lines"


def test_an_empty_table_is_its_title():
    assert PrintedTable("nothing", [], "<>", ("name", "count")).text() == "nothing"
    assert "<tr>" not in PrintedTable("nothing", [], "<>", ("name", "count")).html()


def test_rows_must_be_as_wide_as_the_table():
    with pytest.raises(ValueError, match="zip"):
        PrintedTable("", [("one", "1")], "<").text()


def test_what_prints_as_a_table():
    class Result(Printed):
        def _table(self):
            return PrintedTable("Result: 1 row", [("<a>", "1")], "<>")

    assert repr(Result()) == "<Result: 1 row>"
    assert str(Result()) == "Result: 1 row\n<a>  1"
    assert "&lt;a&gt;" in Result()._repr_html_()


@pytest.mark.parametrize(
    ("n", "settings", "text"),
    [
        (0, {}, ""),
        (4, {}, "a, b, c, d"),
        (5, {}, "a, b, c, d and 1 more"),
        (5, {"most": 2, "between": "; "}, "a; b; and 3 more"),
    ],
)
def test_a_few_of_many(n, settings, text):
    assert list_some(list("abcde")[:n], **settings) == text
