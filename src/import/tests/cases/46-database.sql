CREATE ROLE app;
CREATE DATABASE proj WITH TEMPLATE = template0 ENCODING = 'LATIN1' LC_COLLATE = 'C' LC_CTYPE = 'C' CONNECTION LIMIT = 7;
ALTER DATABASE proj OWNER TO app;
ALTER DATABASE proj SET search_path TO 'app', 'public';
ALTER DATABASE proj SET session_preload_libraries TO 'no_such_lib';
ALTER DATABASE proj SET default_transaction_read_only TO 'on';
ALTER ROLE app IN DATABASE proj SET work_mem TO '7MB';
\connect -reuse-previous=on "dbname='proj'"
CREATE SCHEMA app;
CREATE TABLE app.django_migrations (id int, app text, name text);
INSERT INTO app.django_migrations VALUES (1, 'polls', '0001_initial');
