//! `testbed image`

use super::{conclude, ended, list};
use crate::{
    action::{self, Watch},
    args::{Format, Image},
    client::Owner,
    exit::{Exit, Outcome},
    output::table,
    session::Session,
};

pub async fn run(session: &Session, command: Image) -> Outcome {
    match command {
        Image::List => list_all(session).await,
        Image::Build { name } => build(session, &name).await,
    }
}

async fn list_all(session: &Session) -> Outcome {
    let images = session.client()?.images().await?;
    session.out.list(&images, |images| {
        if session.global.quiet {
            return images.iter().map(|image| format!("{}\n", image.name)).collect();
        }
        let rows = images.iter().map(|image| {
            let digest: String = image.digest.chars().take(12).collect();
            vec![image.name.clone(), digest, table::bytes(image.size_bytes), list::local(image.created)]
        });
        table::table(
            &["name", "digest", "size", "created"],
            rows.collect(),
            "no images; `testbed image build micro` makes the built-in one",
        )
    });
    Ok(Exit::SUCCESS)
}

async fn build(session: &Session, name: &str) -> Outcome {
    let client = session.client()?;
    let watch = Watch { progress: session.progress(), limit: session.global.timeout, prints: false };
    let followed = action::run(session, &client, &Owner::Images, client.build_image(name), watch).await?;
    let Some(ended) = ended(followed)? else { return Ok(Exit::CANCELLED) };
    let exit = conclude(session, &ended)?;
    if exit == Exit::SUCCESS && session.global.output == Format::Text && !session.global.quiet {
        session.out.line(&format!("the image `{name}` is ready"));
    }
    Ok(exit)
}
