"""What wsgicluster serves: the project, and its static files without a web server in front.

``StaticFilesHandler`` reads files on each request, which is right for an
example. Behind nginx leave it out and let nginx serve what ``collectstatic`` made.
"""

import os

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

application = StaticFilesHandler(get_wsgi_application())
