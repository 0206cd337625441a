"""A PostgreSQL that works by chance, its changes on a stream: `source.py STREAM SEED KEYS`, and requests on standard input, a JSON object
a line: {"work": TRANSACTIONS}, {"sql": …}, {"rows": TABLE}: what there is, when all of it is on the stream. Each is answered by a line.
KEYS: whether keys change.

Rows are told as tests/hudi/texts.py does: values as texts, as a Hudi table should have them.
"""

import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent.parent / "local"), str(HERE.parent / "hudi")]

from texts import texts  # noqa: E402

import relay as relays  # noqa: E402

TABLES = """
CREATE TABLE customers (id bigint PRIMARY KEY, name text, gender text, time_stamp timestamp);
CREATE TABLE items (
    id int PRIMARY KEY, price numeric(12, 2), weight numeric, at timestamptz, day date, ok boolean, ratio double precision, attributes jsonb,
    tags text[], raw bytea, code uuid, note text, clock time);
CREATE TABLE "Pairs" (a int, "B" text, n int, PRIMARY KEY (a, "B"));
INSERT INTO customers SELECT n, 'customer ' || n, 'f', '2024-05-01'::timestamp + n * interval '1 minute' FROM generate_series(1, 2000) n;
INSERT INTO items SELECT n, n * 1.25, n / 3.0, now(), now(), n % 2 = 0, n / 4.0, '{"a": [1]}', '{x,y}', '\\x00ff', gen_random_uuid(), 'ä"\\n', '12:30' FROM generate_series(1, 300) n;
INSERT INTO "Pairs" SELECT n % 10, 'k' || n, n FROM generate_series(1, 200) n;
"""
# Kept as numbers, times and truth values; all else as PostgreSQL writes it.
NATIVE = {"int2", "int4", "int8", "text", "timestamp", "timestamptz", "date", "bool", "float8"}


class Work:
    def __init__(self, relay, seed, keys):
        self.relay, self.dice, self.keys = relay, random.Random(seed), keys
        self.connection = relay.postgres.connect(relay.database)

    def transaction(self):
        dice = self.dice
        with self.connection, self.connection.cursor() as cursor:
            for _ in range(dice.choice((1, 1, 1, 2, 5))):
                getattr(self, dice.choice(("customer", "customer", "item", "pair")))(cursor)
            if dice.random() < 0.02:
                # A large one.
                first = dice.randrange(1, 2000)
                cursor.execute("UPDATE customers SET name = name || '!' WHERE id BETWEEN %s AND %s", (first, first + 900))
            if dice.random() < 0.02:
                cursor.execute("DELETE FROM customers WHERE id %% 50 = %s", (dice.randrange(50),))

    def customer(self, cursor):
        dice, one = self.dice, self.dice.randrange(1, 2400)
        name, gender = f"näme {dice.randrange(10**6)}", dice.choice((None, "f", "m", ""))
        what = dice.randrange(4)
        if what == 0:
            cursor.execute("DELETE FROM customers WHERE id = %s", (one,))
        elif what == 1 and self.keys:
            cursor.execute("UPDATE customers SET id = %s, name = %s WHERE id = %s AND NOT EXISTS (SELECT 1 FROM customers WHERE id = %s)",
                           (one + 5000, name, one, one + 5000))
        else:
            cursor.execute("INSERT INTO customers VALUES (%s, %s, %s, now()) ON CONFLICT (id) DO UPDATE SET name = excluded.name, gender = excluded.gender, time_stamp = excluded.time_stamp",
                           (one, name, gender))

    def item(self, cursor):
        dice, one = self.dice, self.dice.randrange(1, 400)
        if dice.random() < 0.2:
            cursor.execute("DELETE FROM items WHERE id = %s", (one,))
        # Large notes are stored apart, and an update of something else does not send them.
        note = dice.choice((None, "short", "".join(dice.choices("abcdefgh", k=9000))))
        cursor.execute("INSERT INTO items (id, price, weight, at, day, ok, ratio, note) VALUES (%s, %s, %s, now(), '2024-02-29', %s, %s, %s) "
                       "ON CONFLICT (id) DO UPDATE SET price = excluded.price, weight = NULL, ok = excluded.ok",
                       (one, dice.randrange(-10**9, 10**9) / 100, dice.choice(("1e-20", "123456789012345678901234567890.5")), dice.choice((None, True)), dice.random(), note))

    def pair(self, cursor):
        dice = self.dice
        one, other = dice.randrange(12), f"k{dice.randrange(250)}"
        if dice.random() < 0.3:
            cursor.execute('DELETE FROM "Pairs" WHERE a = %s AND "B" = %s', (one, other))
        elif dice.random() < 0.3 and self.keys:
            cursor.execute('UPDATE "Pairs" SET a = a + 100 WHERE a = %s AND "B" = %s AND NOT EXISTS (SELECT 1 FROM "Pairs" p WHERE p.a = %s AND p."B" = %s)',
                           (one, other, one + 100, other))
        else:
            cursor.execute('INSERT INTO "Pairs" VALUES (%s, %s, %s) ON CONFLICT (a, "B") DO UPDATE SET n = excluded.n', (one, other, dice.randrange(1000)))

    def rows(self, table):
        self.relay.caught_up()
        columns = self.relay.run_sql(
            "SELECT a.attname, t.typname, a.atttypmod FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
            "WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped", (f'"{table}"',))
        shown = [f'"{name}"' if kind in NATIVE or modifier > 0 else f'"{name}"::text' for name, kind, modifier in columns]
        names = [name.lower() for name, _, _ in columns]
        return texts(dict(zip(names, row)) for row in self.relay.run_sql(f'SELECT {", ".join(shown)} FROM "{table}"'))


def main():
    stream, seed, keys = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "true"
    _, relay = relays.start(stream=stream, prepare=TABLES)
    relay.caught_up()
    work = Work(relay, seed, keys)
    for line in sys.stdin:
        request, answer = json.loads(line), None
        if "work" in request:
            for _ in range(request["work"]):
                work.transaction()
        if "sql" in request:
            relay.run_sql(request["sql"])
        if "rows" in request:
            answer = work.rows(request["rows"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
