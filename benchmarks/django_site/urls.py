"""The paths of the project, which Django imports with its first request."""

from django.contrib import admin
from django.urls import include, path

from django_site import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("section/<int:number>/", views.section),
    path("api/<int:number>/<slug:name>", views.api),
]
