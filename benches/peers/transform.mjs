// The same transformation as transform.py, as a Node.js Lambda handler: `node transform.mjs SECONDS < event`.
import { readFileSync } from "node:fs";

const LIMIT = 3_600_000;
const ISO = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d/;

const whole = (value) => {
  const number = typeof value === "string" ? Number(value.trim()) : value;
  if (typeof number !== "number" || !Number.isInteger(number) || number < 0 || number > LIMIT) throw new Error("no number in range");
  return number;
};
const text = (value) => {
  const stripped = value.trim();
  if (!stripped) throw new Error("empty");
  return stripped;
};

const clean = (row, now) => {
  if (!ISO.test(row.event_timestamp)) throw new Error("no moment");
  const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(row.event_timestamp);
  const moment = new Date(zoned ? row.event_timestamp : row.event_timestamp + "Z").toISOString();
  const url = text(text(row.page_url).split("?", 1)[0].split("#", 1)[0]);
  if (/[\x00-\x20]/.test(url)) throw new Error("no URL");
  const tti = whole(row.TTI), ttar = whole(row.TTAR);
  const out = {
    event_timestamp: moment, session_id: text(row.session_id), page_url: url, tti, ttar,
    tti_seconds: tti / 1000, ttar_seconds: ttar / 1000, processing_timestamp: now, event_date: moment.slice(0, 10),
  };
  if (row.user_id != null) out.user_id = String(row.user_id).trim();
  return out;
};

export const handler = async (event) => {
  const now = new Date().toISOString();
  return {
    records: event.records.map(({ recordId, data }) => {
      try {
        const row = clean(JSON.parse(Buffer.from(data, "base64").toString("utf8")), now);
        return { recordId, result: "Ok", data: Buffer.from(JSON.stringify(row) + "\n").toString("base64") };
      } catch {
        return { recordId, result: "ProcessingFailed" };
      }
    }),
  };
};

const limit = Number(process.argv[2]), event = readFileSync(0, "utf8");
const begun = performance.now();
let records = 0, ok = 0;
while (performance.now() - begun < limit * 1000) {
  const response = await handler(JSON.parse(event));
  JSON.stringify(response);
  records += response.records.length;
  ok += response.records.filter(({ result }) => result === "Ok").length;
}
console.log(JSON.stringify({ records, ok, seconds: (performance.now() - begun) / 1000 }));
