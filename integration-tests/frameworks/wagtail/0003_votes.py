from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("polls", "0001_squashed_0002_closed")]
    operations = [migrations.AddField("question", "votes", models.IntegerField(null=True))]
