"""The texts of the back office: each has its Russian, each Russian one is used, and what is put into them is escaped."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from jinja2 import nodes
from markupsafe import Markup

from referral.contract.catalogue import CATALOGUE
from referral.rules.charts import chart, funnel
from referral.web.admin_pages import MENU, TEMPLATES
from referral.web.admin_texts import RUSSIAN, SAID, WORDS, texts_in

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FOLDER = RUSSIAN.parent
PLACEHOLDER = re.compile(r"%\((\w+)\)s")


def of_templates() -> set[str]:
    """What templates give to `_` and `plural`."""
    found = set()
    for file in FOLDER.glob("*.html"):
        for call in TEMPLATES.parse(file.read_text()).find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("_", "plural"):
                first = call.args[0]
                if isinstance(first, nodes.Const):
                    found.add(first.value)
                else:
                    # A text that Python chose, which is found there.
                    assert isinstance(first, nodes.Name | nodes.Getattr), file
    return found


def of_python() -> set[str]:
    """What handlers and the parts of pages give to `_` and `plural`."""
    found = set()
    for file in (*(ROOT / "referral/handlers/admin").glob("*.py"), *(ROOT / "referral/web").glob("admin_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("_", "_.plural"):
                assert isinstance(node.args[0], ast.Constant), f"{file.name}: {ast.unparse(node)}"
                found.add(str(node.args[0].value))
    return found


def russian() -> list[tuple[str, str | list[str]]]:
    return [pair for file in RUSSIAN.glob("*.toml") for pair in tomllib.loads(file.read_text()).items()]


def test_every_text_has_its_russian_and_every_russian_one_is_used() -> None:
    used = of_templates() | of_python() | set(SAID.values()) | set(WORDS.values()) | {text for _, text in MENU}
    used |= {kind.title for kind in CATALOGUE.values()}
    assert len(used) > 60
    known = Counter(text for text, _ in russian())
    assert used - known.keys() == set(), "these have no Russian in referral/templates/admin/ru/"
    assert known.keys() - used == set(), "nobody uses these"
    assert known.most_common(1)[0][1] == 1, "this stands in two files"


@pytest.mark.parametrize(("text", "translated"), russian())
def test_what_is_put_into_a_text_is_put_into_its_russian(text: str, translated: str | list[str]) -> None:
    if isinstance(translated, list):
        assert len(translated) == 3, "one, a few, many"
    for one in [translated] if isinstance(translated, str) else translated:
        assert set(PLACEHOLDER.findall(one)) == set(PLACEHOLDER.findall(text))
        assert one.strip() == one
        assert re.search("[а-яё]", one, re.IGNORECASE) or one == text


def test_what_is_put_into_a_text_is_escaped_and_cannot_name_anything_else() -> None:
    for language in ("en", "ru"):
        texts = texts_in(language)
        assert texts("Hello %(name)s", name="<b>%(password)s</b>") == "Hello &lt;b&gt;%(password)s&lt;/b&gt;"
        assert texts("Hello %(name)s", name=Markup("<b>x</b>")) == "Hello <b>x</b>"
        assert texts.word("<script>") == "&lt;script&gt;"


@pytest.mark.parametrize(
    ("count", "form"), [(0, 2), (1, 0), (2, 1), (5, 2), (11, 2), (12, 2), (21, 0), (22, 1), (111, 2), (1001, 0)]
)
def test_a_number_wants_its_form(count: int, form: int) -> None:
    assert texts_in("ru")._form(count) == form
    assert texts_in("en")._form(count) == (0 if count == 1 else 1)


@pytest.mark.parametrize(
    ("amount", "exponent", "english", "russian"),
    [
        (0, 2, "0.00", "0,00"),
        (5, 2, "0.05", "0,05"),
        (123_456_789, 2, "1,234,567.89", "1\xa0234\xa0567,89"),
        (-150, 2, "−1.50", "−1,50"),
        (-5, 0, "−5", "−5"),
        (1_500, 3, "1.500", "1,500"),
        (10**18, 0, "1,000,000,000,000,000,000", "\xa0".join(["1", *["000"] * 6])),
    ],
)
def test_amounts_have_their_points(amount: int, exponent: int, english: str, russian: str) -> None:
    assert texts_in("en").decimal(amount, exponent) == english
    assert texts_in("ru").decimal(amount, exponent) == russian


def test_charts_have_titles_and_say_the_same_as_a_table() -> None:
    texts = texts_in("en")
    page = TEMPLATES.from_string(
        """{% import "charts.html" as charts with context %}
        {{ charts.bars("a", "Clicks", "By day", drawn) }}
        {{ charts.line("b", "Clicks", "By day", drawn) }}
        {{ charts.funnel("c", "Funnel", "From visitors on", steps) }}"""
    )
    shown = page.render(
        _=texts,
        number=texts.number,
        percent=texts.percent,
        drawn=chart(["<May>", "June"], [("<i>", [1, 2_000]), ("b", [0, 0])]),
        steps=funnel([("Visitors", 2_000), ("<b>", 500)]),
    )
    assert "style=" not in shown
    assert not re.search("<(May|i|b)>", shown)
    assert shown.count('role="img"') == shown.count("<desc") == shown.count('<table role="table">') == 3
    assert shown.count("<rect") == 4 + 2
    assert shown.count("<polyline") == 2
    assert shown.count(">2,000</td>") == 3
    assert "25.0%" in shown
