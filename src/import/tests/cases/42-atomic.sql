CREATE TABLE public.django_migrations (id int, app text, name text);
INSERT INTO public.django_migrations VALUES (1, 'polls', '0001_initial');
CREATE FUNCTION public.f(a int) RETURNS int LANGUAGE sql
    BEGIN ATOMIC
 SELECT CASE WHEN (f.a > 1) THEN 1 ELSE 2 END AS "case";
END;
CREATE FUNCTION public.g() RETURNS text LANGUAGE plpgsql AS $_$
begin
  -- GRANT a TO nobody;
  execute $$select ';'$$;
  return E'\\;''';
end
$_$;
INSERT INTO public.django_migrations VALUES (2, 'a;b', E'it''s \\ \'x\'');
