"""Rows with their values as texts, so that every reader's can be compared. Hudi's own columns are left out, nulls too."""

import datetime
import decimal


def text(value):
    match value:
        case bool():
            return "true" if value else "false"
        case datetime.datetime():
            # Spark gives the time in its session's zone, which is UTC here, without saying so.
            aware = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
            return str((aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1))
        case decimal.Decimal():
            return format(value, "f")
        case float():
            return repr(value)
        case _:
            return str(value)


def texts(rows):
    found = [
        {name: text(value) for name, value in row.items() if value is not None and not name.startswith("_hoodie_")}
        for row in rows
    ]
    return sorted(found, key=lambda row: str(row.get("id")))
