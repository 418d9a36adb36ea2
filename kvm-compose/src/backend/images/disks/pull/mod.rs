//! An image of the catalogue, from its publisher to a name in the store.
//!
//! ```text
//! sum (publisher's file) ─► there already? ─► part file ◄─ attempts, each going on where the last one ended
//!                                                │ its sum is the publisher's
//!                                                ▼
//!                                   header ─► qcow2 ─► content ─► name
//! ```

pub mod flights;
pub mod http;
pub mod meter;
pub mod part;
pub mod reach;
pub mod sums;

use std::time::Duration;

use reqwest::Url;
use sha2::{Digest as _, Sha256};

use super::{
    Disks,
    header::{Form, refused},
    import::{Whole, short},
    inspect,
    ova::hexadecimal,
    store::Description,
};
use crate::{
    api::{ImageSource, event::EventKind},
    catalogue::{Check, Image},
    error::{Code, Problem},
    names::printable,
    orchestrate::{Operation, host::Cancel},
};
use flights::Far;
use http::Fail;
use meter::Meter;
use part::{Origin, Part};
use reach::{Downgrade, mirrored, shown};
use sums::Sum;

/// So many attempts in a row may bring nothing.
const FRUITLESS: u32 = 3;
/// So many attempts there are in all.
const ATTEMPTS: u32 = 200;
/// The wait before another attempt, longer each time that brought nothing.
const PAUSE: Duration = Duration::from_millis(500);

impl Disks {
    /// Downloads an image of the catalogue, or finds that what is there is what the publisher has. Many may ask for the same
    /// at once: it comes once.
    pub fn pull(&self, name: &str, image: &Image, operation: &Operation<'_>) -> Result<Description, Problem> {
        let refused = |how: &str| Problem::new(Code::Unsupported, format!("the image `{name}` is {how}, not downloaded"));
        let (url, sum, user) = match image {
            Image::Published { url, sum, user } => (url, sum, user),
            Image::Built { .. } => return Err(refused("built on the server").hint(format!("make it with `testbed image build {name}`"))),
            Image::Imported => {
                return Err(refused("handed over").hint("hand a newer one over with `testbed image import FILE --name NAME`"));
            }
        };
        super::check_name(name)?;
        self.store.prepare()?;
        let meter = Meter::new(name, operation.sink);
        let key = format!("{name} {url} {sum:?}");
        let work = |tell: &dyn Fn(Far)| Pull { disks: self, name, url, user, operation, meter: &meter, tell }.run(sum);
        self.flights.join(&key, operation.cancel, &|far| meter.note(far), work)
    }
}

/// One download at work.
struct Pull<'a> {
    disks: &'a Disks,
    name: &'a str,
    url: &'a str,
    user: &'a str,
    operation: &'a Operation<'a>,
    meter: &'a Meter<'a>,
    tell: &'a dyn Fn(Far),
}

impl Pull<'_> {
    fn run(&self, check: &Check) -> Result<Description, Problem> {
        let Pull { disks, operation, .. } = self;
        let cancel = operation.cancel;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Problem::io("cannot start the runtime of a download", &error))?;
        let url = mirrored(self.url, &disks.settings)?;
        let wanted = runtime.block_on(stoppable(cancel, self.wanted(check, &url)))?;
        if let Some(found) = self.there(&wanted)? {
            return Ok(found);
        }
        let folder = disks.store.parts();
        let key = hexadecimal(&Sha256::digest(format!("{url} {wanted}")));
        let mut part = Part::open(&folder, key.get(..32).unwrap_or(&key), url.as_str(), cancel)?;
        // Another server may have had it.
        if let Some(found) = self.there(&wanted)? {
            part.remove()?;
            return Ok(found);
        }
        self.say(format!("downloading {}", shown(&url)))?;
        runtime.block_on(stoppable(cancel, self.download(&url, &mut part)))?;
        if part.sum(&wanted) != wanted && part.pieced {
            self.say("the pieces do not fit together; getting all of it again".to_string())?;
            part.restart(Origin { url: url.to_string(), validator: None })?;
            runtime.block_on(stoppable(cancel, self.download(&url, &mut part)))?;
        }
        let found = part.sum(&wanted);
        if found != wanted {
            part.remove()?;
            let hint = "the publisher may be replacing it just now: try again later; a mirror may be behind its publisher";
            return Err(Problem::new(Code::SumMismatch, format!("{} is not what its publisher's checksum says", shown(&url)))
                .cause(format!("its sum must be {wanted}"))
                .cause(format!("what came has {found}"))
                .hint(hint));
        }
        self.say(format!("its sum is the publisher's: {}", shortened(&wanted)))?;
        let taken = self.take_in(&part, &wanted);
        if taken.as_ref().is_err_and(|problem| problem.code == Code::ImageRefused) || taken.is_ok() {
            part.remove()?;
        }
        taken
    }

    fn take_in(&self, part: &Part, wanted: &Sum) -> Result<Description, Problem> {
        let form = inspect::form_of(part.path())?;
        if form == Form::Ova {
            return Err(refused("it is an archive").hint("download it yourself, and hand it over with `testbed image import FILE`"));
        }
        let url = Url::parse(self.url).map_or_else(|_| self.url.to_owned(), |url| shown(&url));
        let source = ImageSource::Published { url, sum: wanted.to_string() };
        let whole = Whole { path: part.path(), form, known: Some((part.sha256(), part.length())) };
        self.disks.take_in(&whole, (self.name, Some(self.user.to_owned()), source), self.operation)
    }

    /// The sum that the publisher promises.
    async fn wanted(&self, check: &Check, url: &Url) -> Result<Sum, Problem> {
        let file = match check {
            Check::Sha256(sum) => return Ok(Sum::Sha256(sum.clone())),
            Check::File(file) => mirrored(file, &self.disks.settings)?,
        };
        let client = http::client(&self.disks.settings, Downgrade::Refused)?;
        let mut fruitless = 0;
        let text = loop {
            match http::text(&client, &file).await {
                Ok(text) => break text,
                Err(Fail::Final(problem)) => return Err(problem),
                Err(Fail::Again(problem)) => self.pause(problem, &mut fruitless).await?,
            }
        };
        let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
        sums::find(&text, last).map_err(|problem| problem.cause(shown(&file)))
    }

    /// The image, when what the publisher has is there already.
    fn there(&self, wanted: &Sum) -> Result<Option<Description>, Problem> {
        let (store, sum) = (&self.disks.store, wanted.to_string());
        let is_it = |it: &Description| matches!(&it.source, ImageSource::Published { sum: had, .. } if *had == sum);
        if let Some(found) = store.find(self.name)?.filter(is_it) {
            self.say(format!("`{}` is up to date: {}", self.name, short(&found.digest)))?;
            return Ok(Some(found));
        }
        let Some(found) = store.with_sum(&sum)? else { return Ok(None) };
        let lock = store.lock(self.operation.cancel)?;
        store.name(&lock, self.name, &found.digest)?;
        self.say(format!("`{}` is there already, as `{}`", self.name, printable(&found.name)))?;
        Ok(Some(found))
    }

    async fn download(&self, url: &Url, part: &mut Part) -> Result<(), Problem> {
        let client = http::client(&self.disks.settings, Downgrade::Allowed)?;
        let watch = |far: Far| {
            (self.tell)(far);
            self.meter.note(far)
        };
        let mut fruitless = 0;
        for _ in 0..ATTEMPTS {
            let before = part.length();
            let largest = self.disks.settings.largest_bytes;
            match http::rest(&client, url, part, largest, &watch, &|text| self.say(text)).await {
                Ok(()) => return Ok(()),
                Err(Fail::Final(problem)) => return Err(problem),
                Err(Fail::Again(problem)) => {
                    if part.length() > before {
                        fruitless = 0;
                    }
                    self.pause(problem, &mut fruitless).await?;
                    part.pieced = part.length() > 0;
                }
            }
        }
        Err(http::failed(url, format_args!("the connection broke {ATTEMPTS} times")))
    }

    /// Waits before another attempt, or gives up.
    async fn pause(&self, problem: Problem, fruitless: &mut u32) -> Result<(), Problem> {
        *fruitless += 1;
        if *fruitless >= FRUITLESS {
            let hint = "what has come so far is kept: the same command goes on from there";
            return Err(if problem.hint.is_none() { problem.hint(hint) } else { problem });
        }
        let why = problem.causes.first().cloned().unwrap_or_else(|| problem.message.clone());
        self.operation.sink.emit(EventKind::Warning { text: format!("{why}; trying again") })?;
        tokio::time::sleep(PAUSE * *fruitless).await;
        Ok(())
    }

    fn say(&self, text: String) -> Result<(), Problem> {
        self.operation.sink.emit(EventKind::Line { guest: None, text })
    }
}

/// The work, or `cancelled` as soon as that is asked for.
async fn stoppable<T>(cancel: &Cancel, work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let stop = async {
        while !cancel.is_cancelled() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        result = work => result,
        () = stop => cancel.check().and_then(|()| Err(Problem::internal("a request to stop was taken back"))),
    }
}

/// A sum that is recognised, and leaves room on the line.
fn shortened(sum: &Sum) -> String {
    sum.to_string().chars().take(30).chain("…".chars()).collect()
}
