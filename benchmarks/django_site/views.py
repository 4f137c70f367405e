"""A page with a form and a table, and one that responds with JSON."""

import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.http import JsonResponse
from django.shortcuts import render

ROWS = 30


class SearchForm(forms.Form):  # type: ignore[misc]
    """Fields of several kinds."""

    query = forms.CharField(max_length=100, required=False)
    since = forms.DateField(required=False)
    email = forms.EmailField(required=False)
    kind = forms.ChoiceField(choices=[(str(number), f"kind {number}") for number in range(20)], required=False)


def section(request: Any, number: int) -> Any:
    """One of the pages with templates of their own."""
    form = SearchForm(request.GET)
    form.is_valid()
    query = form.cleaned_data.get("query", "")
    began = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    rows = [
        {"name": f"row {row} {query}", "count": row * number * 1000, "at": began + datetime.timedelta(days=row)}
        for row in range(ROWS)
    ]
    facts = {"rows": rows, "query": query, "form": form, "sections": range(settings.SECTIONS)}
    return render(request, f"section{number % settings.SECTIONS}.html", facts)


def api(_request: Any, number: int, name: str) -> Any:
    """Rows as JSON."""
    return JsonResponse(
        {"name": name, "rows": [{"number": row, "value": f"{name}-{row}"} for row in range(number % 50)]}
    )
