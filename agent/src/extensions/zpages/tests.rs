//! The pages as a browser gets them.

use std::net::SocketAddr;
use std::time::SystemTime;

use super::*;
use crate::auth::Authenticators;
use crate::health::{Reloaded, Shown};
use crate::signal::Signal;
use crate::status::{Condition, Instance, Reporter, Statuses};
use crate::telemetry::names;
use crate::testing::{http_get, parse};

const HOSTILE: &str = "<img src=x onerror=\"alert('1')\">";

struct Bench {
    context: ExtensionContext,
    exporter: Reporter,
}

fn bench() -> Bench {
    let statuses = Statuses::default();
    let mut draft = statuses.draft();
    let instance = Instance::exporter("clickhouse", Signal::Traces);
    let exporter = draft.begin(instance.clone());
    draft.pipeline("traces/<b>", vec![instance]);
    statuses.adopt(draft);
    statuses.adopt_extensions(vec![("zpages".to_owned(), statuses.reporter())], |_| false);
    Bench {
        context: ExtensionContext {
            statuses,
            ..ExtensionContext::alone("zpages", Authenticators::default())
        },
        exporter,
    }
}

async fn serve(bench: &Bench, text: &str, check: impl AsyncFnOnce(SocketAddr)) {
    let text = format!("endpoint = \"127.0.0.1:0\"\n{text}");
    let settings = parse(&FACTORY, &text).unwrap();
    let extension = settings.build(bench.context.clone()).unwrap();
    let endpoint = listen::Endpoint::parse("tcp", "127.0.0.1:0").unwrap();
    let key = crate::net::sockets::Key::new(&endpoint, "extensions.zpages");
    let listener = bench.context.sockets.listen(&endpoint, &key).unwrap();
    let address = listener.address().parse().unwrap();
    let shutdown = Shutdown::default();
    let running = tokio::spawn(extension.run(shutdown.clone()));
    check(address).await;
    shutdown.trigger();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn pages_show_what_is_and_take_no_name_for_markup() {
    let bench = bench();
    bench.exporter.fails(Condition::Sending, HOSTILE);
    bench.context.health.show(Shown {
        toml: HOSTILE.to_owned(),
        json: String::new(),
    });
    bench.context.health.note_reload(Reloaded {
        at: SystemTime::now(),
        outcome: "refused",
        problems: vec![HOSTILE.to_owned()],
    });
    let labels = ["traces/<b>", "clickhouse", "traces"];
    let accepted = bench
        .context
        .telemetry
        .counter(&names::LEDGER_ACCEPTED, &labels);
    accepted.inc_by(4711);
    serve(&bench, "", async |address| {
        let escaped = "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;";
        for (path, shown) in [
            ("/", "RecoverableError"),
            ("/debug/servicez", "refused"),
            ("/debug/pipelinez", "4711"),
            ("/debug/pipelinez", "traces/&lt;b&gt;"),
            ("/debug/pipelinez", "RecoverableError"),
            ("/debug/configz", escaped),
            ("/debug/extensionz", "zpages"),
            ("/debug/featurez", "no feature gates"),
        ] {
            let (status, html) = http_get(address, path).await;
            assert_eq!(status, 200, "{path}");
            assert!(html.contains(shown), "{path}: {html}");
            assert!(
                !html.contains("<img") && !html.contains("<b>"),
                "{path}: {html}"
            );
        }
        assert_eq!(http_get(address, "/debug/expvarz").await.0, 404);
        assert_eq!(http_get(address, "/other").await.0, 404);
    })
    .await;
}

#[tokio::test]
async fn spans_are_kept_while_somebody_may_look() {
    let bench = bench();
    let spans = bench.context.telemetry.spans().clone();
    let work = spans.kind(HOSTILE);
    drop(work.start());
    serve(&bench, "", async |address| {
        // The extension has begun when it answers.
        let (_, html) = http_get(address, "/debug/tracez").await;
        assert!(
            html.contains("onerror=&quot;alert") && !html.contains("<img"),
            "{html}"
        );
        assert!(!html.contains("zspanname"), "{html}");
        let running = work.start();
        let mut failing = work.start();
        failing.carries(3, 30);
        failing.fails(|| HOSTILE.to_owned());
        drop(failing);
        let (_, html) = http_get(address, "/debug/tracez").await;
        let name = "%3Cimg+src%3Dx+onerror%3D%22alert%28%271%27%29%22%3E";
        for kind in ["ztype=0", "ztype=2"] {
            let link = format!("/debug/tracez?zspanname={name}&amp;{kind}");
            assert!(html.contains(&link), "{link}: {html}");
        }
        let page = |kind| format!("/debug/tracez?zspanname={name}&ztype={kind}");
        let (_, html) = http_get(address, &page(2)).await;
        assert!(
            html.contains("failed</h2>") && !html.contains("<img"),
            "{html}"
        );
        let (_, html) = http_get(address, &page(0)).await;
        assert!(html.contains("running</h2>"), "{html}");
        for query in [
            "?zspanname=x&ztype=1",
            "?ztype=1&zlatencybucket=99",
            "?zspanname=%FF&ztype=%00",
        ] {
            let (status, _) = http_get(address, &format!("/debug/tracez{query}")).await;
            assert_eq!(status, 200);
        }
        drop(running);
    })
    .await;
    let before: u64 = spans.summaries()[0]
        .buckets
        .iter()
        .map(|bucket| bucket.count)
        .sum();
    drop(work.start());
    let after: u64 = spans.summaries()[0]
        .buckets
        .iter()
        .map(|bucket| bucket.count)
        .sum();
    assert_eq!((before, after), (1, 1));
}

#[tokio::test]
async fn figures_are_there_if_asked_for() {
    let bench = bench();
    bench
        .context
        .telemetry
        .gauge(&names::HELD_BYTES, &[])
        .set(7);
    serve(&bench, "expvar.enabled = true", async |address| {
        let (status, body) = http_get(address, "/debug/expvarz").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 200);
        assert_eq!(body["metrics"]["tidegate_held_bytes{}"], 7.0);
        assert!(body["pid"].as_u64().is_some());
    })
    .await;
}

#[test]
fn settings_are_validated() {
    let found = parse(&FACTORY, "endpoint = \"localhost\"").unwrap_err();
    assert!(found.to_string().contains("host:port"), "{found}");
}
