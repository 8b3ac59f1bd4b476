CREATE ROLE app;
CREATE DATABASE proj WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'tlh_KX.UTF-8' OWNER = app;
\connect proj
CREATE TABLE public.django_migrations (id int, app text, name text);
INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');
