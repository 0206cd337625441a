//! A real OpenSearch: what every index must do, windows delivered to it while it is down and comes back, and what the dashboard
//! in the repository asks of it.

// clippy.toml allows it in tests; their helpers are not recognised as such.
#![expect(clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use weir_delivery::Failure;
use weir_local::faults::{Fault, Proxy, Rule};
use weir_local::runtime::Answer;
use weir_search::{Identity, Login, Logins, Node, conformance};
use weir_tests::function::{ANALYTICS, DELIVERS};
use weir_tests::{Failed, Stack, aws, cli};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn endpoint() -> Result<String, Failed> {
    Ok(std::env::var("WEIR_SEARCH").map_err(|_| "WEIR_SEARCH is not set: run `make test`, or `python local/opensearch.py` and export WEIR_SEARCH=http://127.0.0.1:4570")?)
}

fn node() -> Result<Node, Failed> {
    Ok(Node::new(&endpoint()?, user("nobody", "asks")))
}

#[tokio::test]
async fn a_node_does_what_every_index_must() -> Result<(), Failed> {
    let stack = Stack::open("index").await?;
    let (node, name) = (node()?, format!("conformance-{}", stack.run));
    conformance::run(&node, &name, || node.documents(&name)).await?;
    Ok(())
}

fn user(name: &str, password: &str) -> Identity {
    Identity::User(Arc::new(Login { name: name.into(), password: password.into() }))
}

/// Answers one request by who asks; says who that is.
async fn answer(listener: &TcpListener, status: impl Fn(&str) -> &'static str) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept().await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let asks = head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nobody").to_owned();
    let body = "Content-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(format!("HTTP/1.1 {}\r\n{body}", status(&asks)).as_bytes()).await?;
    Ok(asks)
}

/// A secret whose password is changed by whoever reads it.
struct Rotated(AtomicUsize);

#[async_trait]
impl Logins for Rotated {
    async fn read(&self) -> Result<Login, Failure> {
        let reads = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(Login { name: "weir".into(), password: format!("password-{reads}") })
    }
}

#[tokio::test]
async fn a_password_that_is_no_longer_taken_is_read_anew() -> Result<(), Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let secret = Arc::new(Rotated(AtomicUsize::new(0)));
    let node = Node::new(&format!("http://{}", listener.local_addr()?), Identity::User(Arc::clone(&secret) as _));
    let second = format!("Basic {}", STANDARD.encode("weir:password-2"));
    let (searches, answers) =
        tokio::join!(async { [node.search("any", &json!({})).await, node.search("any", &json!({})).await] }, async {
            for _ in 0..3 {
                answer(&listener, |asks| if asks == second { "200 OK" } else { "401 Unauthorized" }).await?;
            }
            Ok::<_, std::io::Error>(())
        });
    answers?;
    assert!(searches.iter().all(Result::is_ok), "{searches:?}");
    assert_eq!(secret.0.load(Ordering::SeqCst), 2, "once, and once more; then the new one is kept");
    Ok(())
}

#[tokio::test]
async fn who_asks_is_signed_or_named() -> Result<(), Failed> {
    let stack = Stack::open("signed").await?;
    let provider = stack.aws.credentials_provider().ok_or("no credentials")?;
    for (identity, begin) in [
        (Identity::Role(provider, "us-east-1".into()), "AWS4-HMAC-SHA256 Credential=test/"),
        (user("weir", "secret"), "Basic d2VpcjpzZWNyZXQ="),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let node = Node::new(&format!("http://{}", listener.local_addr()?), identity);
        let heard = tokio::spawn(async move { answer(&listener, |_| "403 Forbidden").await });
        let refused = node.search("any", &json!({})).await.unwrap_err();
        assert!(refused.reason.contains("403"), "{refused:?}");
        let authorization = heard.await??;
        assert!(authorization.starts_with(begin), "{authorization}");
        if begin.starts_with("AWS4") {
            assert!(authorization.contains("/us-east-1/es/aws4_request"), "{authorization}");
        }
    }
    Ok(())
}

/// What Dashboards asks for a visualization: its aggregations, one inside the other, within its query.
fn asked(object: &Value) -> Result<Value, Failed> {
    let attributes = &object["attributes"];
    let state: Value = serde_json::from_str(attributes["visState"].as_str().ok_or("no visState")?)?;
    let source = attributes["kibanaSavedObjectMeta"]["searchSourceJSON"].as_str().ok_or("no source")?;
    let source: Value = serde_json::from_str(source)?;
    let query = source["query"]["query"].as_str().ok_or("no query")?;
    let terms = query.split(" and ").map(|term| {
        let (name, value) = term.split_once(": ").ok_or("a term has another form")?;
        Ok::<_, Failed>(json!({"term": {name: value.trim_matches('"')}}))
    });
    let filter = terms.collect::<Result<Vec<Value>, _>>()?;
    let all = state["aggs"].as_array().ok_or("no aggs")?;
    let is_metric = |agg: &&Value| agg["schema"] == "metric";
    let mut aggs = json!({});
    for metric in all.iter().filter(is_metric) {
        aggs[metric["id"].as_str().ok_or("no id")?] =
            json!({metric["type"].as_str().ok_or("no type")?: {"field": metric["params"]["field"]}});
    }
    for bucket in all.iter().filter(|agg| !is_metric(agg)).rev() {
        let params = &bucket["params"];
        let how = match bucket["type"].as_str() {
            Some("date_histogram") => json!({"field": params["field"], "fixed_interval": "5s", "min_doc_count": 1}),
            Some("terms") => {
                json!({"field": params["field"], "size": params["size"], "order": {params["orderBy"].as_str().ok_or("no order")?: "desc"}})
            }
            other => return Err(format!("an aggregation of another kind: {other:?}").into()),
        };
        aggs = json!({bucket["id"].as_str().ok_or("no id")?: {bucket["type"].as_str().ok_or("no type")?: how, "aggs": aggs}});
    }
    Ok(json!({"size": 0, "query": {"bool": {"filter": filter}}, "aggs": aggs}))
}

/// A window's events, from events/analytics, moved by so many windows.
fn window(n: u64) -> Result<Value, Failed> {
    let mut event: Value =
        serde_json::from_slice(&std::fs::read(Path::new(ROOT).join("events/analytics/window.json"))?)?;
    let moment = |seconds: u64| weir_live::instant(1_714_557_600_000 + (n * 5 + seconds) * 1000);
    event["window"] = json!({"start": moment(0), "end": moment(5)});
    event["isFinalInvokeForWindow"] = true.into();
    Ok(event)
}

#[tokio::test]
async fn what_the_dashboard_shows_is_what_windows_say() -> Result<(), Failed> {
    const WINDOWS: u64 = 10;
    let stack = Stack::open("dashboard").await?;
    let statistics = format!("s3://{}/live/tests/{}/", std::env::var("WEIR_TABLES_BUCKET")?, stack.run);
    let name = stack.run.to_lowercase();
    let own = [("STATISTICS", statistics.as_str()), ("DELIVERS", "true"), ("STACK", name.as_str())];
    let counts = stack.function_with(ANALYTICS, &own).await?;
    for n in 0..WINDOWS {
        let answer = counts.invoke(&window(n)?.to_string(), Duration::from_secs(60)).await?;
        assert!(matches!(answer, Answer::Response(_)), "{answer:?}");
    }
    // OpenSearch is down, then loses an answer, then is there.
    let proxy = Proxy::start(0, &endpoint()?).await?;
    let bulk = |fault, after, times| Rule { contains: vec!["/_bulk".to_owned()], fault, after, times: Some(times) };
    let rule = proxy.faults.add(bulk(Fault::Status(503), 0, 1));
    proxy.faults.add(bulk(Fault::LoseAnswer, 4, 1));
    let search = proxy.endpoint();
    let own = [own.as_slice(), &[("SEARCH_ENDPOINT", search.as_str())]].concat();
    let delivers = stack.function_with(DELIVERS, &own).await?;
    let (mut delivered, mut failed) = (0, 0);
    while delivered < WINDOWS {
        match delivers.invoke(r#"{"deliver":{}}"#, Duration::from_secs(60)).await? {
            Answer::Response(said) => {
                delivered += serde_json::from_str::<Value>(&said)?["windows"].as_u64().unwrap_or(0)
            }
            Answer::Error(_) => {
                failed += 1;
                assert!(failed < 5, "it fails again and again");
                // What was delivered before it failed is no longer marked.
                let marks = weir_command::Location::parse(&format!("{statistics}_outbox/"))?;
                delivered = WINDOWS - stack.objects(&marks).await?.len() as u64;
            }
            Answer::Nothing => return Err("it died".into()),
        }
    }
    assert!(failed > 0, "it fails while OpenSearch does");
    assert_eq!(proxy.faults.seen(rule), WINDOWS + 2, "it was down once, once did not answer, and both came again");
    let node = node()?;
    let index = format!("weir-live-{name}-trips-2024-05");
    let documents = node.documents(&index).await?;
    // All, two vendors, a cell and an hour of each window, once.
    assert_eq!(documents.len() as u64, WINDOWS * 5);
    let dashboard = std::fs::read_to_string(Path::new(ROOT).join("functions/analytics/opensearch/dashboard.ndjson"))?;
    let mut seen = 0;
    for line in dashboard.lines() {
        let object: Value = serde_json::from_str(line)?;
        if object["type"] != "visualization" {
            continue;
        }
        seen += 1;
        let found = node.search(&index, &asked(&object)?).await?;
        let buckets = found["aggregations"]["2"]["buckets"].as_array().ok_or_else(|| format!("{found}"))?;
        let values =
            |n: &str| buckets.iter().map(|bucket| bucket[n]["value"].as_f64().unwrap_or(f64::NAN)).collect::<Vec<_>>();
        let each = |value: f64| vec![value; usize::try_from(WINDOWS).unwrap()];
        match object["id"].as_str().ok_or("no id")? {
            "weir-live-trips-count" => assert_eq!(values("1"), each(4.0)),
            "weir-live-trips-vendors" => {
                for bucket in buckets {
                    let vendors = bucket["3"]["buckets"].as_array().ok_or("no vendors")?;
                    let trips: Vec<_> =
                        vendors.iter().map(|vendor| (vendor["key"].as_u64(), vendor["1"]["value"].as_f64())).collect();
                    // Trips 0, 2 and 20 are of vendor 1, trip 1 is of vendor 2.
                    assert_eq!(trips, [(Some(1), Some(3.0)), (Some(2), Some(1.0))]);
                }
            }
            "weir-live-trips-passengers" => assert_eq!(values("1"), each(7.0)),
            "weir-live-trips-duration" => {
                assert_eq!(values("1"), each((455.0 + 456.0 + 457.0 + 475.0) / 4.0));
                assert!(values("3").iter().all(|p95| (457.0..=475.0).contains(p95)), "{buckets:?}");
            }
            "weir-live-trips-cells" => {
                assert_eq!(buckets.len(), 1);
                assert_eq!((&buckets[0]["key"], values("1")), (&json!("40.77,-73.96"), vec![40.0]));
            }
            "weir-live-trips-hours" => assert_eq!((&buckets[0]["key"], values("1")), (&json!("9"), vec![40.0])),
            // Eight windows before it at least: the ninth and the tenth have scores, and nothing is unusual.
            "weir-live-trips-unusual" => {
                let scores: Vec<f64> = values("1").into_iter().filter(|score| score.is_finite()).collect();
                assert_eq!(scores, [0.0, 0.0]);
            }
            "weir-live-trips-late" => assert_eq!((values("1"), values("3")), (each(0.0), each(0.0))),
            other => return Err(format!("{other} is not looked at").into()),
        }
    }
    assert_eq!(seen, 8);
    Ok(())
}

/// `weir stats` shows the windows that are on S3.
async fn people_see_it() -> Result<(), Failed> {
    let asked = |arguments: &'static [&'static str]| async move {
        let said = cli()?.args(arguments).output().await?;
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        Ok::<_, Failed>(String::from_utf8_lossy(&said.stdout).into_owned())
    };
    let lines = asked(&["stats", "trips", "--json"]).await?;
    let lines = lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    assert!(lines.iter().any(|line| line["trips"].as_u64() > Some(0) && line["shards"].is_u64()), "{lines:?}");
    let page = asked(&["stats", "trips"]).await?;
    assert!(page.starts_with("trips from ") && page.contains("passengers") && page.contains("vendor_id 1"), "{page}");
    let unknown = cli()?.args(["stats", "orders"]).output().await?;
    assert_eq!(unknown.status.code(), Some(2));
    Ok(())
}

/// The template's function for it is there, and its bucket tells it of marks.
#[tokio::test]
async fn the_deployed_functions_deliver_by_themselves() -> Result<(), Failed> {
    let stack = Stack::open("delivers").await?;
    let trip = json!({"id": stack.run, "vendorId": 1, "pickupDate": weir_live::instant(weir_telemetry::now_ms()),
        "dropoffDate": weir_live::instant(weir_telemetry::now_ms()), "tripDuration": 5});
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), trip.to_string())?;
    let blob = format!("fileb://{}", file.path().display());
    aws(&["kinesis", "put-record", "--stream-name", "weir-telemetry", "--partition-key", "k", "--data", &blob]).await?;
    let node = node()?;
    let month = weir_live::instant(weir_telemetry::now_ms()).get(..7).unwrap_or_default().to_owned();
    for _ in 0..200 {
        if let Ok(found) = node.documents(&format!("weir-live-weir-trips-{month}")).await
            && found.values().any(|document| document["kind"] == "all" && document["trips"].as_u64() > Some(0))
        {
            return people_see_it().await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    Err("no window came to OpenSearch within a minute".into())
}
