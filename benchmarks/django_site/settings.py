"""Settings of the project; its templates are here, too, so that it needs no other files."""

SECTIONS = 40

_BASE = """<!doctype html><html><head><title>{% block title %}Site{% endblock %}</title></head><body>
{% if user.is_authenticated %}{{ user }}{% else %}<a href="/admin/login/">Log in</a>{% endif %}
<ul>{% for each in sections %}<li><a href="/section/{{ each }}/">{{ each }}</a></li>{% endfor %}</ul>
{% block content %}{% endblock %}</body></html>"""
_SECTION = """{% extends "base.html" %}{% load i18n humanize %}{% block title %}Section NUMBER{% endblock %}
{% block content %}<h1>{% translate "Search" %} {{ query|default:"nothing"|truncatewords:5 }}</h1>
<table>{% for row in rows %}<tr class="{% cycle 'odd' 'even' %}"><td>{{ row.name|title }}</td>
<td>{{ row.count|intcomma }}</td><td>{{ row.at|date:"Y-m-d H:i" }}</td>
{% if row.count > 50 %}<td>many</td>{% endif %}</tr>{% empty %}<tr><td>none</td></tr>{% endfor %}</table>
<form method="post">{% csrf_token %}{{ form.as_p }}</form>{% endblock %}"""

SECRET_KEY = "only for measurements"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_site.urls"
USE_TZ = True
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:site?mode=memory&cache=shared"}}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
STATIC_URL = "/static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGGING_CONFIG = None
_SOURCES = {
    "base.html": _BASE,
    **{f"section{number}.html": _SECTION.replace("NUMBER", str(number)) for number in range(SECTIONS)},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        ("django.template.loaders.locmem.Loader", _SOURCES),
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
