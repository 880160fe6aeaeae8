"""Cells of tables have their column's name, where they have anything to say."""

from __future__ import annotations

import pytest
from markupsafe import Markup, escape

from referral.web.admin_tables import labelled

HEAD = '<thead><tr><th scope="col">Who</th><th scope="col" class="number">&lt;b&gt; &amp; "c"</th></tr></thead>\n<tbody>\n'
LABEL = 'data-label="&lt;b&gt; &amp; &#34;c&#34;"'


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        (
            '<tr><th scope="row">a</th>\n<td class="number">1</td></tr>',
            f'<tr role="row"><th scope="row" role="rowheader" data-label="Who">a</th>\n'
            f'<td role="cell" class="number" {LABEL}>1</td></tr>',
        ),
        (
            '<tr class="taken"><td><bdi>–</bdi></td><td> </td></tr>',
            '<tr role="row" class="taken"><td role="cell" data-empty=""><bdi>–</bdi></td>'
            '<td role="cell" data-empty=""> </td></tr>',
        ),
        (
            '<tr><td colspan="2">all</td></tr>',
            '<tr role="row"><td role="cell" colspan="2">all</td></tr>',
        ),
        (
            f"<tr><td><b>{'w' * 26}</b></td><td>{'w' * 27}</td></tr>",
            f'<tr role="row"><td role="cell" data-label="Who"><b>{"w" * 26}</b></td>'
            f'<td role="cell" {LABEL} data-endless="">{"w" * 27}</td></tr>',
        ),
        (
            f"<tr><td>{'w' * 28}@example.com</td><td>{'w' * 29}@example.com</td></tr>",
            f'<tr role="row"><td role="cell" data-label="Who">{"w" * 28}@example.com</td>'
            f'<td role="cell" {LABEL} data-endless="">{"w" * 29}@example.com</td></tr>',
        ),
        (
            "<tr><td>a</td><td>b</td><td>c</td></tr>",
            f'<tr role="row"><td role="cell" data-label="Who">a</td><td role="cell" {LABEL}>b</td>'
            '<td role="cell">c</td></tr>',
        ),
    ],
)
def test_a_cell_has_the_name_of_its_column(row: str, shown: str) -> None:
    head = HEAD.replace("<thead>", '<thead role="rowgroup">').replace("<tr>", '<tr role="row">')
    head = head.replace("<tbody>", '<tbody role="rowgroup">').replace('scope="col"', 'scope="col" role="columnheader"')
    assert labelled(Markup(HEAD + row + "</tbody>")) == head + shown + "</tbody>"


def test_a_column_that_is_read_aloud_alone_names_no_cell() -> None:
    table = '<tr><th scope="col"><span class="hidden">Action</span></th></tr><tbody><tr><td>Open</td></tr></tbody>'
    assert "data-label" not in labelled(Markup(table))


def test_what_people_wrote_is_no_tag() -> None:
    written = escape('</td><td data-label="x"><tr>')
    assert labelled(Markup(f"{HEAD}<tr><td>{written}</td></tr></tbody>")).count("<td") == 1
