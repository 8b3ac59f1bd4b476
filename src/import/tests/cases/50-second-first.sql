--
-- PostgreSQL database dump
--

CREATE DATABASE second WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';
\connect second
CREATE TABLE public.django_migrations (id int, app text, name text);
INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');
--
-- PostgreSQL database dump complete
--

--
-- PostgreSQL database dump
--

CREATE DATABASE proj WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = libc LOCALE = 'C.UTF-8';
\connect proj
CREATE TABLE public.django_migrations (id int, app text, name text);
CREATE TABLE public.of_second (id int);
--
-- PostgreSQL database dump complete
--

