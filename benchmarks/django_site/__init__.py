"""A Django project as many are: contributed applications, sessions, translations, forms and 40 templates."""
