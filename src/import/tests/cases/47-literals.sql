CREATE TABLE public.django_migrations (id int, app text, name text);
INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');
CREATE TABLE public.texts (id int, t text);
INSERT INTO public.texts VALUES (1, U&'\0041\\;'), (2, E'it\'s; '), (3, 'a\'), (4, U&'d!0061t!+000061;' UESCAPE '!'),
    (5, 'a;'
    'b\'), (6, E'a;' || 'b\'), (7, n'c\');
SET standard_conforming_strings = off;
SET escape_string_warning = off;
INSERT INTO public.texts VALUES (8, 'it\'s;'), (9, b'101'::text), (10, x'0f'::text), (11, e'\\;');
SET standard_conforming_strings = on;
COMMENT ON TABLE public.texts IS $$;'\$$;
CREATE VIEW public.names AS SELECT t AS U&"\0041;" FROM public.texts;
