from django.db import migrations, models


class Migration(migrations.Migration):
    # Both are removed.
    replaces = [("polls", "0001_initial"), ("polls", "0002_closed")]
    initial = True
    operations = [
        migrations.CreateModel(
            "Question",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("text", models.CharField(max_length=200)),
                ("closed", models.BooleanField(default=False)),
            ],
        )
    ]
