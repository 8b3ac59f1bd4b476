\set ON_ERROR_STOP on
\set schema 'public'
\set app 'polls'
\set first '0001' _initial
\set quoted 'it''s; \\ \n'
\set columns 'id int, app text, name text'
CREATE TABLE :schema.django_migrations (:columns);
INSERT INTO :"schema".django_migrations VALUES (1, :'app', :'first');
CREATE TABLE :schema.texts (a text, b timestamp, c int[]);
INSERT INTO :schema.texts VALUES (:'quoted', '2026-01-02 03:04:05'::timestamp, (array[1,2,3])[1:2]), (':app', NULL, NULL);
\set insert 'INSERT INTO public.texts VALUES (''one''); INSERT INTO public.texts'
:insert VALUES ('two');
\set rows 'COPY public.texts (a) FROM stdin;'
:rows
:app
\.
\unset app
COMMENT ON TABLE :schema.texts IS 'a :app';
CREATE TABLE public.tests AS SELECT :{?schema} AS a, :{?app} AS b, :{?nothing} AS c, ':{?schema}' AS d;
