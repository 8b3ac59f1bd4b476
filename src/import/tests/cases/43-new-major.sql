-- Dumped from database version 15.1
SET statement_timeout = 0;
SET transaction_timeout = 0;
SET no_such_parameter = 1;
CREATE ROLE app;
CREATE ROLE reader;
GRANT reader TO app WITH INHERIT TRUE GRANTED BY rdsadmin;
CREATE TABLE public.django_migrations (id int, app text, name text);
INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');
GRANT SELECT,MAINTAIN ON TABLE public.django_migrations TO reader;
GRANT rds_superuser TO app;
GRANT cloudsqlsuperuser, azure_pg_admin TO app;
CREATE PUBLICATION everything FOR ALL TABLES;
ALTER PUBLICATION everything OWNER TO app;
CREATE FOREIGN DATA WRAPPER w;
ALTER FOREIGN DATA WRAPPER w OWNER TO app;
