"""Settings of the test's, which those of a new Wagtail site import: one more app, and the database."""

import os

from .base import INSTALLED_APPS

INSTALLED_APPS += ["polls"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "127.0.0.1",
        # None for what needs no database.
        "PORT": os.environ.get("SITE_PORT", "1"),
        "USER": os.environ.get("SITE_USER", "postgres"),
        "NAME": "app",
    }
}
