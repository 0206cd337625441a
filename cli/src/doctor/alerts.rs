//! Who hears of it when something fails: the subscribers of the topic that alarms and notices are published to.

use aws_sdk_sns::Client;

use super::finding::{Finding, Report};
use crate::stack::{Stack, failure};

pub(crate) async fn look(stack: &Stack, topic: Option<&str>, report: &mut Report) {
    let Some(topic) = topic else {
        let said = "the function realtime is not told where to publish (ALERT_TOPIC_ARN)";
        return report.add(Finding::problem("alerts", said).or("deploy the stack again"));
    };
    let what = format!("alerts by {}", topic.rsplit(':').next().unwrap_or(topic));
    let told = match Client::new(&stack.aws).get_topic_attributes().topic_arn(topic).send().await {
        Ok(told) => told.attributes.unwrap_or_default(),
        Err(error) if error.as_service_error().is_some_and(|error| error.is_not_found_exception()) => {
            let said = "there is no such topic: alarms and failures are told to no one";
            return report.add(Finding::problem(what, said).or("deploy the stack again"));
        }
        Err(error) => return report.add(Finding::failed(what, &failure(&error))),
    };
    let count = |of: &str| told.get(of).and_then(|many| many.parse().ok()).unwrap_or(0);
    report.add(heard(what, topic, count("SubscriptionsConfirmed"), count("SubscriptionsPending")));
}

fn heard(what: String, topic: &str, confirmed: u64, pending: u64) -> Finding {
    match (confirmed, pending) {
        (0, 0) => Finding::note(
            what,
            "nobody is subscribed: alarms and failures are told to no one",
            format!(
                "deploy with AlertEmail, or `aws sns subscribe --topic-arn {topic} --protocol email --notification-endpoint YOU`"
            ),
        ),
        (0, _) => Finding::note(
            what,
            "nobody has confirmed their subscription: alarms and failures are told to no one",
            "follow the link in the mail of SNS",
        ),
        (confirmed, _) => Finding::ok(what, format!("{confirmed} subscribed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Level;

    #[test]
    fn a_topic_that_nobody_hears_is_no_comfort() {
        let said = |confirmed, pending| {
            let Finding { level, way_out, .. } =
                heard("alerts by t".into(), "arn:aws:sns:eu-west-1:123456789012:t", confirmed, pending);
            (level, way_out.unwrap_or_default())
        };
        let (level, way_out) = said(0, 0);
        assert!(
            level == Level::Note && way_out.contains("--topic-arn arn:aws:sns:eu-west-1:123456789012:t "),
            "{way_out}"
        );
        let (level, way_out) = said(0, 1);
        assert!(level == Level::Note && way_out.contains("mail"), "{way_out}");
        assert_eq!(said(2, 1), (Level::Ok, String::new()));
    }
}
