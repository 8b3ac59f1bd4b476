BEGIN;
CREATE ROLE app;
CREATE TABLE public.django_migrations (id int, app text, name text);
COPY public.django_migrations (id, app, name) FROM stdin;
1	polls	0001_initial
\.
GRANT SELECT ON public.django_migrations TO pg_maintain;
COMMENT ON EXTENSION no_such IS 'x';
ALTER TABLE public.django_migrations OWNER TO app;
COMMIT;
