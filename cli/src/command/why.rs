//! `testbed why`

use kvm_compose::{
    api::{ActionRequest, WhyAnswer, WhyRequest},
    error::{Code, Problem},
    names::GuestName,
    orchestrate::event::clean,
};

use super::{conclude, ended};
use crate::{
    action::{self, Watch},
    args::Why,
    client::Owner,
    exit::{Exit, Outcome},
    session::Session,
};

pub async fn run(session: &Session, args: Why) -> Outcome {
    let by = args
        .by
        .parse()
        .map_err(|message: String| Problem::new(Code::BadRequest, message).hint("write it as in `testbed why a b tcp:80`"))?;
    let request = ActionRequest::Why(WhyRequest { from: GuestName::new(&args.from)?, to: args.to, by });
    let (client, name) = (session.client()?, session.deployment()?);
    let watch = Watch { progress: session.progress_on_request(), limit: session.global.timeout, prints: false };
    let followed = action::run(session, &client, &Owner::Deployment(name.clone()), client.act(&name, &request), watch).await?;
    let Some(ended) = ended(followed)? else { return Ok(Exit::CANCELLED) };
    let Some(result) = &ended.record.entry.result else { return conclude(session, &ended) };
    let answer: WhyAnswer = serde_json::from_value(result.clone())
        .map_err(|error| Problem::internal("the server's answer is not what this command expects").cause(error))?;
    let verbose = session.global.verbose;
    session.out.result(&answer, |answer| text(answer, verbose));
    let outcome = ended.outcome()?;
    Ok(if answer.reachable { outcome } else { Exit::FAILED })
}

fn text(answer: &WhyAnswer, verbose: bool) -> String {
    let mut lines = vec![answer.sentence.clone()];
    lines.extend(answer.hint.as_ref().map(|hint| format!("hint: {hint}")));
    if verbose {
        lines.push(String::new());
        lines.extend(answer.evidence.iter().map(|line| format!("  {line}")));
    }
    lines.iter().map(|line| clean(line)).collect::<Vec<_>>().join("\n")
}
