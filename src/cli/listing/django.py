# Without a connection the loader reads the code alone.
from django.db.migrations.loader import MigrationLoader
loader = MigrationLoader(None, load=False)
loader.load_disk()
for (app, name), migration in sorted(loader.disk_migrations.items()):
    replaced = ",".join(".".join(key) for key in migration.replaces)
    print("multidb-listing %s.%s%s" % (app, name, " replaces " + replaced if replaced else ""))
