"""The page with all notes and a form for the next one."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render

from notes.models import Note


def index(request: HttpRequest) -> HttpResponse:
    """Show the newest notes, or keep a new one."""
    text = request.POST.get("text", "").strip()
    if request.method == "POST" and text:
        Note.objects.create(text=text[:200])
        return HttpResponseRedirect("/")
    return render(request, "notes/index.html", {"notes": Note.objects.all()[:50]})
