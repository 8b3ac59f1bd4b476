CREATE SCHEMA IF NOT EXISTS "public";
CREATE SCHEMA "public";
CREATE TABLE "public"."django_migrations" (id int, app text, name text);
INSERT INTO "public"."django_migrations" VALUES (1, 'polls', '0001_initial');
REVOKE ALL ON SCHEMA "public" FROM "public";
GRANT ALL ON SCHEMA "public" TO "postgres", "anon";
GRANT SELECT ON "public"."django_migrations" TO "public";
ALTER TABLE "public"."django_migrations" OWNER TO "supabase_admin";
