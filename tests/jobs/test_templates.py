import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.values.templates import TemplateError, fill, parse_date

DAY = datetime.date(2026, 3, 7)


def filled(text, **values):
    given = {"date": DAY, "model_name": "vea-lite", "model_version": "1.0", **values}
    return fill(text, **given)


def test_day_and_model_take_the_places_of_their_names():
    assert filled("s3://r/dt={date}/{yyyy}/{mm}/{dd}") == "s3://r/dt=2026-03-07/2026/03/07"
    assert filled("{model_name}-{model_version}.parquet") == "vea-lite-1.0.parquet"


def test_a_text_without_braces_needs_neither_day_nor_model():
    assert filled("list.txt", date=None, model_name=None, model_version=None) == "list.txt"


def test_doubled_braces_are_meant():
    assert filled("{{a}}/{date}") == "{a}/2026-03-07"


@pytest.mark.parametrize("text", ["{day}", "{}", "{date:%Y}", "{date!r}", "{date.year}", "{0}"])
def test_a_name_that_nobody_knows_is_an_error_that_lists_the_known_ones(text):
    with pytest.raises(TemplateError, match=r"expected \{date\}, \{yyyy\}") as error:
        filled(f"list-{text}.txt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["a{", "a}", "{date"])
def test_a_single_brace_is_an_error_that_says_how_to_write_it(text):
    with pytest.raises(TemplateError, match=r"write \{\{ and \}\}"):
        filled(text)


def test_a_day_or_model_that_is_missing_is_an_error_that_names_the_option():
    with pytest.raises(TemplateError, match=r"\{mm\}.*--date"):
        filled("{mm}.txt", date=None)
    with pytest.raises(TemplateError, match=r"\{model_version\}.*--model"):
        filled("{model_version}", model_version=None)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".", "a\nb", "{date}"])
def test_what_a_model_is_called_cannot_lead_out_of_the_folder(name):
    with pytest.raises(TemplateError, match="cannot stand in a path"):
        filled("out/{model_name}", model_name=name)


@given(st.dates(min_value=datetime.date(1000, 1, 1)))
def test_a_day_is_read_back_from_how_it_is_written(day):
    assert parse_date(fill("{date}", date=day, model_name=None, model_version=None), today=DAY) == (
        day
    )


def test_days_have_names():
    assert parse_date("today", today=DAY) == DAY
    assert parse_date("yesterday", today=datetime.date(2026, 3, 1)) == datetime.date(2026, 2, 28)


@pytest.mark.parametrize("text", ["tomorrow", "20260307", "2026-W10-6", "2026-02-30", "07.03.2026"])
def test_what_is_no_day_is_an_error_that_says_what_was_expected(text):
    with pytest.raises(TemplateError, match="expected yesterday, today or YYYY-MM-DD"):
        parse_date(text, today=DAY)
