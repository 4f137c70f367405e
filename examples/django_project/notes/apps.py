"""The application's name for Django."""

from django.apps import AppConfig


class NotesConfig(AppConfig):
    """Notes that visitors leave."""

    name = "notes"
