"""Django, with the settings that the README shows."""

import django
from django.conf import settings
from psycopg2_session import exercise
from sessions import CA, DATABASE, HOST, LARGE, PASSWORD, PORT, USER, expect, expect_large

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": HOST,
            "PORT": PORT,
            "USER": USER,
            "PASSWORD": PASSWORD,
            "NAME": DATABASE,
            "OPTIONS": {"sslmode": "verify-full", "sslrootcert": CA},
        }
    },
    INSTALLED_APPS=["django.contrib.contenttypes"],
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    USE_TZ=True,
)
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402


def main():
    call_command("migrate", verbosity=0)
    with transaction.atomic():
        ContentType.objects.create(app_label="multidb", model="instance")
    expect(ContentType.objects.filter(app_label="multidb").count(), 1)
    # A cursor on the server.
    expect(len(list(ContentType.objects.iterator(chunk_size=1))), ContentType.objects.count())
    with connection.cursor() as cursor:
        cursor.execute(LARGE)
        expect_large(cursor.fetchall())
    # The session below, which has COPY, LISTEN and a way to cancel.
    exercise(connection.connection)
    connection.close()
    expect(ContentType.objects.filter(app_label="multidb").exists(), True)


main()
