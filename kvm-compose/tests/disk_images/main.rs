//! Disk images: downloads from a publisher that does its worst, uploads of strangers, one store.

mod lab;
mod publisher;
mod pulling;
mod taking_in;
