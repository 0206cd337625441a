"""The Firehose transformation of page logs in plain Python 3.11, as a team would write it: `transform.py SECONDS < event`.

The same checks and the same reshaping as datasets/page_logs.toml; nothing slowed down, nothing but the standard library.
"""

import base64
import json
import sys
import time
from datetime import datetime, timezone

LIMIT = 3_600_000


def whole(value):
    if isinstance(value, bool):
        raise ValueError("no number")
    number = int(value)
    if not 0 <= number <= LIMIT:
        raise ValueError("out of range")
    return number


def text(value):
    stripped = value.strip()
    if not stripped:
        raise ValueError("empty")
    return stripped


def clean(row, now):
    moment = datetime.fromisoformat(row["event_timestamp"])
    moment = moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)
    url = text(text(row["page_url"]).split("?", 1)[0].split("#", 1)[0])
    if any(c <= " " for c in url):
        raise ValueError("no URL")
    tti, ttar = whole(row["TTI"]), whole(row["TTAR"])
    out = {
        "event_timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "session_id": text(row["session_id"]),
        "page_url": url,
        "tti": tti,
        "ttar": ttar,
        "tti_seconds": tti / 1000,
        "ttar_seconds": ttar / 1000,
        "processing_timestamp": now,
        "event_date": moment.strftime("%Y-%m-%d"),
    }
    if row.get("user_id") is not None:
        out["user_id"] = str(row["user_id"]).strip()
    return out


def handler(event, _context=None):
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    records = []
    for record in event["records"]:
        try:
            row = clean(json.loads(base64.b64decode(record["data"])), now)
            data = base64.b64encode((json.dumps(row, separators=(",", ":")) + "\n").encode()).decode()
            records.append({"recordId": record["recordId"], "result": "Ok", "data": data})
        except (ValueError, KeyError, TypeError, AttributeError):
            records.append({"recordId": record["recordId"], "result": "ProcessingFailed"})
    return {"records": records}


if __name__ == "__main__":
    limit, event = float(sys.argv[1]), sys.stdin.read()
    begun, count, ok = time.perf_counter(), 0, 0
    while time.perf_counter() - begun < limit:
        # The runtime parses the event and writes the response.
        response = handler(json.loads(event))
        json.dumps(response)
        count += len(response["records"])
        ok += sum(record["result"] == "Ok" for record in response["records"])
    print(json.dumps({"records": count, "ok": ok, "seconds": time.perf_counter() - begun}))
