//! Who gets in, and what it costs the others when somebody guesses.

use futures::future::join_all;
use tokio::time::Instant;

use super::*;
use crate::secret::Secret;

/// `hunter2`, at the cost of 16 rounds.
const USERS: &str = "me:$2b$04$abcdefghijklmnopqrstuuV3duMsC0HpUex6N9qapiuOHHWkwRXVm\nyou:plain";

fn guard(way: Way) -> (Guard, Telemetry) {
    let (telemetry, authenticators) = (Telemetry::default(), Authenticators::default());
    let settings = AuthSettings {
        authenticator: "test".to_owned(),
    };
    let guard = authenticators.guard(Some(&settings));
    let authenticator = Authenticator::new("test", way, &telemetry);
    authenticators.slot("test").install(Arc::new(authenticator));
    (guard, telemetry)
}

fn tokens(scheme: &str, tokens: &[&str]) -> Way {
    let tokens: Vec<_> = tokens.iter().copied().map(Secret::new).collect();
    Way::Tokens(Tokens::new(header::AUTHORIZATION, scheme, &tokens).unwrap())
}

fn passwords(text: &str) -> Way {
    Way::Passwords(Passwords::new(Users::parse(text).unwrap()))
}

fn basic(name: &str, password: &str) -> String {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
    format!("Basic {encoded}")
}

fn headers(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, authorization.parse().unwrap())])
}

async fn ask(guard: &Guard, authorization: &str) -> Option<Reason> {
    let checked = guard.check(&headers(authorization)).await;
    checked.err().map(|denied| denied.reason)
}

#[tokio::test]
async fn tokens_are_compared_whole() {
    let (guard, telemetry) = guard(tokens("Bearer", &["one", "two"]));
    let check = async |authorization: &str, expected| {
        assert_eq!(
            ask(&guard, authorization).await,
            expected,
            "{authorization}"
        );
    };
    check("Bearer one", None).await;
    check("bearer two", None).await;
    check("Bearer three", Some(Reason::Wrong)).await;
    check("Bearer on", Some(Reason::Wrong)).await;
    check("Bearer one ", Some(Reason::Wrong)).await;
    check("Bearer ", Some(Reason::Wrong)).await;
    check("Bearerone", Some(Reason::Missing)).await;
    check("Basic one", Some(Reason::Missing)).await;
    check("one", Some(Reason::Missing)).await;
    let denied = guard.check(&HeaderMap::new()).await.unwrap_err();
    assert_eq!(denied.reason, Reason::Missing);
    assert_eq!(denied.challenge(), "Bearer realm=\"tidegate\"");
    let count = crate::testing::metric(
        &telemetry,
        "tidegate_auth_denied_requests{authenticator=\"test\",reason=\"wrong\"}",
    );
    assert_eq!(count, 4.0);
}

#[tokio::test]
async fn without_a_scheme_the_token_is_the_whole_header() {
    let (guard, _) = guard(tokens("", &["one"]));
    assert_eq!(ask(&guard, "one").await, None);
    assert_eq!(ask(&guard, "Bearer one").await, Some(Reason::Wrong));
}

#[tokio::test]
async fn users_come_in_with_their_own_passwords() {
    let (guard, _) = guard(passwords(USERS));
    let check = async |name, password, expected| {
        assert_eq!(
            ask(&guard, &basic(name, password)).await,
            expected,
            "{name}"
        );
    };
    check("me", "hunter2", None).await;
    check("me", "hunter2", None).await;
    check("you", "plain", None).await;
    check("you", "hunter2", Some(Reason::Wrong)).await;
    check("me", "plain", Some(Reason::Wrong)).await;
    check("nobody", "plain", Some(Reason::Wrong)).await;
    check("me", "", Some(Reason::Wrong)).await;
    let long = "x".repeat(1000);
    check("me", &long, Some(Reason::Missing)).await;
    assert_eq!(ask(&guard, "Basic !").await, Some(Reason::Missing));
    assert_eq!(ask(&guard, "Bearer x").await, Some(Reason::Missing));
}

/// The runtime of the test has one thread: a check on it would show.
#[tokio::test]
async fn who_guesses_waits_and_holds_up_nobody_who_is_known() {
    let slow = USERS.replace("$04$", "$12$");
    let (guard, _) = guard(passwords(&slow));
    let guesses = join_all((0..300).map(|number| {
        let guard = guard.clone();
        async move { ask(&guard, &basic("me", &format!("guess {number}"))).await }
    }));
    let mut guesses = std::pin::pin!(guesses);
    let known = async {
        // One is being checked by now, and the others wait or were sent away.
        tokio::task::yield_now().await;
        let started = Instant::now();
        for _ in 0..1000 {
            assert_eq!(ask(&guard, &basic("you", "plain")).await, None);
        }
        started.elapsed()
    };
    let (found, took) = tokio::join!(&mut guesses, known);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let busy = found.iter().filter(|found| **found == Some(Reason::Busy));
    assert!(busy.count() >= 300 - 256);
    assert!(found.iter().all(Option::is_some));
}

#[tokio::test]
async fn a_changed_secret_counts_from_the_next_request_on() {
    let (authenticators, telemetry) = (Authenticators::default(), Telemetry::default());
    let settings = AuthSettings {
        authenticator: "test".to_owned(),
    };
    let guard = authenticators.guard(Some(&settings));
    let pass = authenticators.pass(Some(&settings));
    assert_eq!(ask(&guard, "Bearer one").await, Some(Reason::Busy));
    for token in ["one", "two"] {
        let way = tokens("Bearer", &[token]);
        let authenticator = Authenticator::new("test", way, &telemetry);
        authenticators.slot("test").install(Arc::new(authenticator));
        let mut shown = headers("of the operator");
        pass.show(&mut shown);
        assert_eq!(shown[header::AUTHORIZATION], format!("Bearer {token}"));
        assert!(guard.check(&shown).await.is_ok());
    }
    assert_eq!(ask(&guard, "Bearer one").await, Some(Reason::Wrong));
    assert!(
        authenticators
            .guard(None)
            .check(&HeaderMap::new())
            .await
            .is_ok()
    );
}

#[test]
fn nothing_of_a_secret_is_shown() {
    let way = Tokens::new(header::AUTHORIZATION, "Bearer", &[Secret::new("hunter2")]).unwrap();
    let (_, value) = way.header();
    assert!(!format!("{way:?} {value:?}").contains("hunter2"));
    let broken = Tokens::new(header::AUTHORIZATION, "Bearer", &[Secret::new("hunter2\n")]);
    assert!(!broken.unwrap_err().contains("hunter2"));
}
