//! A wire to the fake server that is cut, again and again, in the middle of what a websocket carries.

use std::path::{Path, PathBuf};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional},
    net::{UnixListener, UnixStream},
};

use super::Fake;

/// Starts the wire; each websocket through it is cut after so many bytes, the first after the first number, and so on. When
/// the numbers run out, nothing is cut any more.
pub fn cutting(fake: &Fake, budgets: Vec<u64>) -> PathBuf {
    let path = fake.socket().with_extension("wire");
    let _inside = fake.runtime.enter();
    let listener = UnixListener::bind(&path).expect("a socket");
    let upstream = fake.socket();
    fake.runtime.spawn(async move {
        let mut budgets = budgets.into_iter();
        while let Ok((client, _)) = listener.accept().await {
            serve(client, &upstream, &mut budgets).await;
        }
    });
    path
}

/// Starts a wire that dies in the middle of the first websocket it carries; its socket stays behind.
pub fn dying(fake: &Fake) -> PathBuf {
    let path = fake.socket().with_extension("dying");
    let _inside = fake.runtime.enter();
    let listener = UnixListener::bind(&path).expect("a socket");
    let upstream = fake.socket();
    let text: u64 = 140 + fake.world.script().text(true).len() as u64 / 2;
    fake.runtime.spawn(async move {
        let mut budgets = std::iter::once(text);
        while let Ok((client, _)) = listener.accept().await {
            serve(client, &upstream, &mut budgets).await;
            if budgets.len() == 0 {
                return;
            }
        }
    });
    path
}

/// One connection: the command makes them one after the other, but for those that REST keeps open.
async fn serve(mut client: UnixStream, upstream: &Path, budgets: &mut impl Iterator<Item = u64>) {
    let mut server = UnixStream::connect(upstream).await.expect("the fake server is there");
    let mut head = vec![0; 16 << 10];
    let length = client.read(&mut head).await.unwrap_or_default();
    head.truncate(length);
    server.write_all(&head).await.expect("the fake server reads");
    let websocket = String::from_utf8_lossy(&head).to_ascii_lowercase().contains("upgrade: websocket");
    match if websocket { budgets.next() } else { None } {
        Some(budget) => {
            let sent = copy(&mut server.take(budget), &mut client).await;
            assert!(sent.is_ok_and(|sent| sent == budget), "the log is longer than the budget");
        }
        None => {
            tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await });
        }
    }
}
