CREATE TABLE django_migrations (id bigint PRIMARY KEY, app text, name text, applied timestamptz);
INSERT INTO django_migrations VALUES
    (1, 'polls', '0001_initial', '2026-01-01'), (2, 'auth', '0001_initial', '2026-01-01'),
    (3, 'polls', '0002_more', '2026-01-02');
ALTER TABLE django_migrations OWNER TO app;

CREATE SCHEMA "odd schema" AUTHORIZATION app;
CREATE TABLE customers (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    upper_name text GENERATED ALWAYS AS (upper(name)) STORED
);
INSERT INTO customers (name) SELECT 'customer ' || g || E'\t\\.\n\\.\n' FROM generate_series(1, 5000) AS g;
ALTER TABLE customers OWNER TO app;
CREATE TABLE orders (
    id bigserial PRIMARY KEY,
    customer integer REFERENCES customers ON DELETE CASCADE,
    parent bigint REFERENCES orders,
    note text,
    data bytea
);
INSERT INTO orders (customer, note, data)
    SELECT g % 5000 + 1, repeat('x', g % 300), decode(md5(g::text), 'hex') FROM generate_series(1, 20000) AS g;
UPDATE orders SET parent = 1 WHERE id > 1 AND id < 100;
CREATE INDEX ON orders (customer, note);
ALTER TABLE orders OWNER TO app;
CREATE TABLE "odd schema"."a ""b"" c;" ("COPY" text, "x;y" int);
INSERT INTO "odd schema"."a ""b"" c;" VALUES ('COPY x FROM stdin;', 1), (E'\\.', 2), (NULL, 3);
CREATE UNLOGGED TABLE scratch (a int);
INSERT INTO scratch VALUES (1);
CREATE TABLE empty_one (a int);

CREATE TABLE events (at date NOT NULL, kind text) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO events SELECT '2025-06-01'::date + g % 400, 'k' || g FROM generate_series(1, 3000) AS g;

CREATE FUNCTION tricky() RETURNS text LANGUAGE plpgsql AS $f$
BEGIN
    RETURN 'x
-- Data for Name: customers; Type: TABLE DATA; Schema: public; Owner: app
COPY x FROM stdin;
\.
GRANT ALL ON TABLE customers TO nobody_at_all;
' || $$ALTER TABLE x OWNER TO nobody_else;$$;
END
$f$;
CREATE FUNCTION atomic_one() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;
CREATE VIEW big_orders AS SELECT * FROM orders WHERE length(note) > 100;
CREATE MATERIALIZED VIEW totals AS SELECT customer, count(*) AS n FROM orders GROUP BY customer ORDER BY customer;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := NEW.note; RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();

SELECT lo_from_bytea(4242, decode(repeat('00ff', 5000), 'hex'));
ALTER LARGE OBJECT 4242 OWNER TO app;
GRANT SELECT ON TABLE customers TO reader WITH GRANT OPTION;
SET SESSION AUTHORIZATION reader;
GRANT SELECT ON TABLE customers TO "We ird";
RESET SESSION AUTHORIZATION;
ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO reader;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY some_rows ON customers FOR SELECT TO reader, "We ird" USING (name <> 'a
b');
SELECT nextval('orders_id_seq');
